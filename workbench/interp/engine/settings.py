"""Settings of a sweep: site, direction, metric, replacement."""

from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.interp.engine.metrics import METRICS
from workbench.interp.engine.sites import OUTPUTS, REPLACEMENTS, SITES, WINDOWED
from workbench.subjects import Subject

DIRECTIONS = ("denoising", "noising")


@dataclass(frozen=True)
class Settings:
    """The settings of a sweep, without the prompts.

    - `site`, `direction`, `metric`, `replacement`: see `SITES`, `DIRECTIONS`, `METRICS`,
        `REPLACEMENTS`
    - `layer`: the one layer to sweep (needed for neurons); None for all
    - `window`: layers replaced at once (`attn_out` and `mlp_out` only)
    - `also`: the other of those two, replaced together with the site; "" for none
    - `noise`: its standard deviation, in standard deviations of the embedding
    - `memory_gb`: limit for the packed rows, in GiB
    - `seed`: for noise and resampling
    """

    site: str = "resid_pre"
    direction: str = "denoising"
    metric: str = "logit_difference"
    replacement: str = "other"
    layer: int | None = None
    window: int = 1
    also: str = ""
    noise: float = 3.0
    memory_gb: float = 1.0
    seed: int = 0

    def check(self, subject: Subject, n_layers: int | None = None) -> None:
        """Raise `WorkbenchError` for the first setting that does not fit the model or another.

        Args:
            subject: The model.
            n_layers: Layers of the part that is swept; None for those of the model.
        """
        for what, value, known in (
            ("site", self.site, SITES),
            ("direction", self.direction, DIRECTIONS),
            ("metric", self.metric, METRICS),
            ("replacement", self.replacement, REPLACEMENTS),
        ):
            if value not in known:
                raise WorkbenchError(f"The {what} is {value!r}; choose {either(list(known))}.")
        n_layers = subject.card.n_layers if n_layers is None else n_layers
        if self.layer is not None and not 0 <= self.layer < n_layers:
            raise WorkbenchError(
                f"There is no layer {self.layer}; {subject.name} has layers 0 to {n_layers - 1}."
            )
        if self.site == "neurons" and self.layer is None:
            raise WorkbenchError("A sweep over neurons needs a layer; name one, such as 0.")
        if self.window < 1 or (self.window > 1 and self.site not in WINDOWED):
            raise WorkbenchError(
                f"A window of {self.window} layers goes with {' and '.join(WINDOWED)} only."
            )
        if self.also and not {self.site, self.also} <= set(WINDOWED):
            raise WorkbenchError(
                f"Two sites at once are {' and '.join(WINDOWED)}, not {self.site} and {self.also}."
            )
        if self.ablates and self.site not in OUTPUTS:
            raise WorkbenchError(
                f"{self.site} has no {self.replacement} ablation; choose {either(list(OUTPUTS))}."
            )

    def layers(self, subject: Subject) -> list[int]:
        """The layers that are swept."""
        return list(range(subject.card.n_layers)) if self.layer is None else [self.layer]

    @property
    def several(self) -> bool:
        """Whether more than one activation is replaced at once."""
        return self.window > 1 or bool(self.also)

    @property
    def ablates(self) -> bool:
        """Whether clean activations are ablated, so that no second prompt is needed."""
        return self.replacement in ("zero", "mean", "resample")


def either(words: list[str]) -> str:
    """The words as a list in a sentence: a, b or c."""
    return f"{', '.join(words[:-1])} or {words[-1]}"
