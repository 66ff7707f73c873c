"""The tuned lens: an affine translator a layer, trained here and kept beside the Subject by the
hash of its weights.

Method: Belrose et al. 2023. Row i of a lens reads the stream before layer i as `norm(h + A_i h +
    b_i) W_U`; after the
last layer nothing is translated. Translators are trained on all rows at once to bring the reading
near the model's own prediction, in Kullback-Leibler divergence. Two savings make it a matter of
minutes on a processor: they begin at the least-squares translation of each stream into the last one
(Din et al. 2023), and the divergence is taken over frequent tokens and a random sample of the rest,
weighted by how many it stands for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench import paths
from workbench.doors import made_folder, reading, writing
from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.engine.reader import Reader
from workbench.interp.lenses.texts import Corpus, corpus_of
from workbench.jsonable import rebuild
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import cell_statistics
from workbench.subjects import Subject, SubjectOrName

STEPS, BATCH = 60, 2
"""Batches of `BATCH` rows of text that are trained on."""
LEAST_SQUARES = 24
"""Batches that the translators begin with."""
RATE = 1e-3
FREQUENT, SAMPLED = 1536, 512
"""Tokens over which the divergence is taken: the likeliest ones, and as many of the rest."""
KEEP_EVERY = 10


@dataclass(frozen=True)
class LensError:
    """Divergence of a lens from the model's own prediction on held-out text, in nats a token, by
    row.

    `logit` and `tuned` are `[row]`, `..._low` and `..._high` their 95 % bootstrap intervals over
    `n` texts; `gain` is logit less tuned, paired.
    """

    logit: list[float]
    logit_low: list[float]
    logit_high: list[float]
    tuned: list[float]
    tuned_low: list[float]
    tuned_high: list[float]
    gain: list[float]
    gain_low: list[float]
    gain_high: list[float]
    n: int
    tokens: int

    def to_frame(self) -> pd.DataFrame:
        """One row a row of the lens."""
        columns = {k: v for k, v in asdict(self).items() if isinstance(v, list)}
        return pd.DataFrame({"row": range(len(self.logit)), **columns})


@dataclass(frozen=True)
class TunedLens(Record):
    """The translators of a Subject, `weight` `[layer, d_model, d_model]` and `bias` `[layer,
    d_model]`.

    `steps` batches, `tokens` in all, of text from `source` trained it; `error` is measured on text
    held out.
    """

    subject: str
    sha256: str
    weight: Float[Tensor, "layer d_out d_in"]
    bias: Float[Tensor, "layer d_model"]
    steps: int
    tokens: int
    source: str
    error: LensError

    OMITTED = ("weight", "bias")
    UNREADABLE = "`tuned_lens` gives the one that is kept with the model"

    def headline(self) -> str:
        """What was found, in a few words."""
        tuned, logit = (sum(side) / len(side) for side in (self.error.tuned, self.error.logit))
        over = f"mean of {len(self.error.tuned)} rows, {self.error.n} texts"
        return f"{tuned:.3f} nats a token from the model, the logit lens {logit:.3f}; {over}"

    def translate(
        self, row: int, resid: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """The stream at a row, as the last layer's norm should read it; the last row is left as it
        is.
        """
        if row == len(self.weight):
            return resid
        weight, bias = (side[row].to(resid) for side in (self.weight, self.bias))
        return resid + resid @ weight.T + bias

    def to_frame(self) -> pd.DataFrame:
        """One row a row of the lens: the divergence of both lenses from the model, with intervals."""
        return self.error.to_frame()


def lens_file(sha256: str) -> Path:
    """Where the lens of the model with this hash lies."""
    folder = made_folder(paths.home() / "lenses")
    return folder / f"{sha256}.safetensors"


def stored_lens(subject: Subject) -> TunedLens | None:
    """The Subject's tuned lens, or None where none was trained. Raises `WorkbenchError` for a file
    that is broken.
    """
    path = lens_file(subject.hash)
    if not path.is_file():
        return None
    with reading(f"The tuned lens {path}", "delete it and train again"):
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["lens"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        hints = get_type_hints(TunedLens)
        facts = {
            name: rebuild(hints[name], said[name])
            for name in ("steps", "tokens", "source", "error")
        }
        found = TunedLens(subject.name, subject.hash, weight, bias, **facts)
        found.to_frame()
    card = subject.card
    if bias.shape != (card.n_layers, card.d_model) or weight.shape != (
        card.n_layers,
        card.d_model,
        card.d_model,
    ):
        raise WorkbenchError(
            f"The tuned lens {path} is of another model; delete it and train again."
        )
    return found


@public("subject")
@own_modes
def tuned_lens(
    subject: SubjectOrName,
    texts: str | Sequence[str] | None = None,
    *,
    steps: int = STEPS,
    again: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> TunedLens:
    """The Subject's tuned lens: the one that is kept, or one trained now and kept.

    Training that was cut short (by an exception out of `progress`, such as Ctrl-C) goes on where it
    was.

    Args:
        subject: The model.
        texts: A text file (.txt or .txt.gz), a list of texts, or None: the books below
            `WORKBENCH_DATA`, and without them what the model itself writes.
        steps: Batches to train on, after the least-squares beginning.
        again: Train although one is kept.
        seed: Of the text drawn and the tokens sampled.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` for a text file that cannot be read and texts that are too short.
    """
    if not again and (found := stored_lens(subject)) is not None:
        return found
    tell = progress or (lambda share, words: None)
    corpus = corpus_of(subject, texts, seed)
    packed = reader(subject)
    state = _State.begin(subject, corpus, steps, seed)
    try:
        state.train(packed, corpus, tell)
    finally:
        state.keep()
    weight, bias = state.weight.detach().cpu(), state.bias.detach().cpu()
    tell(0.9, "held-out text")
    error = _measure(packed, corpus, weight, bias, tell)
    tokens = (LEAST_SQUARES + steps) * BATCH * corpus.width
    found = TunedLens(subject.name, subject.hash, weight, bias, steps, tokens, corpus.source, error)
    said = {"steps": steps, "tokens": tokens, "source": corpus.source, "error": asdict(error)}
    path = lens_file(subject.hash)
    with writing(path) as part:
        save_file({"weight": weight.contiguous(), "bias": bias}, part, {"lens": json.dumps(said)})
    state.forget()
    return found


class _State:
    """Translators under training, with Adam's moments, kept in a file until they are done."""

    def __init__(
        self, path: Path, key: str, steps: int, seed: int, tensors: dict[str, Tensor], step: int
    ):
        self.path, self.key, self.steps, self.seed, self.step = path, key, steps, seed, step
        self.weight, self.bias = (
            tensors["weight"].requires_grad_(),
            tensors["bias"].requires_grad_(),
        )
        self.optimiser = torch.optim.Adam([self.weight, self.bias], RATE, betas=(0.9, 0.99))
        for name, parameter in (("weight", self.weight), ("bias", self.bias)):
            if f"{name}.exp_avg" in tensors:
                moments = {
                    moment: tensors[f"{name}.{moment}"] for moment in ("exp_avg", "exp_avg_sq")
                }
                self.optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}

    @classmethod
    def begin(cls, subject: Subject, corpus: Corpus, steps: int, seed: int) -> "_State":
        """What was kept of the same training, else zeros at step -1: least squares come first."""
        path = lens_file(subject.hash).with_suffix(".partial")
        key = json.dumps([corpus.source, corpus.width, steps, seed])
        card = subject.card
        zeros = {
            "weight": (card.n_layers, card.d_model, card.d_model),
            "bias": (card.n_layers, card.d_model),
        }
        tensors, step = (
            {name: torch.zeros(shape, device=subject.device) for name, shape in zeros.items()},
            -1,
        )
        if path.is_file():
            try:
                with safe_open(path, "pt") as file:
                    if file.metadata()["key"] == key:
                        tensors = {n: file.get_tensor(n).to(subject.device) for n in file.keys()}
                        step = int(file.metadata()["step"])
            except Exception:  # half a file is no file
                path.unlink(missing_ok=True)
        return cls(path, key, steps, seed, tensors, step)

    def keep(self) -> None:
        """Write everything that training goes on from."""
        if self.step < 0:
            return
        tensors = {"weight": self.weight.detach(), "bias": self.bias.detach()}
        for name, parameter in (("weight", self.weight), ("bias", self.bias)):
            for moment in ("exp_avg", "exp_avg_sq"):
                if parameter in self.optimiser.state:
                    tensors[f"{name}.{moment}"] = self.optimiser.state[parameter][moment]
        with writing(self.path) as part:
            cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(cpu, part, {"key": self.key, "step": str(self.step)})

    def forget(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def train(self, packed: Reader, corpus: Corpus, tell: Progress) -> None:
        """Least squares, then Adam, from where it is to the end."""
        if self.step < 0:
            with torch.no_grad():
                weight, bias = _least_squares(packed, corpus, tell)
                self.weight.copy_(weight)
                self.bias.copy_(bias)
            self.step = 0
        while self.step < self.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = RATE * (1 - self.step / self.steps)
            loss = _loss(
                packed,
                corpus.batch(LEAST_SQUARES + self.step, BATCH),
                self.weight,
                self.bias,
                self.step,
            )
            self.optimiser.zero_grad()
            loss.sum().backward()
            self.optimiser.step()
            self.step += 1
            if self.step % KEEP_EVERY == 0:
                self.keep()
            share = 0.2 + 0.7 * self.step / self.steps
            tell(
                share,
                f"step {self.step} of {self.steps}, {float(loss.detach().mean()):.3f} nats from the model",
            )


def _streams(packed: Reader, ids: Int[Tensor, "batch pos"]) -> tuple[Tensor, Tensor]:
    """Streams `[row, token, d_model]` and the model's logits `[token, vocab]`, each text's first
    token left out.
    """
    run = packed.record(ids)
    return torch.stack([x[:, 1:].flatten(0, 1) for x in run.resid]).float(), run.logits[
        :, 1:
    ].flatten(0, 1).float()


def _least_squares(packed: Reader, corpus: Corpus, tell: Progress) -> tuple[Tensor, Tensor]:
    """What must be added to each stream to come nearest to the last one, tokens weighted by its
    inverse scale.
    """
    gram = target = None
    for i in range(LEAST_SQUARES):
        streams, _ = _streams(packed, corpus.batch(i, BATCH))
        weight = streams[-1].pow(2).mean(-1, keepdim=True).rsqrt()
        x = torch.cat([streams[:-1], torch.ones_like(streams[:-1, :, :1])], -1) * weight
        y = (streams[-1] - streams[:-1]) * weight
        gram = x.mT @ x if gram is None else gram + x.mT @ x
        target = x.mT @ y if target is None else target + x.mT @ y
        tell(0.2 * (i + 1) / LEAST_SQUARES, f"least squares: batch {i + 1} of {LEAST_SQUARES}")
    assert gram is not None and target is not None
    ridge = (
        1e-2
        * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        * torch.eye(gram.shape[-1]).to(gram)
    )
    found = torch.linalg.solve((gram + ridge).double(), target.double()).float()
    return found[:, :-1].mT, found[:, -1]


def _loss(
    packed: Reader, ids: Int[Tensor, "batch pos"], weight: Tensor, bias: Tensor, seed: int
) -> Float[Tensor, " row"]:
    """Divergence of each row's reading from the model's prediction, over frequent and sampled
    tokens.
    """
    with torch.no_grad():
        streams, logits = _streams(packed, ids)
        tokens, stands_for = sampled_tokens(logits, seed)
        told = (logits[:, tokens] + stands_for).log_softmax(-1)
    x = streams[:-1]
    x = x + x @ weight.mT + bias[:, None]
    read = packed.readable(x.to(packed.unembed.weight.dtype), tokens).float()
    logs = (read + stands_for).log_softmax(-1)
    return (told.exp() * (told - logs)).sum(-1).mean(-1)


def sampled_tokens(
    logits: Float[Tensor, "token vocab"], seed: int
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Tokens that stand for the vocabulary, and the logarithm of how many each stands for."""
    d_vocab = logits.shape[1]
    order = logits.softmax(-1).mean(0).argsort(descending=True)
    if d_vocab <= FREQUENT + SAMPLED:
        return order, torch.zeros(d_vocab).to(logits)
    generator = torch.Generator().manual_seed(seed)
    rest = order[FREQUENT:][
        torch.randperm(d_vocab - FREQUENT, generator=generator)[:SAMPLED].to(order.device)
    ]
    stands_for = torch.zeros(FREQUENT + SAMPLED).to(logits)
    stands_for[FREQUENT:] = float(np.log((d_vocab - FREQUENT) / SAMPLED))
    return torch.cat([order[:FREQUENT], rest]), stands_for


@torch.no_grad()
def _measure(
    packed: Reader, corpus: Corpus, weight: Tensor, bias: Tensor, tell: Progress
) -> LensError:
    """Both lenses on the held-out texts, over the whole vocabulary."""
    samples = []
    for i, ids in enumerate(corpus.held_out):
        streams, final = _streams(packed, ids[None])
        told = final.log_softmax(-1)
        rows = []
        for row, x in enumerate(streams):
            moved = x if row == len(weight) else x + x @ weight[row].to(x).T + bias[row].to(x)
            logs = [
                packed.logits(side.to(packed.unembed.weight.dtype)).float().log_softmax(-1)
                for side in (x, moved)
            ]
            rows.append([float((told.exp() * (told - side)).sum(-1).mean()) for side in logs])
        samples.append(rows)
        tell(
            0.9 + 0.1 * (i + 1) / len(corpus.held_out),
            f"held-out text {i + 1} of {len(corpus.held_out)}",
        )
    kl = np.array(samples)
    found = [cell_statistics(side) for side in (kl[..., 0], kl[..., 1], kl[..., 0] - kl[..., 1])]
    maps = [side.tolist() for cell in found for side in (cell.mean, cell.low, cell.high)]
    return LensError(*maps, n=len(kl), tokens=sum(len(ids) - 1 for ids in corpus.held_out))
