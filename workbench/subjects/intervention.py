"""Interventions: reproducible edits of a Subject, kept as JSON. An edited Subject is a Subject.

An edit works on every position alike, so it needs no knowledge of the prompt and the model can be
benchmarked, patched and talked to. Numbers that an edit needs (means, directions) are in it;
nothing is computed when it is applied. A transplant brings in parts of another model's weights; the
two models are named, and pinned by their hashes.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench import paths
from workbench.doors import made_folder, path_of, reading, writing
from workbench.errors import WorkbenchError
from workbench.jsonable import rebuild
from workbench.public import public
from workbench.records import Record
from workbench.subjects import identity
from workbench.subjects.bridge import own_clone, shared_clone
from workbench.subjects.parts import Parts, assemble
from workbench.subjects.stream import BlockParts, Writer, stream_of
from workbench.subjects.subject import Subject, SubjectOrName

SITES = {
    "z": "the outputs of heads, before they are projected into the stream",
    "post": "MLP neurons, after the nonlinearity",
    "attn_out": "what attention adds to the stream",
    "mlp_out": "what the MLP adds to the stream",
    "resid_post": "the stream after a layer",
}
ACTIONS = ("set", "add")
MOST_BYTES = 50_000_000
NAME = re.compile(r"[\w.+-]{1,80}")


@dataclass(frozen=True)
class Edit:
    """`site` of `layer` is set to `value`, or gets it added: of the heads or neurons `index` only,
    where given.

    `value` is a number, or a vector: `[d_model]` for the stream, `[d_head]` a head (or one for each
        head), one number a
    neuron.
    """

    layer: int
    site: str
    index: tuple[int, ...] = ()
    action: str = "set"
    value: Any = 0.0


@dataclass(frozen=True)
class Transplant:
    """Weights of a donor in the base's place: the `parts` named (see `subjects.parts`).

    `donor` is what `load` takes; `donor_sha256` and `base_sha256` say which models were meant.
    `alpha` is how far the parts move from the base's weights (0) to the donor's (1).
    """

    donor: str
    donor_sha256: str
    base_sha256: str
    parts: tuple[str, ...]
    alpha: float = 1.0


@dataclass(frozen=True)
class Intervention(Record):
    """A named list of edits, made for one base model: `base` is what `load` takes, `words` say what
    it does.

    A `transplant` comes before the edits.
    """

    name: str
    base: str
    edits: tuple[Edit, ...]
    words: str = ""
    transplant: Transplant | None = None

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of the models of a transplant, by their names; edits alone name no weights."""
        given = self.transplant
        return (
            {} if given is None else {self.base: given.base_sha256, given.donor: given.donor_sha256}
        )

    def headline(self) -> str:
        """What it does, in words."""
        return f"{self.name} of {self.base or 'no named base'}: {self.words or f'{len(self.edits)} edits'}"

    def to_frame(self) -> pd.DataFrame:
        """One row an edit, and one a part that is transplanted."""
        rows = [
            {
                "layer": e.layer,
                "site": e.site,
                "index": ", ".join(map(str, e.index)) or "all",
                "action": e.action,
            }
            for e in self.edits
        ]
        parts = self.transplant.parts if self.transplant else ()
        rows += [
            {"layer": None, "site": part, "index": "all", "action": "transplant"} for part in parts
        ]
        return pd.DataFrame(rows, columns=pd.Index(["layer", "site", "index", "action"]))

    def to_json(self, *, indent: int | None = 1) -> str:
        """The intervention as text, everything in it and nothing else: its hash says which edited
        model is meant.
        """
        said = asdict(self)
        if self.transplant is None:
            del said["transplant"]  # as it was written before there were transplants
        return json.dumps(said, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Intervention":
        """Read one. Raises `WorkbenchError` for anything that is not an intervention."""
        with reading(
            "This", "give the JSON that an intervention was saved as", "is not an intervention"
        ):
            said = json.loads(text)
            _check_words(said)
            hints = get_type_hints(cls)
            found = cls(**{word: rebuild(hints[word], value) for word, value in said.items()})
        found.check()
        return found

    def check(self) -> None:
        """Raise `WorkbenchError` for a name, site or action that is none."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise WorkbenchError(
                f"An intervention's name is letters, digits and . + - _; {self.name!r} is not."
            )
        for edit in self.edits:
            if edit.site not in SITES or edit.action not in ACTIONS:
                raise WorkbenchError(
                    f"An edit is {edit.action!r} at {edit.site!r}; it must be one of {', '.join(ACTIONS)} at one of "
                    f"{', '.join(SITES)}."
                )
            if not _is_finite(edit.value):
                raise WorkbenchError(
                    f"The edit at {edit.site} of layer {edit.layer} in {self.name} has a value that is no finite "
                    "number (NaN or infinity); all that follows would be NaN. Give finite numbers."
                )
        if (given := self.transplant) is not None and not (
            all(
                isinstance(word, str)
                for word in (given.donor, given.donor_sha256, given.base_sha256, *given.parts)
            )
            and isinstance(given.alpha, int | float)
            and math.isfinite(given.alpha)
        ):
            raise WorkbenchError(
                "A transplant names its donor, two hashes, its parts and a finite alpha."
            )

    def save(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep it in the home folder; gives the name under which `load` finds the edited Subject.

        Raises `WorkbenchError` where another one is kept under this name: what a name means never
        changes.
        """
        self.check()
        folder = made_folder(paths.home() / "interventions")
        kept = folder / f"{self.name}.json"
        if kept.is_file() and kept.read_text(encoding="utf-8") != self.to_json():
            raise WorkbenchError(
                f"Another intervention is kept as {self.name}; choose another name."
            )
        with writing(kept) as part:
            part.write_text(self.to_json(), encoding="utf-8")
        return f"edit:{self.name}"


def _check_words(said: dict[str, Any]) -> None:
    """Raise `ValueError` for a word that nothing of an intervention has; it would be left out in
    silence.
    """
    parts = [
        (Intervention, said),
        *((Edit, edit) for edit in said["edits"]),
        (Transplant, said.get("transplant") or {}),
    ]
    for kind, values in parts:
        if unknown := sorted(set(values) - {field.name for field in fields(kind)}):
            raise ValueError(f"it has words that none has: {', '.join(unknown)}")


def _is_finite(value: Any) -> bool:
    """Whether a number, or every number in nested lists, is finite."""
    try:
        return bool(torch.isfinite(torch.as_tensor(value, dtype=torch.float64)).all())
    except (TypeError, ValueError, RuntimeError):
        return False


def saved() -> list[Path]:
    """The files of the interventions that are kept."""
    return sorted((paths.home() / "interventions").glob("*.json"))


def read_intervention(name: str) -> Intervention:
    """A kept intervention, or one in a .json file. Raises `WorkbenchError` for none."""
    named = path_of(name, "kept intervention")
    path = (
        named
        if name.endswith(".json")
        else path_of(paths.home() / "interventions" / f"{named.name}.json")
    )
    if not path.is_file():
        kept = ", ".join(p.stem for p in saved()) or "none yet"
        raise WorkbenchError(f"There is no intervention {name!r}; kept are: {kept}.")
    if path.stat().st_size > MOST_BYTES:
        raise WorkbenchError(
            f"{path} is larger than {MOST_BYTES // 10**6} MB, which no intervention is."
        )
    with reading(path, "save the intervention again"):
        text = path.read_text(encoding="utf-8")
    return Intervention.from_json(text)


@public("subject", "donor")
def apply(
    subject: SubjectOrName, change: Intervention, donor: SubjectOrName | None = None
) -> Subject:
    """The edited Subject: the same weights, no memory but for what a transplant changes; `subject`
    stays as it is.

    Its hash is of the weights and the edits, its card names the parent. A transplant loads its
    donor unless it is given. Raises `WorkbenchError` for a layer, head, neuron or vector that the
    model does not have, for models that are not those the transplant was made from, and for a donor
    of another shape.
    """
    change.check()
    mapping: Any = subject.bridge.adapter.component_mapping
    model = (
        shared_clone(subject.model)
        if change.transplant is None
        else _grafted(subject, change.transplant, donor)
    )
    layers: Any = model.get_submodule(mapping["blocks"].name)
    stream = stream_of(subject.model, mapping) if change.edits else None
    if stream is not None and stream.unlike:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) cannot be edited: {stream.unlike}."
        )
    for edit in change.edits:
        if not 0 <= edit.layer < len(layers):
            raise WorkbenchError(
                f"{subject.name} has no layer {edit.layer}; it has layers 0 to {len(layers) - 1}."
            )
        assert stream is not None
        _hang(layers[edit.layer], stream.blocks[edit.layer], edit, subject)
    pin, weights = (
        hashlib.sha256((pinned + change.to_json()).encode()).hexdigest()
        for pinned in (subject.hash, subject.card.sha256)
    )
    name = f"{subject.name}+{change.name}"
    card = replace(
        subject.card,
        name=name,
        sha256=weights,
        identity=pin,
        parent=subject.name,
        notes=change.words,
        metrics={},
    )
    return Subject(name, model, subject.tokenizer, card)


