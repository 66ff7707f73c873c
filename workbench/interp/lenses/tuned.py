"""The tuned lens: an affine translator per layer, trained here and stored by the model's hash.

Method: Belrose et al. 2023. Row i of a lens reads the stream before layer i as
`norm(h + A_i h + b_i) W_U`; after the last layer nothing is translated. Translators are trained on
all rows at once to bring the reading close to the model's own prediction, in Kullback-Leibler
divergence. Two savings make it a matter of minutes on a CPU: they start at the least-squares map of
each stream to the last one (Din et al. 2023), and the divergence is taken over frequent tokens and
a random sample of the rest, weighted by how many each stands for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_type_hints

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

STEPS = 60
"""Batches of the training with Adam."""
BATCH = 2
"""Rows of text of a batch."""
LEAST_SQUARES = 24
"""Batches of the least-squares start."""
RATE = 1e-3
"""Adam's learning rate at the start; it falls to 0."""
FREQUENT = 1536
"""The likeliest tokens, all of which the divergence is taken over."""
SAMPLED = 512
"""Tokens sampled from the rest."""
KEEP_EVERY = 10
"""Steps after which the training is stored."""


@dataclass(frozen=True)
class LensError:
    """Divergence of both lenses from the model on held-out text, in nats per token, by row.

    - `logit`, `tuned`: with 95 % bootstrap intervals (`_low`, `_high`) over `n` texts
    - `gain`: logit minus tuned, paired
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
        """One row per row of the lens."""
        columns = {k: v for k, v in asdict(self).items() if isinstance(v, list)}
        return pd.DataFrame({"row": range(len(self.logit)), **columns})


@dataclass(frozen=True)
class TunedLens(Record):
    """The translators of a Subject.

    - `weight`, `bias`: the affine map of each layer, added to the stream
    - `steps`, `tokens`, `source`: batches, tokens and text of the training
    - `error`: measured on held-out text
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
        """The result in a few words."""
        tuned = sum(self.error.tuned) / len(self.error.tuned)
        logit = sum(self.error.logit) / len(self.error.logit)
        over = f"mean of {len(self.error.tuned)} rows, {self.error.n} texts"
        return f"{tuned:.3f} nats a token from the model, the logit lens {logit:.3f}; {over}"

    def translate(
        self, row: int, resid: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """The stream of a row as the final norm should read it; the last row is unchanged."""
        if row == len(self.weight):
            return resid
        weight = self.weight[row].to(resid)
        bias = self.bias[row].to(resid)
        return resid + resid @ weight.T + bias

    def to_frame(self) -> pd.DataFrame:
        """One row per row of the lens: both lenses' divergence from the model, with intervals."""
        return self.error.to_frame()


def lens_file(sha256: str) -> Path:
    """The file of the tuned lens for the model with this hash."""
    folder = made_folder(paths.home() / "lenses")
    return folder / f"{sha256}.safetensors"


def stored_lens(subject: Subject) -> TunedLens | None:
    """The Subject's tuned lens; None if none was trained.

    Raises:
        WorkbenchError: The file is broken.
    """
    path = lens_file(subject.hash)
    if not path.is_file():
        return None
    with reading(f"The tuned lens {path}", "delete it and train again"):
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()["lens"])
            weight = file.get_tensor("weight")
            bias = file.get_tensor("bias")
        hints = get_type_hints(TunedLens)
        facts = {
            name: rebuild(hints[name], metadata[name])
            for name in ("steps", "tokens", "source", "error")
        }
        stored = TunedLens(subject.name, subject.hash, weight, bias, **facts)
        stored.to_frame()
    shape = (subject.card.n_layers, subject.card.d_model)
    if bias.shape != shape or weight.shape != (*shape, subject.card.d_model):
        raise WorkbenchError(
            f"The tuned lens {path} is of another model; delete it and train again."
        )
    return stored


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
    """The Subject's tuned lens: the stored one, or one that is trained now and stored.

    Interrupted training (by an exception from `progress`, such as Ctrl-C) resumes where it was.

    Args:
        subject: The model.
        texts: A text file (.txt or .txt.gz), a list of texts, or None: the books below
            `WORKBENCH_DATA`, and without them what the model itself writes.
        steps: Batches to train on, after the least-squares start.
        again: Train even if a lens is stored.
        seed: For the text drawn and the tokens sampled.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: A text file cannot be read, or the texts are too short.

    Reference:
        Belrose et al. 2023, arXiv:2303.08112.
    """
    subject = cast(Subject, subject)
    stored = None if again else stored_lens(subject)
    if stored is not None:
        return stored
    tell = progress or (lambda share, words: None)
    corpus = corpus_of(subject, texts, seed)
    packed = reader(subject)
    state = _State.begin(subject, corpus, steps, seed)
    try:
        state.train(packed, corpus, tell)
    finally:
        state.keep()
    weight = state.weight.detach().cpu()
    bias = state.bias.detach().cpu()
    tell(0.9, "held-out text")
    error = _measure(packed, corpus, weight, bias, tell)
    tokens = (LEAST_SQUARES + steps) * BATCH * corpus.width
    facts = {"steps": steps, "tokens": tokens, "source": corpus.source, "error": asdict(error)}
    with writing(lens_file(subject.hash)) as part:
        tensors = {"weight": weight.contiguous(), "bias": bias}
        save_file(tensors, part, {"lens": json.dumps(facts)})
    state.forget()
    return TunedLens(subject.name, subject.hash, weight, bias, steps, tokens, corpus.source, error)


