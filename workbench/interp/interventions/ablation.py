"""Ablations: interventions that set heads, neurons or layers to a fixed value."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.packed import reader
from workbench.interp.engine.sources import reference_ids
from workbench.modes import own_modes
from workbench.provenance import Provenance
from workbench.public import public
from workbench.records import stamp
from workbench.subjects import Subject, SubjectOrName, load
from workbench.subjects.intervention import Edit, Intervention

KINDS = {
    "zero": "set to 0",
    "mean": "set to its mean over reference texts",
    "resample": "set to what it is at one random token of the reference texts",
}
REFERENCE = 48
"""Tokens of each reference text that means are taken over."""


def parse_heads(text: str) -> list[tuple[int, int]]:
    """The heads in a text such as "L3H1, L5H0".

    Raises:
        WorkbenchError: The text holds anything else, or no head.
    """
    heads = []
    for word in text.replace(",", " ").split():
        layer, _, head = word.upper().removeprefix("L").partition("H")
        if not (layer.isdigit() and head.isdigit()):
            raise WorkbenchError(
                f"{word!r} is no head; write heads as L3H1, with commas between them."
            )
        heads.append((int(layer), int(head)))
    if not heads:
        raise WorkbenchError("No head was named; write heads as L3H1, with commas between them.")
    return sorted(set(heads))


@public("subject", loads=True)
@own_modes
def ablation(
    subject: SubjectOrName,
    heads: Sequence[tuple[int, int]] = (),
    *,
    neurons: dict[int, Sequence[int]] | None = None,
    layers: Sequence[int] = (),
    replacement: str = "mean",
    name: str = "",
    base: str = "",
    seed: int = 0,
) -> Intervention:
    """An intervention that ablates heads, neurons or whole layers.

    Means and resampled values are computed here, over paragraphs of public-domain books. An ablated
    layer adds nothing (`zero`) or a constant to the stream.

    Args:
        subject: The model.
        heads: (layer, head) of each head.
        neurons: Neurons by layer.
        layers: Whole layers.
        replacement: One of `KINDS`.
        name: Name of the intervention; "" for one made from its parts.
        base: What `load` takes for the model; "" for the model's own name.
        seed: Of the resampled token.

    Raises:
        WorkbenchError: There is no such replacement or part, or nothing to ablate.
    """
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    base = base or name_of(subject)
    subject = load(subject)
    card = subject.card
    for layer, head in heads:
        if layer >= card.n_layers or head >= card.n_heads:
            raise WorkbenchError(
                f"{subject.name} has no head L{layer}H{head}; it has {card.n_layers} layers of "
                f"{card.n_heads} heads."
            )
    for layer in neurons or {}:
        reader(subject).need_neurons(layer)
    value = replacements(subject, replacement, seed)
    edits = [Edit(layer, "z", (head,), "set", value("z", layer, head)) for layer, head in heads]
    for layer, which in (neurons or {}).items():
        edits.append(Edit(layer, "post", tuple(which), "set", value("post", layer, list(which))))
    for layer in layers:
        edits += [
            Edit(layer, site, (), "set", value(site, layer, slice(None)))
            for site in ("attn_out", "mlp_out")
        ]
    if not edits:
        raise WorkbenchError("Nothing was named to take out; give heads, neurons or layers.")
    parts = [f"L{i}H{j}" for i, j in heads] + [f"layer {i}" for i in layers]
    parts += [f"{len(which)} neurons of layer {i}" for i, which in (neurons or {}).items()]
    words = f"{', '.join(parts)} {KINDS[replacement]}"
    name = name or f"{replacement}-{'-'.join(parts)[:60]}".replace(" ", "")
    return made_for(subject, Intervention(name, base, tuple(edits), words))


def name_of(source: SubjectOrName) -> str:
    """What `load` takes to load the model again, as far as a loaded one knows."""
    return source.name if isinstance(source, Subject) else str(source)


def made_for(subject: Subject, change: Intervention) -> Intervention:
    """The intervention, with the hash of the model whose activations went into it."""
    stamp(change, Provenance("", models={subject.name: subject.hash}))
    return change


def replacements(subject: Subject, kind: str, seed: int) -> Callable[[str, int, Any], Any]:
    """A function (site, layer, index) -> the value of an ablated part.

    Args:
        subject: The model.
        kind: One of `KINDS`.
        seed: Of the resampled token.
    """
    if kind == "zero":
        return lambda site, layer, index: 0.0
    if not reader(subject).blocks:  # it raises where the parts are not known
        raise WorkbenchError(f"{subject.name} has no layers to take anything out of.")
    run = reference_run(subject)
    generator = torch.Generator().manual_seed(seed)
    n_text, n_pos = run.resid[0].shape[:2]
    text = int(torch.randint(0, n_text, (1,), generator=generator))
    pos = int(torch.randint(1, n_pos, (1,), generator=generator))

    def value(site: str, layer: int, index: Any) -> Any:
        activation: Tensor = getattr(run, site)[layer]  # [text, pos, ...]
        one = activation[:, 1:].mean((0, 1)) if kind == "mean" else activation[text, pos]
        return one[index].tolist()

    return value


def reference_run(subject: Subject) -> Recording:
    """A recording of the reference texts; means leave out their first token, unlike all others."""
    return reader(subject).record(reference_ids(subject, min(REFERENCE, subject.n_ctx)))