def _grafted(subject: Subject, change: Transplant, donor: Subject | None) -> PreTrainedModel:
    """A model of its own with the donor's parts in it."""
    from workbench.subjects.load import load

    donor = donor or load(change.donor, device=subject.device)
    for found, meant, what in (
        (subject, change.base_sha256, "base"),
        (donor, change.donor_sha256, "donor"),
    ):
        if not identity.matches(found, meant):
            raise WorkbenchError(
                f"The transplant was made with another {what}: {found.name} has sha256 {found.hash[:12]}, it was "
                f"{meant[:12]}; bring the old weights back, or make the transplant again."
            )
    check_alike(subject, donor)
    parts, model = Parts(subject), own_clone(subject.model)
    slices = [piece for name in change.parts for piece in parts.slices(name)]
    weights = {name: p.detach() for name, p in donor.model.named_parameters()}
    own = dict(model.named_parameters())
    for name, tensor in assemble(
        slices, {n: p.detach() for n, p in own.items()}, weights, change.alpha
    ).items():
        own[name].data = tensor
    return model


def check_alike(base: Subject, donor: Subject) -> None:
    """Raise `WorkbenchError` unless weights of one model fit the other and nothing but weights sets
    them apart.

    One may have tokens that the other has not: the rows that both have fit.
    """
    shapes = [_shapes(s) for s in (base, donor)]
    if base.card.architecture != donor.card.architecture or shapes[0] != shapes[1]:
        raise WorkbenchError(
            f"{base.name} and {donor.name} differ in shape, so no weights of one fit the other; choose a model and "
            "its fine-tune."
        )
    for subject in (base, donor):
        if has_hooks(subject):
            raise WorkbenchError(
                f"{subject.name} is edited while it runs, not in its weights; transplants move weights only."
            )


