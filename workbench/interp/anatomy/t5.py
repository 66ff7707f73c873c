"""One attention of a T5 by its formulas, beside a run with every module's inputs and outputs.

T5 (Raffel et al. 2020) norms before each part, does not divide its scores, and encodes order by a
bias on them that depends on the distance alone. The model's own tensors are read off the modules of
transformers.
"""

import math
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.interp.anatomy.steps import Step, as_array, deviation
from workbench.interp.block import Block, normed
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone


class Seen:
    """One run of both stacks, with the inputs (`taken`) and outputs (`given`) of every module."""

    def __init__(
        self, subject: Subject, source: Int[Tensor, "1 key"], target: Int[Tensor, "1 pos"]
    ):
        model: Any = shared_clone(subject.model)
        model.set_attn_implementation("eager")
        self.taken: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        for name, module in model.named_modules():
            module.register_forward_hook(self._keep(name), with_kwargs=True)
        self.logits: Float[Tensor, "pos d_vocab"] = model(
            input_ids=source, decoder_input_ids=target, use_cache=False
        ).logits[0]

    def _keep(self, name: str):
        def keep(module: Any, args: tuple, kwargs: dict, out: Any) -> None:
            self.taken[name] = args[0] if args else kwargs.get("hidden_states")
            self.given[name] = out

        return keep

    def out(self, name: str, index: int = 0) -> Tensor:
        """The output of a module (or one of several), without the batch axis."""
        output = self.given[name]
        return (output[index] if isinstance(output, tuple) else output)[0]


