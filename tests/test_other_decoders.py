"""Patching, lens, direct contributions and edits of many decoders, against plain torch hooks in
float64.

The hooks are put where `tests.other_decoders` says by hand that a family writes into its stream;
queries, keys, values and patterns are held against an attention function of this file.
"""

from functools import partial

import pytest
import torch
import transformers as t
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from tests.conftest import subject_of
from tests.families import GQA
from tests.other_decoders import DECODERS, SMALL, make
from workbench.errors import WorkbenchError
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.packed import UnpackableError, engine, reader
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.interventions.ablation import ablation
from workbench.interp.interventions.needs import _hooked_without_each, _packed_without_each
from workbench.interp.lenses.lens import lens
from workbench.interp.patching.direct import direct
from workbench.interp.patching.gradients import estimate_sweep
from workbench.interp.patching.pair_maps import patch
from workbench.interp.patterns.attention import attention
from workbench.interp.patterns.heads import head_scores
from workbench.interp.position.encoding import position_encoding
from workbench.interp.prompts.pairs import pair
from workbench.subjects.bridge import shared_clone
from workbench.subjects.intervention import Edit, Intervention, apply
from workbench.subjects.parts import Parts

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"
QUICK = ("opt", "bloom", "falcon", "olmo2", "granite", "cohere", "mixtral", "gptoss", "deepseek3")
"""Families of the quick tests: each is built in a way of its own."""
UNPACKED = ("gptneo", "bloom", "falcon", "mpt", "stablelm")
"""Families that do not use transformers' attention interface."""
CENTRING = (
    *(
        "opt",
        "gptj",
        "codegen",
        "gptneo",
        "bloom",
        "falcon",
        "mpt",
        "phi",
        "stablelm",
        "starcoder2",
        "olmo",
    ),
    *("cohere", "cohere2", "nemotron", "bigcode", "neox", "gpt2"),
)
"""Families whose final norm takes the mean off."""
FLOAT32_INSIDE = 2e-6
"""Norms and rotary tables of some families are in float32 whatever the model's dtype."""

families = pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DECODERS],
)


class Change:
    """The hooks of one block that pass a site's activation through `change`."""

    def __init__(self, how, site: str, change, n_heads: int = 4):
        self.how = how
        self.site = site.removesuffix("_by_pos")
        self.change = change
        self.n_heads = n_heads
        self.stream = torch.empty(0)
        self.middle = torch.empty(0)

    def enter(self, module, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        self.stream = self.change(x) if self.site == "resid_pre" else x
        return (
            ((self.stream, *args[1:]), kwargs)
            if args
            else (args, {**kwargs, "hidden_states": self.stream})
        )

    def leave(self, module, args, out):
        if self.site != "resid_post":
            return None
        return (self.change(out[0]), *out[1:]) if isinstance(out, tuple) else self.change(out)

    def attention(self, module, args, out):
        return self._written("attn", self.stream, out)

    def mlp(self, module, args, out):
        return self._written("mlp", self.middle, out)

    def _written(self, part: str, before, out):
        raw = out[0] if isinstance(out, tuple) else out
        before = before if part in self.how.adds else torch.zeros_like(self.stream)
        value = raw.view(self.stream.shape) * self.how.scale - before
        if self.site == f"{part}_out":
            value = self.change(value)
        if part == "attn":
            if self.site == "resid_mid":
                value = self.change(self.stream + value) - self.stream
            self.middle = self.stream + value
        # Falcon adds to it in place.
        value = ((value + before) / self.how.scale).view(raw.shape).clone()
        return (value, *out[1:]) if isinstance(out, tuple) else value

    def heads(self, module, args):
        if self.site != "z":
            return None
        x = args[0].view(*self.stream.shape[:2], self.n_heads, -1)
        return (self.change(x).reshape(args[0].shape), *args[1:])

    def neurons(self, module, args):
        if self.site != "neurons":
            return None
        return (
            self.change(args[0].view(*self.stream.shape[:2], -1)).reshape(args[0].shape),
            *args[1:],
        )


class Hooks:
    """One family's model under plain hooks; sites are those of patching."""

    def __init__(self, family: str, model):
        self.family = family
        self.how = DECODERS[family]
        self.model = shared_clone(model)
        self.layers = list(self.model.get_submodule(self.how.layers).children())

    def run(self, ids, layer: int, site: str, change):
        """The logits at the end, with the activation of a site changed by `change`."""
        block = self.layers[layer]
        one = Change(self.how, site, change)
        handles = [
            block.register_forward_pre_hook(one.enter, with_kwargs=True),
            block.register_forward_hook(one.leave),
            block.get_submodule(self.how.attn).register_forward_hook(one.attention),
            block.get_submodule(self.how.mlp).register_forward_hook(one.mlp),
            block.get_submodule(self.how.o).register_forward_pre_hook(one.heads),
        ]
        if self.how.down:
            handles.append(
                block.get_submodule(self.how.down).register_forward_pre_hook(one.neurons)
            )
        try:
            return self.model(ids, use_cache=False).logits[0, -1]
        finally:
            for handle in handles:
                handle.remove()

    def read(self, ids, layer: int, site: str):
        """The activation of a site in an ordinary run."""
        seen = []
        with torch.no_grad():
            self.run(ids, layer, site, lambda x: (seen.append(x.clone()), x)[1])
        return seen[0]


def gap(logits):
    return float(logits[7] - logits[8])


def put(value, index):
    def change(x):
        x = x.clone()
        x[index] = value[index]
        return x

    return change


def index_of(site: str, cell: tuple[int, ...]):
    if site == "neurons":
        return (slice(None), slice(None), cell[1])
    if site == "z":
        return (slice(None), slice(None), cell[1])
    if site == "z_by_pos":
        return (slice(None), cell[2], cell[1])
    return (slice(None), cell[1])


CELLS = {"z": [(0, 0), (2, 3)], "z_by_pos": [(1, 2, 5)], "neurons": [(0, 3), (0, 21)]}
STREAM_SITES = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
    "z_by_pos",
    "neurons",
)