class _State:
    """Translators in training, with Adam's moments, stored in a file until they are done."""

    def __init__(
        self, path: Path, key: str, steps: int, seed: int, tensors: dict[str, Tensor], step: int
    ):
        self.path = path
        self.key = key
        self.steps = steps
        self.seed = seed
        self.step = step
        self.weight = tensors["weight"].requires_grad_()
        self.bias = tensors["bias"].requires_grad_()
        self.optimiser = torch.optim.Adam([self.weight, self.bias], RATE, betas=(0.9, 0.99))
        for name, parameter in (("weight", self.weight), ("bias", self.bias)):
            if f"{name}.exp_avg" in tensors:
                moments = {
                    moment: tensors[f"{name}.{moment}"] for moment in ("exp_avg", "exp_avg_sq")
                }
                self.optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}

    @classmethod
    def begin(cls, subject: Subject, corpus: Corpus, steps: int, seed: int) -> "_State":
        """The stored state of the same training, else zeros at step -1 (least squares to come)."""
        path = lens_file(subject.hash).with_suffix(".partial")
        key = json.dumps([corpus.source, corpus.width, steps, seed])
        shape = (subject.card.n_layers, subject.card.d_model)
        tensors = {
            "weight": torch.zeros(*shape, subject.card.d_model, device=subject.device),
            "bias": torch.zeros(*shape, device=subject.device),
        }
        step = -1
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
        """Store everything that training resumes from."""
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
        """Delete the stored state."""
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
            ids = corpus.batch(LEAST_SQUARES + self.step, BATCH)
            loss = _loss(packed, ids, self.weight, self.bias, self.step)
            self.optimiser.zero_grad()
            loss.sum().backward()
            self.optimiser.step()
            self.step += 1
            if self.step % KEEP_EVERY == 0:
                self.keep()
            nats = f"{float(loss.detach().mean()):.3f} nats from the model"
            share = 0.2 + 0.7 * self.step / self.steps
            tell(share, f"step {self.step} of {self.steps}, {nats}")


def _streams(packed: Reader, ids: Int[Tensor, "batch pos"]) -> tuple[Tensor, Tensor]:
    """Streams `[row, token, d_model]` and logits `[token, vocab]`, first tokens left out."""
    run = packed.record(ids)
    streams = torch.stack([x[:, 1:].flatten(0, 1) for x in run.resid])
    return streams.float(), run.logits[:, 1:].flatten(0, 1).float()


def _least_squares(packed: Reader, corpus: Corpus, tell: Progress) -> tuple[Tensor, Tensor]:
    """The affine maps to add to each stream to come nearest to the last one, by least squares.

    Tokens are weighted by the inverse scale of the last stream, which the final norm divides by.
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
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    ridge = 1e-2 * size * torch.eye(gram.shape[-1]).to(gram)
    solution = torch.linalg.solve((gram + ridge).double(), target.double()).float()
    return solution[:, :-1].mT, solution[:, -1]


def _loss(
    packed: Reader, ids: Int[Tensor, "batch pos"], weight: Tensor, bias: Tensor, seed: int
) -> Float[Tensor, " row"]:
    """Divergence of each row's reading from the model, over frequent and sampled tokens."""
    with torch.no_grad():
        streams, logits = _streams(packed, ids)
        tokens, stands_for = sampled_tokens(logits, seed)
        model = (logits[:, tokens] + stands_for).log_softmax(-1)
    x = streams[:-1]
    x = x + x @ weight.mT + bias[:, None]
    read = packed.readable(x.to(packed.unembed.weight.dtype), tokens).float()
    logs = (read + stands_for).log_softmax(-1)
    return (model.exp() * (model - logs)).sum(-1).mean(-1)


def sampled_tokens(
    logits: Float[Tensor, "token vocab"], seed: int
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Tokens that stand for the vocabulary, and the logarithm of how many each stands for."""
    d_vocab = logits.shape[1]
    order = logits.softmax(-1).mean(0).argsort(descending=True)
    if d_vocab <= FREQUENT + SAMPLED:
        return order, torch.zeros(d_vocab).to(logits)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(d_vocab - FREQUENT, generator=generator)[:SAMPLED]
    rest = order[FREQUENT:][drawn.to(order.device)]
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
        model = final.log_softmax(-1)
        rows = []
        for row, x in enumerate(streams):
            moved = x if row == len(weight) else x + x @ weight[row].to(x).T + bias[row].to(x)
            logs = [
                packed.logits(side.to(packed.unembed.weight.dtype)).float().log_softmax(-1)
                for side in (x, moved)
            ]
            rows.append([float((model.exp() * (model - side)).sum(-1).mean()) for side in logs])
        samples.append(rows)
        n_held = len(corpus.held_out)
        tell(0.9 + 0.1 * (i + 1) / n_held, f"held-out text {i + 1} of {n_held}")
    kl = np.array(samples)  # [text, row, lens]
    logit = cell_statistics(kl[..., 0])
    tuned = cell_statistics(kl[..., 1])
    gain = cell_statistics(kl[..., 0] - kl[..., 1])
    return LensError(
        logit=logit.mean.tolist(),
        logit_low=logit.low.tolist(),
        logit_high=logit.high.tolist(),
        tuned=tuned.mean.tolist(),
        tuned_low=tuned.low.tolist(),
        tuned_high=tuned.high.tolist(),
        gain=gain.mean.tolist(),
        gain_low=gain.low.tolist(),
        gain_high=gain.high.tolist(),
        n=len(kl),
        tokens=sum(len(ids) - 1 for ids in corpus.held_out),
    )