class SeqBlock(Block):
    """One attention of one layer as a `Block`, with the MLP except after decoder self-attention."""

    def __init__(self, subject: Subject, part: str, layer: int, seen: Seen):
        config: Any = subject.model.config
        self.subject = subject
        self.layer = layer
        self.seen = seen
        self.config = config
        self.side = "encoder" if part == "encoder" else "decoder"
        self.crosses = part == "cross"
        self.ends = part != "decoder"
        self.parallel = False
        self.n_heads = config.num_heads
        self.d_head = config.d_kv
        self.d_model = config.d_model
        stack = getattr(subject.model, self.side)
        self.module: Any = stack.block[layer]
        self.path = f"{self.side}.block.{layer}"
        self.at = f"{self.path}.layer.{int(self.crosses)}"
        self.within = f"{self.at}.{'EncDecAttention' if self.crosses else 'SelfAttention'}"
        self.attn = subject.model.get_submodule(self.within)
        self.mlp: Any = self.module.layer[-1].DenseReluDense
        self.first: Any = stack.block[0].layer[0].SelfAttention
        self.final_norm = stack.final_layer_norm
        self.x = seen.taken[self.at][0]
        self.n_pos = len(self.x)

    def part(self, name: str) -> Any:
        """The norms, by TransformerLens's names; None for what T5 does not have."""
        return {
            "ln1": self.module.layer[int(self.crosses)].layer_norm,
            "ln2": self.module.layer[-1].layer_norm,
        }.get(name)

    def model(self, hook: str) -> Tensor:
        """The model's own activation, by TransformerLens's name of the hook."""
        if hook in (f"attn.{p}.hook_out" for p in "qkv"):
            return self.seen.out(f"{self.within}.{hook[5]}").unflatten(
                -1, (self.n_heads, self.d_head)
            )
        if hook == "attn.o.hook_in":
            return self.seen.taken[f"{self.within}.o"][0]
        names = {
            "ln1.hook_out": f"{self.at}.layer_norm",
            "attn.hook_out": self.within,
            "mlp.hook_out": f"{self.path}.layer.{len(self.module.layer) - 1}.DenseReluDense",
            "hook_out": self.path,
        }
        if hook == "attn.hook_pattern":
            return self.seen.out(self.within, 2)
        return self.seen.out(names[hook])

    def weight(self, part: str) -> tuple[Tensor, Tensor | None]:
        """The weight of a projection, with a head axis first; T5 has no biases."""
        weight = getattr(self.attn, part).weight
        if part == "o":
            return weight.T.unflatten(0, (self.n_heads, self.d_head)), None
        return weight.T.unflatten(1, (self.n_heads, self.d_head)).transpose(0, 1), None

    @cached_property
    def sources(self) -> Float[Tensor, "key d_model"]:
        """What keys and values read: the encoder's output, or the stream that queries read."""
        if not self.crosses:
            return self.normed
        encoder: Any = self.subject.model.encoder
        last = self.seen.out(f"encoder.block.{len(encoder.block) - 1}")
        return normed(last, encoder.final_layer_norm)

    def _project(self, part: str) -> Float[Tensor, "pos head d_head"]:
        stream = self.normed if part == "q" else self.sources
        return torch.einsum("pm,hmd->phd", stream, self.weight(part)[0])

    @property
    def n_keys(self) -> int:
        """Positions that can be attended to."""
        return len(self.sources)

    @cached_property
    def bias(self) -> Float[Tensor, "head query key"] | None:
        """The position bias: one number per bucket and head, held in the first layer for all."""
        if self.crosses:
            return None
        buckets = distance_buckets(
            self.n_pos,
            both_ways=self.side == "encoder",
            n_buckets=self.config.relative_attention_num_buckets,
            furthest=self.config.relative_attention_max_distance,
        )
        weight = self.first.relative_attention_bias.weight
        return weight[buckets.to(self.x.device)].permute(2, 0, 1)

    @cached_property
    def scores(self) -> Float[Tensor, "head query key"]:
        """Scores before the mask."""
        scores = torch.einsum("qhd,khd->hqk", self.q, self.k)
        return scores if self.bias is None else scores + self.bias

    @property
    def score_formula(self) -> str:
        """T5's formula of the scores, in LaTeX."""
        return r"s_{ij} = q_i \cdot k_j" + ("" if self.crosses else r" + b_{j - i}")

    @property
    def score_words(self) -> str:
        """The formula of the scores in words."""
        words = "not divided by √d, since T5's weights start smaller"
        return words + (
            ". No position enters here" if self.crosses else ", plus the bias of their distance"
        )

    @property
    def model_scores(self) -> Tensor | None:
        """None: the modules of transformers do not show their scores; the softmax is compared."""
        return None

    @property
    def window(self) -> int | None:
        """None: T5 has no sliding window."""
        return None

    @cached_property
    def mask(self) -> Bool[Tensor, "query key"]:
        """The mask (True may be attended to): causal for decoder self-attention only."""
        everything = torch.ones(self.n_pos, self.n_keys, dtype=torch.bool, device=self.x.device)
        return everything if self.crosses or self.side == "encoder" else everything.tril()

    @property
    def off_middle(self) -> float | None:
        """Deviation of the stream after attention from the model's."""
        return deviation(self.middle, self.seen.out(self.at))

    @cached_property
    def mlp_out(self) -> Float[Tensor, "pos d_model"]:
        """What the MLP adds to the stream."""
        x = normed(self.middle, self.part("ln2"))
        mlp = self.mlp
        if hasattr(mlp, "wi_0"):
            return mlp.wo(mlp.act(mlp.wi_0(x)) * mlp.wi_1(x))
        return mlp.wo(mlp.act(mlp.wi(x)))

    @property
    def mlp_words(self) -> str:
        """The MLP in words."""
        gated = "gated with" if hasattr(self.mlp, "wi_0") else "through"
        return f"widened, {gated} {self.config.dense_act_fn}, and narrowed again"

    def bias_step(self, head: int) -> list[Step]:
        """The step of the position bias; none for cross-attention."""
        if self.bias is None:
            return []
        ways = "each way" if self.side == "encoder" else "back"
        words = (
            f"How much a head likes a distance: near ones {ways} have a number each, far ones "
            "share one by logarithm."
        )
        shape = f"{list(self.bias.shape)}; shown: head {head}"
        off = deviation(self.bias, self.seen.out(self.within, 1))
        return [
            Step(
                "Position bias",
                r"b_{j-i} = B[\mathrm{bucket}(j - i)]",
                words,
                shape,
                as_array(self.bias[head]),
                off,
                over_keys=True,
            )
        ]


def distance_buckets(
    n: int, *, both_ways: bool, n_buckets: int, furthest: int
) -> Int[Tensor, "query key"]:
    """T5's bucket of every distance.

    Of the buckets of a direction the first half holds one distance each; the others grow by a
    constant factor up to `furthest`, beyond which all share the last.

    Args:
        n: Positions.
        both_ways: Give later keys the second half of the buckets (encoder).
        n_buckets: Buckets in all.
        furthest: Distance from which all share a bucket.

    Reference:
        Raffel et al. 2020, arXiv:1910.10683, section 2.1.
    """
    position = torch.arange(n)
    back = position[:, None] - position
    start = torch.zeros_like(back)
    if both_ways:
        n_buckets //= 2
        start = n_buckets * (back < 0)
        back = back.abs()
    back = back.clamp_min(0)
    exact = n_buckets // 2
    growth = (back.float() / exact).log() / math.log(furthest / exact) * (n_buckets - exact)
    far = (exact + growth.clamp_min(0).long()).clamp_max(n_buckets - 1)
    return start + torch.where(back < exact, back, far)