def _shapes(subject: Subject) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter; without its rows for what has a row a token, which may have
    been added to.
    """
    ends = [subject.model.get_input_embeddings(), subject.model.get_output_embeddings()]
    of_tokens = {
        id(p) for module in ends if module is not None for p in module.parameters(recurse=False)
    }
    return {
        n: tuple(p.shape[1:]) if id(p) in of_tokens else tuple(p.shape)
        for n, p in subject.model.named_parameters()
    }


def has_hooks(subject: Subject) -> bool:
    """Whether edits hang on the model as hooks, which weights alone do not hold."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())


def _hang(layer: nn.Module, parts: BlockParts, edit: Edit, subject: Subject) -> None:
    """Put the edit on its module as a hook, which copies of the model take along."""
    if edit.site == "post" and parts.neurons is None:
        raise WorkbenchError(
            f"The MLP of layer {edit.layer} of {subject.name} is no single matrix of neurons; edit mlp_out instead."
        )
    outputs: Any = layer.get_submodule(parts.output)
    neurons: Any = None if parts.neurons is None else layer.get_submodule(parts.neurons)
    value = torch.tensor(edit.value, dtype=subject.model.dtype, device=subject.device)
    d_head = _width(outputs) // subject.card.n_heads
    n_index = {"z": subject.card.n_heads, "post": 0 if neurons is None else _width(neurons)}.get(
        edit.site, 0
    )
    for i in edit.index:
        if not 0 <= i < n_index:
            what = {"z": "head", "post": "neuron"}.get(edit.site)
            raise WorkbenchError(
                f"Layer {edit.layer} of {subject.name} has no {what} {i}; it has {n_index}."
                if what
                else f"{edit.site} has no parts to choose from; leave the index empty."
            )
    change = _Change(edit.site, edit.action, list(edit.index), value, d_head)
    shape = {"z": (d_head,), "post": (len(edit.index) or n_index,)}.get(
        edit.site, (subject.card.d_model,)
    )
    if value.ndim and (
        tuple(value.shape) != shape and (edit.site != "z" or value.shape[-1] != d_head)
    ):
        raise WorkbenchError(
            f"The value for {edit.site} of layer {edit.layer} has shape {list(value.shape)}; "
            f"it must be a number or {list(shape)}."
        )
    if edit.site in ("z", "post"):
        (outputs if edit.site == "z" else neurons).register_forward_pre_hook(change.before)
    elif edit.site == "resid_post":
        layer.register_forward_hook(change.after)
    else:
        writer = parts.attn if edit.site == "attn_out" else parts.mlp
        layer.get_submodule(writer.module).register_forward_hook(
            _Written(change, writer), with_kwargs=True
        )


def _width(module: Any) -> int:
    return getattr(module, "in_features", None) or module.weight.shape[0]


@dataclass
class _Change:
    """One edit at work."""

    site: str
    action: str
    index: list[int]
    value: Tensor
    d_head: int

    def __call__(self, x: Tensor) -> Tensor:
        x = x.clone()
        view = x.unflatten(-1, (-1, self.d_head)) if self.site == "z" else x
        if not self.index:
            view[...] = self.value if self.action == "set" else view + self.value
        elif self.site == "z":
            view[..., self.index, :] = (
                self.value if self.action == "set" else view[..., self.index, :] + self.value
            )
        else:
            view[..., self.index] = (
                self.value if self.action == "set" else view[..., self.index] + self.value
            )
        return view.flatten(-2) if self.site == "z" else view

    def before(self, _module: nn.Module, args: tuple) -> tuple:
        return (self(args[0]), *args[1:])

    def after(self, _module: nn.Module, _args: tuple, out: Any) -> Any:
        return (self(out[0]), *out[1:]) if isinstance(out, tuple) else self(out)


@dataclass
class _Written:
    """An edit of what a part writes into the stream, whatever norm or factor comes before."""

    change: _Change
    writer: Writer

    def __call__(self, _module: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        return self.writer.write(
            self.change(self.writer.read(args, kwargs, out)), args, kwargs, out
        )
