"""One decoder block computed by its formulas, from its weights and the stream that enters it.

Covers what the supported families do differently: LayerNorm or RMSNorm, grouped-query heads,
QK-norm, rotary turns (of all or some dimensions), ALiBi, sliding windows, soft caps, norms after
attention and MLP, parallel blocks, gated MLPs.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from workbench.errors import WorkbenchError
from workbench.interp.norms import norm_of
from workbench.interp.position.encoding import alibi_slopes, layer_wavelengths
from workbench.interp.turns import by_pair, turn_halves, turn_neighbours
from workbench.interp.weights import centres
from workbench.subjects import Subject
from workbench.subjects import positions as encoding


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """LayerNorm, RMSNorm or no norm at all, by its formula."""
    epsilon = float(getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0.0)
    form = norm_of(norm, x.shape[-1], x)
    x = x - x.mean(-1, keepdim=True) if form.centres else x
    if not form.scales:
        return x * form.gain + form.offset
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * form.gain + form.offset


class Block:
    """The tensors of one block for one prompt, without a batch axis, each computed when first used.

    - `crosses`: keys and values come from another text
    - `ends`: the block's MLP follows this attention
    - `needs`: the parts that the block must have, by TransformerLens's names
    """

    crosses = False
    ends = True
    needs: tuple[str, ...] = ("ln1", "attn", "ln2", "mlp")

    def __init__(self, subject: Subject, layer: int, cache: Any, n_pos: int):
        mapping: Any = subject.bridge.adapter.component_mapping
        self.subject = subject
        self.layer = layer
        self.cache = cache
        self.n_pos = n_pos
        self.names: Any = mapping["blocks"].submodules
        layers: Any = subject.model.get_submodule(mapping["blocks"].name)
        self.module: Any = layers[layer]
        missing = [part for part in self.needs if part not in self.names]
        if missing:
            raise WorkbenchError(
                f"{subject.card.architecture} ({subject.name}) has blocks without "
                f"{', '.join(missing)}; the anatomy page knows blocks of norm, attention, norm and "
                "MLP."
            )
        self.final_norm = subject.model.get_submodule(mapping["ln_final"].name)
        self.config: Any = subject.model.config.get_text_config()
        card = subject.card
        self.n_heads = card.n_heads
        self.d_head = card.d_head
        self.d_model = card.d_model
        self.attn = self.part("attn")
        self.mlp = self.part("mlp")
        self.x: Tensor = cache[f"blocks.{layer}.hook_in"][0]
        self.parallel = bool(getattr(self.config, "use_parallel_residual", False))

    def part(self, name: str) -> Any:
        """The model's own module, by TransformerLens's name; None if there is none."""
        return self.module.get_submodule(self.names[name].name) if name in self.names else None

    def model(self, hook: str) -> Tensor:
        """The model's own activation at a hook of this block."""
        return self.cache[f"blocks.{self.layer}.{hook}"][0]

    @property
    def n_keys(self) -> int:
        """Positions that can be attended to."""
        return self.n_pos

    @cached_property
    def normed(self) -> Float[Tensor, "pos d_model"]:
        """The stream as the heads read it."""
        return normed(self.x, self.part("ln1"))

    @property
    def norm_formula(self) -> str:
        """The formula of the norm before attention, in LaTeX."""
        if isinstance(self.part("ln1"), nn.Identity):
            return r"\mathrm{norm}(x) = x"
        if centres(self.part("ln1"), self.d_model):
            share = r"\frac{x - \bar{x}}{\sqrt{\mathrm{var}(x) + \epsilon}}"
            return rf"\mathrm{{norm}}(x) = {share}\, \gamma + \beta"
        return r"\mathrm{norm}(x) = \frac{x}{\sqrt{\overline{x^2} + \epsilon}}\, \gamma"

    def weight(self, part: str) -> tuple[Tensor, Tensor | None]:
        """The weight and bias (or None) of a projection (q, k, v or o), with a head axis first."""
        bridge = self.subject.bridge
        try:
            bias = getattr(bridge, f"b_{part.upper()}")[self.layer]
        except AttributeError:  # TransformerLens says so where a checkpoint has none
            bias = None
        return getattr(bridge, f"W_{part.upper()}")[self.layer], bias

    def has_bias(self, part: str) -> bool:
        """Whether a projection has a bias."""
        return self.weight(part)[1] is not None

    def _project(self, part: str) -> Float[Tensor, "pos head d_head"]:
        weight, bias = self.weight(part)
        out = torch.einsum("pm,hmd->phd", self.normed, weight)
        return out if bias is None else out + bias

    @cached_property
    def q(self) -> Float[Tensor, "pos head d_head"]:
        """Queries."""
        return self._project("q")

    @cached_property
    def k(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys, before any turn."""
        return self._project("k")

    @cached_property
    def v(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values."""
        return self._project("v")

    @property
    def groups(self) -> int:
        """Query heads that share a key and value head."""
        return self.n_heads // self.k.shape[1]

    def source(self, part: str, head: int) -> int:
        """Which of a projection's heads a query head uses."""
        return head if part == "q" else head // self.groups

    @cached_property
    def sized(self) -> dict[str, Tensor] | None:
        """Queries and keys after QK-norm; None if the model has none."""
        q_norm = getattr(self.attn, "q_norm", None)
        k_norm = getattr(self.attn, "k_norm", None)
        if q_norm is None or k_norm is None:
            return None
        return {"q": normed(self.q, q_norm), "k": normed(self.k, k_norm)}

    def unturned(self, part: str) -> Float[Tensor, "pos head d_head"]:
        """Queries or keys before any rotary turn."""
        return getattr(self, part) if self.sized is None else self.sized[part]

    @cached_property
    def turned(self) -> dict[str, Tensor] | None:
        """Queries and keys after their rotary turn; None if the model has none.

        Which dimensions turn together is found by trying which pairing gives the model's scores.
        """
        if self.subject.card.positions != "rotary":
            return None
        cos, sin = self._turns()
        ways = [
            {part: way(self.unturned(part), cos, sin) for part in "qk"}
            for way in (turn_halves, turn_neighbours)
        ]
        hook = f"blocks.{self.layer}.attn.hook_attn_scores"
        if hook not in self.cache:
            return ways[0]
        model_scores = self.cache[hook][0]

        def off(ready: dict[str, Tensor]) -> float:
            return (self._scores(ready) - model_scores)[:, self.mask].abs().max().item()

        return min(ways, key=off)

    def _turns(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine `[pos, 1, pair]`: our own GPT's, or the model's for this layer."""
        base = getattr(self.config, "rotary_base", None)
        if base is not None:
            position = torch.arange(self.n_pos, device=self.x.device)
            both = encoding.rotary_cos_sin(position, self.d_head, base)
        else:
            both = self._model_s_turns()
        cos, sin = (by_pair(x.to(self.x)).unsqueeze(1) for x in both)
        return cos, sin

    def _model_s_turns(self) -> tuple[Tensor, Tensor]:
        """The model's cosine and sine of every turning dimension, or those of its wavelengths."""
        cos = f"blocks.{self.layer}.attn.hook_cos"
        sin = f"blocks.{self.layer}.attn.hook_sin"
        if cos in self.cache and sin in self.cache:
            return self.cache[cos][0], self.cache[sin][0]
        turn = torch.from_numpy(layer_wavelengths(self.subject, self.layer)).double()
        angle = 2 * torch.pi * torch.arange(self.n_pos)[:, None] / turn
        both = torch.cat([angle, angle], -1)
        return both.cos(), both.sin()

    def changes(self, head: int) -> Iterator[tuple[str, str, str, str, Tensor, int, float | None]]:
        """The changes of queries and keys before they meet, such as QK-norm and rotary turns.

        Each is (name, what, formula, words, values, head, deviation).
        """
        names = {"q": "Query", "k": "Key"}
        if self.sized is not None:
            words = "Brought to unit size a head at a time (QK-norm), which keeps scores in bounds."
            for part, values in self.sized.items():
                formula = rf"{part} \leftarrow \mathrm{{RMSNorm}}({part})"
                yield names[part], "normed", formula, words, values, self.source(part, head), None
        if self.turned is not None:
            words = (
                "Each pair of dimensions turns by an angle that grows with the position; lengths "
                "stay."
            )
            for part, values in self.turned.items():
                hook = f"blocks.{self.layer}.attn.hook_rot_{part}"
                off = None
                if hook in self.cache:
                    model = self.cache[hook][0]
                    off = float((values - model).abs().max() / model.abs().max().clamp_min(1.0))
                formula = rf"{part}_t \leftarrow R_{{\theta t}}\, {part}_t"
                yield names[part], "turned", formula, words, values, self.source(part, head), off

    @cached_property
    def scores(self) -> Float[Tensor, "head query key"]:
        """Scores before the mask."""
        return self._scores(self.turned or self.sized or {"q": self.q, "k": self.k})

    def _scores(self, ready: dict[str, Tensor]) -> Float[Tensor, "head query key"]:
        """Scores of queries and keys after all their changes."""
        keys = ready["k"].repeat_interleave(self.groups, 1)
        scores = torch.einsum("qhd,khd->hqk", ready["q"], keys) * self.scaling
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if self.subject.card.positions == "alibi":
            slopes = torch.from_numpy(alibi_slopes(self.subject)).to(scores)
            position = torch.arange(self.n_pos, device=scores.device)
            scores = scores - slopes[:, None, None] * (position[:, None] - position).clamp(min=0)
        return scores

    @property
    def scaling(self) -> float:
        """The factor of the scores: 1 / sqrt(d_head) unless the model has its own."""
        return float(getattr(self.attn, "scaling", None) or self.d_head**-0.5)

    @property
    def softcap(self) -> float | None:
        """Gemma 2's bound on scores."""
        return getattr(self.attn, "attn_logit_softcapping", None)

    @property
    def score_formula(self) -> str:
        """The formula of the scores, with this model's additions, in LaTeX."""
        formula = r"s_{ij} = q_i \cdot k_j / \sqrt{d_{\mathrm{head}}}"
        if self.softcap:
            formula += rf",\quad s \leftarrow {self.softcap:g} \tanh(s / {self.softcap:g})"
        return formula + (r" - m_h (i - j)" if self.subject.card.positions == "alibi" else "")

    @property
    def score_words(self) -> str:
        """The formula of the scores in words."""
        words = f"divided by √{self.d_head} so that scores do not grow with the width"
        if abs(self.scaling * self.d_head**0.5 - 1) > 1e-6:
            return f"{words} (this model multiplies by {self.scaling:.4g} instead)"
        alibi = self.subject.card.positions == "alibi"
        return words + (", less a fixed amount for every token of distance" if alibi else "")

    @property
    def model_scores(self) -> Tensor | None:
        """The model's own scores; None if it does not show them."""
        return self.model("attn.hook_attn_scores")

    @property
    def window(self) -> int | None:
        """How many keys back a query of this layer sees; None for all."""
        kinds = getattr(self.config, "layer_types", None)
        if kinds is not None and kinds[self.layer] != "sliding_attention":
            return None
        if kinds is None and self.config.model_type not in ("mistral", "mixtral"):
            return None
        return getattr(self.config, "sliding_window", None)

    @cached_property
    def mask(self) -> Bool[Tensor, "query key"]:
        """The causal mask (True may be attended to), with a sliding window if the layer has one."""
        position = torch.arange(self.n_pos, device=self.x.device)
        back = position[:, None] - position
        return (back >= 0) & (back < (self.window or self.n_pos))

    @cached_property
    def pattern(self) -> Float[Tensor, "head query key"]:
        """The attention pattern."""
        return self.scores.masked_fill(~self.mask, float("-inf")).softmax(-1)

    @cached_property
    def z(self) -> Float[Tensor, "pos head d_head"]:
        """The weighted sums of values."""
        return torch.einsum("hqk,khd->qhd", self.pattern, self.v.repeat_interleave(self.groups, 1))

    @property
    def attention_norm(self) -> Any:
        """The norm after attention; None if there is none."""
        return self.part("ln1_post")

    @property
    def attended_hook(self) -> str:
        """The hook of what attention adds to the stream."""
        return "attn.hook_out" if self.attention_norm is None else "ln1_post.hook_out"

    @property
    def mlp_hook(self) -> str:
        """The hook of what the MLP adds to the stream."""
        return "mlp.hook_out" if self.part("ln2_post") is None else "ln2_post.hook_out"

    @cached_property
    def attended(self) -> Float[Tensor, "pos d_model"]:
        """What attention adds to the stream."""
        weight, bias = self.weight("o")
        out = torch.einsum("phd,hdm->pm", self.z, weight)
        out = out if bias is None else out + bias
        return out if self.attention_norm is None else normed(out, self.attention_norm)

    @cached_property
    def middle(self) -> Float[Tensor, "pos d_model"]:
        """The stream after attention."""
        return self.x + self.attended

    @property
    def off_middle(self) -> float | None:
        """Deviation of the stream after attention from the model's; None if not shown."""
        return None

    @cached_property
    def mlp_out(self) -> Float[Tensor, "pos d_model"]:
        """What the MLP adds to the stream."""
        parts = {k: self.mlp.get_submodule(v.name) for k, v in self.names["mlp"].submodules.items()}
        x = normed(self.x if self.parallel else self.middle, self.part("ln2"))
        inner = parts["in"](x)
        inner = self._act(parts["gate"](x)) * inner if "gate" in parts else self._act(inner)
        out = parts["out"](inner)
        norm_after = self.part("ln2_post")
        return out if norm_after is None else normed(out, norm_after)

    def _act(self, x: Tensor) -> Tensor:
        own = callable(getattr(self.mlp, "act", None))
        activation: Any = self.mlp.act if own else ACT2FN[self._activation()]
        return activation(x)

    def _activation(self) -> str:
        for name in ("hidden_activation", "hidden_act", "activation_function"):
            activation = getattr(self.config, name, None)
            if isinstance(activation, str):
                return activation
        return str(getattr(self.config, "mlp", "gelu"))

    @property
    def mlp_words(self) -> str:
        """The MLP in words."""
        gated = "gate" in self.names["mlp"].submodules
        kind = self._activation()
        return f"widened, {'gated with' if gated else 'through'} {kind}, and narrowed again"

    @cached_property
    def out(self) -> Float[Tensor, "pos d_model"]:
        """The stream after the block."""
        return self.middle + self.mlp_out

    def logits(self, stream: Float[Tensor, "1 pos d_model"]) -> tuple[Tensor, Tensor]:
        """Logits `[pos, d_vocab]` of the last layer's stream, and the normed stream they read."""
        x = normed(stream[0], self.final_norm)
        unembed: Any = self.subject.model.get_output_embeddings()
        logits = x @ unembed.weight.T
        if unembed.bias is not None:
            logits = logits + unembed.bias
        cap = getattr(self.config, "final_logit_softcapping", None)
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        return logits, x
