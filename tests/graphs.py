"""How many graphs torch.compile makes of a training step; run by `test_training_speed.py` in a
process of its own, as the checks of shapes that tests add would be compiled too.

    python tests/graphs.py

Prints a line of JSON for each model: its parts, graphs, breaks, and whether a call of attention had
a mask, and was told that it is causal.
"""

import json
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F

from workbench.subjects.gpt import WorkbenchGPTForCausalLM
from workbench.subjects.gpt_config import MLPS, NORMS, WorkbenchGPTConfig
from workbench.subjects.positions import ENCODINGS
from workbench.training.compiling import part_loss

SHAPE = {"d_vocab": 50, "n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16}
ROWS = torch.arange(32).view(2, 16)
PARTS: list[dict[str, Any]] = [
    *({"positions": encoding} for encoding in ENCODINGS),
    *(
        {"norm": norm, "mlp": mlp, "positions": "none"}
        for norm, mlp in product(NORMS[:2], MLPS[:5])
    ),
    {"qk_norm": True, "n_kv_heads": 1, "bias": True, "dropout": 0.1},
    {"tie_word_embeddings": False, "zero_init": True, "mlp": "none", "norm": "none"},
]


def model(**words: Any) -> Any:
    """A tiny model as `Stepper` prepares it."""
    made_of: Any = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**{**SHAPE, **words}))
    made_of.model.keep_rotations()
    return made_of.train()


def attention_calls(graphs: Any) -> list[tuple[bool, bool]]:
    """For each call of attention in the graphs: whether it has a mask, and is causal."""
    calls = []
    for graph in graphs:
        for node in graph.graph.nodes:
            if node.target is F.scaled_dot_product_attention:
                calls.append((node.kwargs.get("attn_mask") is not None, node.kwargs["is_causal"]))
    return calls


def main() -> None:
    """Print a line for each model."""
    for words in PARTS:
        torch._dynamo.reset()
        of = torch._dynamo.explain(part_loss)(model(**words), ROWS, ROWS)
        row = {"words": words, "graphs": of.graph_count, "breaks": of.graph_break_count}
        print(json.dumps({**row, "attention": attention_calls(of.graphs)}), flush=True)


if __name__ == "__main__":
    main()