def swept(subject, question, settings):
    """The map as the product makes it, and by which way."""
    try:
        return run_sweep(subject, question, settings), "packed"
    except UnpackableError:
        return hooked(subject, question, settings), "hooks"


@families
@torch.no_grad()
def test_maps_of_streams_and_parts_equal_plain_hooks(family):
    subject = subject_of(make(family), family)
    hooks = Hooks(family, subject.model)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    results = []
    for site in STREAM_SITES:
        settings = Settings(site, layer=1 if site == "neurons" else None)
        if (site == "neurons" and not hooks.how.down) or (
            site == "resid_mid" and hooks.how.parallel
        ):
            with pytest.raises(WorkbenchError, match=r"no single matrix of neurons|no resid_mid"):
                swept(subject, question, settings)
            continue
        result, how = swept(subject, question, settings)
        results.append(result)
        assert how == ("hooks" if family in UNPACKED else "packed")
        for cell in CELLS.get(site, [(0, 4), (1, 5), (2, 8)]):
            layer = 1 if site == "neurons" else cell[0]
            theirs = hooks.read(question.clean[None], layer, site)
            logits = hooks.run(
                question.corrupted[None], layer, site, put(theirs, index_of(site, cell))
            )
            assert float(result.values[cell]) == pytest.approx(gap(logits), abs=FLOAT32_INSIDE), (
                site,
                cell,
            )
    ends = [gap(subject.model(ids[None]).logits[0, -1]) for ids in question.prompts]
    last = results[-1]
    assert (last.clean, last.corrupted) == pytest.approx(tuple(ends), abs=FLOAT32_INSIDE)


def plain_attention(
    module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, s_aux=None, **_
):
    """Attention by its formula; what is patched in is on the module."""
    groups = query.shape[1] // key.shape[1]
    seen = PLAIN["seen"]
    patch = PLAIN["patch"].get(module.layer_idx)
    own = {"q": query, "k": key, "v": value}
    seen.setdefault(module.layer_idx, {}).update(own)
    if patch is not None and patch[0] in own:
        part, head, theirs = patch
        own[part] = own[part].clone()
        own[part][:, head] = theirs[part][:, head]
    scores = own["q"] @ own["k"].repeat_interleave(groups, 1).mT * scaling
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores + attention_mask[..., : scores.shape[-1]].to(scores)
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    pattern = scores.softmax(-1)[..., : key.shape[-2]]
    seen[module.layer_idx]["pattern"] = pattern
    if patch is not None and patch[0] == "pattern":
        pattern = pattern.clone()
        pattern[:, patch[1]] = patch[2]["pattern"][:, patch[1]]
    return (pattern @ own["v"].repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), pattern


