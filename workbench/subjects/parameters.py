"""Parameter counts by component: embedding, positions, attention, MLP, norms, unembedding."""

from typing import Any

from workbench.subjects import Subject


def parameter_counts(subject: Subject) -> dict[str, int]:
    """Number of parameters of each component; tied weights count once, as embedding.

    Components are identified by the names in TransformerLens's architecture adapter.

    Raises:
        WorkbenchError: TransformerLens does not know the architecture.
    """
    mapping: Any = subject.bridge.adapter.component_mapping
    block: Any = mapping["blocks"].submodules
    layers = rf"{mapping['blocks'].name}."
    outer = {"embed": "embedding", "pos_embed": "positions", "unembed": "unembedding"}
    prefixes = {f"{mapping[k].name}.": word for k, word in outer.items() if k in mapping}
    inner = {
        f"{block[k].name}.": word
        for k, word in (("attn", "attention"), ("mlp", "MLP"))
        if k in block
    }
    counts: dict[str, int] = dict.fromkeys(
        ("embedding", "positions", "attention", "MLP", "norms and other", "unembedding"), 0
    )
    for name, weights in subject.model.named_parameters():
        if name.startswith(layers):
            rest = name.removeprefix(layers).partition(".")[2]  # after the layer's number
            part = next(
                (word for prefix, word in inner.items() if rest.startswith(prefix)),
                "norms and other",
            )
        else:
            part = next(
                (word for prefix, word in prefixes.items() if name.startswith(prefix)),
                "norms and other",
            )
        counts[part] += weights.numel()
    return {part: n for part, n in counts.items() if n}