PLAIN: dict = {"seen": {}, "patch": {}}
AttentionInterface.register("test_plain", plain_attention)
AttentionMaskInterface.register("test_plain", eager_mask)


@families
@torch.no_grad()
def test_maps_of_queries_keys_values_and_patterns_equal_attention_by_its_formula(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    if family in UNPACKED:
        with pytest.raises(UnpackableError, match="attention interface"):
            engine(subject)
        return
    model = shared_clone(subject.model)
    model.set_attn_implementation("test_plain")

    def run(ids, patch):
        PLAIN.update(seen={}, patch=patch)
        return model(ids[None], use_cache=False).logits[0, -1], PLAIN["seen"]

    own, theirs = run(question.clean, {})
    assert gap(own) == pytest.approx(
        gap(subject.model(question.clean[None]).logits[0, -1]), abs=FLOAT32_INSIDE
    )
    for site in ("q", "k", "v", "pattern"):
        effects = run_sweep(subject, question, Settings(site)).values
        for layer, head in ((0, effects.shape[1] // 2), (1, 0), (2, effects.shape[1] - 1)):
            logits, _ = run(question.corrupted, {layer: (site, head, theirs[layer])})
            assert float(effects[layer, head]) == pytest.approx(gap(logits), abs=FLOAT32_INSIDE), (
                site,
                layer,
                head,
            )


@families
@torch.no_grad()
def test_lens_and_direct_contributions_are_those_of_the_model(family):
    subject = subject_of(make(family), family)
    hooks = Hooks(family, subject.model)
    ids = subject.encode(CLEAN)
    assert lens(subject, CLEAN).checks["lens"] < 1e-5
    contributions = direct(subject, CLEAN, answer="7", wrong="8")
    logits = subject.model(ids).logits[0, -1]
    cap = reader(subject).softcap
    logits = logits if cap is None else cap * torch.atanh(logits / cap)
    assert contributions.total == pytest.approx(gap(logits), abs=FLOAT32_INSIDE)
    assert contributions.checks["direct_sum"] < 1e-5 and contributions.checks["neuron_sum"] < 1e-5
    # A part's contribution is the slope of the logits along what it writes, with the final norm's
    # size held.
    final = hooks.read(ids, 2, "resid_post")[0, -1]
    for layer in range(3):
        held = {site: hooks.read(ids, layer, site)[0, -1] for site in ("attn_out", "mlp_out")}
        ours = {
            "attn_out": contributions.heads[layer].sum() + contributions.attention_rest[layer],
            "mlp_out": contributions.mlps[layer],
        }
        for site, value in held.items():
            assert ours[site] == pytest.approx(
                slope(subject, hooks, final, value, cap), abs=1e-5
            ), (layer, site)


def slope(subject, hooks, final, part, cap):
    """How the logit difference moves along `part`, the size of the last stream held: two norms of
    the same size.
    """
    packed = reader(subject)
    centres = hooks.family in CENTRING

    def size(x):
        x = x - x.mean() if centres else x
        return x.square().mean().sqrt()

    def read(x):
        normed = packed.norm(x[None, None])
        return gap(packed.unembed(normed)[0, 0] * packed.stream.logit_scale)

    big = 1e3  # of a large vector the norm gives its direction, whatever the epsilon
    nothing = read(torch.zeros_like(part))
    return (read(part * big) - nothing) * float(size(part)) / float(size(final))


@families
@torch.no_grad()
def test_an_edit_writes_into_the_stream_what_it_says(family):
    subject = subject_of(make(family), family)
    ids = subject.encode(CLEAN)
    value = torch.full((32,), 0.3, dtype=torch.float64)
    value[0] = 2
    for site, action in (
        ("attn_out", "set"),
        ("mlp_out", "set"),
        ("attn_out", "add"),
        ("mlp_out", "add"),
    ):
        edited = apply(
            subject, Intervention("t", "x", (Edit(1, site, (), action, value.tolist()),))
        )
        hooks = Hooks(family, subject.model)
        change = (lambda x: value.expand_as(x)) if action == "set" else (lambda x: x + value)
        logits = hooks.run(ids, 1, site, change)
        torch.testing.assert_close(
            edited.model(ids).logits[0, -1], logits, atol=FLOAT32_INSIDE, rtol=1e-7
        )


@families
def test_estimates_are_the_gradients_of_plain_hooks(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    hooks = Hooks(family, subject.model)
    for site in ("attn_out", "mlp_out", "z", "resid_post"):
        estimate = estimate_sweep(subject, question, Settings(site))
        for layer in (0, 2):
            theirs, own = (hooks.read(ids[None], layer, site) for ids in question.prompts)
            moved = torch.zeros_like(own, requires_grad=True)
            with torch.enable_grad():
                logits = hooks.run(question.corrupted[None], layer, site, partial(torch.add, moved))
                (slopes,) = torch.autograd.grad(logits[7] - logits[8], moved)
            change = (slopes * (theirs - own))[0]
            by_hand = change.sum((0, 2)) if site == "z" else change.sum(-1)
            ours = estimate.values[layer] - estimate.corrupted
            torch.testing.assert_close(ours, by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mixtral", "stablelm"])
@torch.no_grad()
def test_heads_taken_out_one_by_one_equal_plain_hooks_by_either_way(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    hooks = Hooks(family, subject.model)
    given = list(
        torch.randn(3, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    ways = (
        [_hooked_without_each]
        if family in UNPACKED
        else [_hooked_without_each, _packed_without_each]
    )
    for way in ways:
        intact, values = way(subject, question, "logit_difference", given)
        assert intact == pytest.approx(
            gap(subject.model(question.clean[None]).logits[0, -1]), abs=FLOAT32_INSIDE
        )
        for layer, head in ((0, 0), (1, 3), (2, 2)):
            value = given[layer].expand(1, 9, 4, 8)
            logits = hooks.run(
                question.clean[None], layer, "z", put(value, index_of("z", (layer, head)))
            )
            assert values[layer, head] == pytest.approx(gap(logits), abs=FLOAT32_INSIDE)


def test_what_a_family_does_not_have_is_one_sentence():
    moe = subject_of(make("mixtral"), "mixtral")
    with pytest.raises(
        WorkbenchError, match=r"MLP of layer 1 of MixtralForCausalLM .* no single matrix of neurons"
    ):
        ablation(moe, neurons={1: [0]})
    with pytest.raises(WorkbenchError, match="no single matrix of neurons; edit mlp_out"):
        apply(moe, Intervention("t", "x", (Edit(1, "post", (0,), "set", 0.0),)))
    config = t.Lfm2Config(**GQA, layer_types=["conv", "full_attention", "conv"])
    mixer = subject_of(t.Lfm2ForCausalLM(config).eval(), "mixer")
    for ask in (
        lambda: direct(mixer, CLEAN, answer="7", wrong="8"),
        lambda: ablation(mixer, [(1, 0)]),
        lambda: patch(mixer, CLEAN, CORRUPTED, answer="7", wrong="8", site="attn_out"),
    ):
        with pytest.raises(
            WorkbenchError, match=r"Lfm2ForCausalLM \(mixer\) layer 0 has no attention"
        ):
            ask()
    patching = patch(mixer, CLEAN, CORRUPTED, answer="7", wrong="8", site="resid_post")
    assert patching.engine.startswith("hooks (") and patching.effect[-1][-1] == pytest.approx(
        1, abs=1e-4
    )


def test_a_view_that_does_not_fit_is_one_sentence():
    """Falcon-40B's queries, keys and values lie by groups; TransformerLens splits them as
    Falcon-7B's.
    """
    config = t.FalconConfig(
        **SMALL, new_decoder_architecture=True, num_kv_heads=2, bos_token_id=None, eos_token_id=None
    )
    falcon = subject_of(t.FalconForCausalLM(config).eval(), "falcon40")
    for ask in (
        lambda: falcon.bridge,
        lambda: attention(falcon, CLEAN),
        lambda: head_scores(falcon, n=2, length=8),
        lambda: direct(falcon, CLEAN, answer="7", wrong="8"),
        lambda: lens(falcon, CLEAN),
        lambda: ablation(falcon, [(1, 0)]),
        lambda: Parts(falcon).slices("L0H0"),
        lambda: apply(falcon, Intervention("t", "x", (Edit(1, "attn_out", (), "set", 0.0),))),
        *(
            partial(patch, falcon, CLEAN, CORRUPTED, answer="7", wrong="8", site=site)
            for site in ("z", "q", "pattern", "attn_out", "resid_post")
        ),
    ):
        with pytest.raises(
            WorkbenchError,
            match=r"no view of FalconForCausalLM \(falcon40\): its adapter does not fit",
        ):
            ask()
    assert position_encoding(falcon).kind == "rotary"  # what needs no view is read
