"""lm-evaluation-harness's `LM` for a Subject: tokenises as its `hf` model does, scores by `Scorer`.

The harness calls `loglikelihood`, `loglikelihood_rolling` and `generate_until`. Each one drops
duplicates, answers what the cache knows, and computes the rest in batches, split over processes.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from workbench.benchmarks.engine.cache import Cache
from workbench.benchmarks.engine.loglikelihood import Request, Row, Scorer
from workbench.benchmarks.engine.shards import Shards
from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.generation import Request as Text
from workbench.generation import Sampling, end_tokens, write
from workbench.subjects.spelling import bare, read, spells_ids, unspelt

if TYPE_CHECKING:
    from workbench.subjects import Subject

UNSCORED = (math.nan, False)
T = TypeVar("T")
Key = tuple[tuple[int, ...], tuple[int, ...]]
TOKEN_BUDGET: int | None = None
"""Tokens a batch when scoring; None lets the scorer choose."""
GENERATION = "A task's generation_kwargs"
GENERATION_BUDGET = 4096
"""Tokens a batch when generating; decoding is bound by reading the weights, so rows are cheap."""


@dataclass(frozen=True)
class Prompts:
    """A batch of (context, settings as text) to continue, each by at most `room` tokens."""

    keys: list[Any]
    room: int
    settings: Any


class SubjectLM(TemplateLM):
    """The model that lm-eval calls, backed by a Subject.

    Attributes:
        cache: Earlier answers of the model; new ones are stored in it after every batch.
        progress: Called after every batch with the share of the current requests done; may raise
            to stop.
        n_known: Requests answered from the cache so far.
        n_truncated: Requests cut from the left to the model's context so far.
        n_unspelt: Pieces of text so far that the tokenizer cannot represent.
        n_spoilt: Requests so far with any such piece.
    """

    def __init__(
        self,
        subject: "Subject",
        *,
        token_budget: int | None = None,
        cache: Cache | None = None,
        shards: Shards | None = None,
    ) -> None:
        super().__init__()
        self.subject = subject
        self.tokenizer: Any = subject.tokenizer
        self.max_length = subject.n_ctx
        self._device = subject.device
        self.cache = cache or Cache(None)
        self.shards = shards or Shards()
        self.scorer = Scorer(
            subject.model, n_ctx=subject.n_ctx, token_budget=token_budget or TOKEN_BUDGET
        )
        self.progress: Callable[[float], None] = lambda fraction: None
        self.n_truncated = 0
        self.n_known = 0
        self.n_unspelt = self.n_spoilt = 0

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that replaces an empty context: BOS, EOS or (character models) a line break."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        return (self.tokenizer.encode("\n", add_special_tokens=False) or [0])[0]

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name in lm-eval's own request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids of a text, without an end token.

        Args:
            string: The text.
            add_special_tokens: False leaves the beginning token out; by default it is added where
                the tokenizer does so and the text does not start with it already.
        """
        if add_special_tokens is None:
            has_prefix = string.startswith(self.tokenizer.decode(self.prefix_token_id))
            add_special_tokens = not has_prefix
        encode = read if add_special_tokens else bare
        return encode(self.tokenizer, string)

    def _count_unspelt(self, texts: list[str]) -> None:
        """Count the pieces of each request's text that the tokenizer cannot represent.

        Raises:
            WorkbenchError: the model came without a tokenizer, so it cannot read any text.
        """
        for text in texts:
            missing = len(unspelt(self.tokenizer, text))
            if missing and spells_ids(self.tokenizer):
                raise WorkbenchError(
                    f"{self.subject.name} came without a tokenizer and cannot read a task's text; "
                    "put its tokenizer.json, or meta.json with the stoi and itos of nanoGPT's "
                    "meta.pkl, beside its weights."
                )
            self.n_unspelt += missing
            self.n_spoilt += missing > 0

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding gives it) of each continuation.

        Args:
            requests: lm-eval's, with `args` = (context, continuation).
            disable_tqdm: Ignored; `progress` is called instead.

        The log-likelihood is NaN where there is nothing to score, or more than the context holds.
        """
        self._count_unspelt([r.args[0] + r.args[1] for r in requests])
        return self._loglikelihood_tokens(
            [(r.args[:2], *self.encode(*r.args[:2])) for r in requests]
        )

    def encode(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of a context, a start token where it is empty, and of what continues it."""
        if context:
            return self._encode_pair(context, continuation)
        tokens = self.tok_encode(continuation, add_special_tokens=False)
        if tokens[:1] == [self.prefix_token_id]:
            return tokens[:1], tokens[1:]
        return [self.prefix_token_id], tokens

    def key(self, context: str, continuation: str) -> Key | None:
        """(inputs, targets) as token ids; None if the continuation is empty or too long."""
        return self._key(*self.encode(context, continuation))

    def _key(self, context: list[int], continuation: list[int]) -> Key | None:
        if not continuation or len(continuation) > self.max_length:
            return None
        tokens = (context + continuation)[-(self.max_length + 1) :]
        self.n_truncated += len(tokens) < len(context) + len(continuation)
        return tuple(tokens[:-1]), tuple(continuation)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        keys = {
            index: self._key(context, answer)
            for index, (_texts, context, answer) in enumerate(requests)
        }
        wanted = {index: key for index, key in keys.items() if key is not None}
        scores = self._scores(list(dict.fromkeys(wanted.values())))
        return [
            scores[wanted[index]] if index in wanted else UNSCORED for index in range(len(requests))
        ]

    def _scores(self, keys: list[Key]) -> dict[Key, tuple[float, bool]]:
        """(log-likelihood, greedy) of each (inputs, targets), from the cache where it has them."""
        known = self.shards.of_first(lambda: self.cache.get(keys))
        self.n_known += len(known)
        scores: dict[Key, tuple[float, bool]] = {
            key: (value, greedy) for key, ((value, greedy), _) in known.items()
        }
        # Requests that this run itself has answered stay in the plan, so that a resumed run has the
        # same batches, and so the same rounding, as one that was never stopped.
        open_keys = [key for key in keys if key not in known or known[key][1]]
        plan = self.scorer.plan([Request(i, *key) for i, key in enumerate(open_keys)])

        def keys_of(batch: list[Row]) -> list[Key]:
            return [open_keys[request.index] for row in batch for request in row.requests]

        def compute(batch: list[Row]) -> dict[Key, tuple[float, bool]]:
            return {
                open_keys[i]: (s.loglikelihood, s.greedy) for i, s in self.scorer.run(batch).items()
            }

        return self._in_rounds(plan, keys_of, compute, scores, count=len(keys))

    def _in_rounds(
        self,
        batches: list[T],
        keys_of: Callable[[T], list[Any]],
        compute: Callable[[T], dict[Any, Any]],
        known: dict[Any, Any],
        *,
        count: int,
        keep: bool = True,
    ) -> dict[Any, Any]:
        """Answers by request, stored batch by batch; a batch that is fully known is not computed.

        Args:
            batches: All batches of the plan.
            keys_of: The requests of a batch.
            compute: The answers to a batch, by request.
            known: Answers known already.
            count: Requests in all, for the progress.
            keep: Whether answers go to the cache.
        """
        answers = dict(known)
        waiting = [batch for batch in batches if any(key not in answers for key in keys_of(batch))]
        left = sum(len(keys_of(batch)) for batch in waiting)
        for together in self.shards.rounds(waiting):
            fresh = self.shards.each(together, compute)
            if keep and self.shards.leads:
                self.cache.put(fresh)
            answers = fresh | answers
            left -= sum(len(keys_of(batch)) for batch in together)
            self.progress(1 - left / count)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts in nats, in disjoint windows of the model's context.

        Args:
            requests: lm-eval's, with `args` = (text,).
            disable_tqdm: Ignored; `progress` is called instead.

        Every token is predicted once; a text without tokens gives NaN.
        """
        self._count_unspelt([r.args[0] for r in requests])
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            for window in utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                windows.append((None, *utils.make_disjoint_window(window)))
                owners.append(owner)
        with_tokens = set(owners)
        totals = [0.0 if owner in with_tokens else math.nan for owner in range(len(requests))]
        scores = self._loglikelihood_tokens(windows)
        for owner, (loglikelihood, _) in zip(owners, scores, strict=True):
            totals[owner] += loglikelihood
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Text generated after each context, up to a stop sequence; greedy unless the task samples.

        Args:
            requests: lm-eval's, with `args` = (context, generation settings).
            disable_tqdm: Ignored; `progress` is called instead.

        Raises:
            WorkbenchError: a generation setting that is not supported.
        """
        self._count_unspelt([r.args[0] for r in requests])
        keys = [(tuple(self.tok_encode(r.args[0])), repr(r.args[1])) for r in requests]
        settings = {repr(r.args[1]): r.args[1] for r in requests}
        distinct = list(dict.fromkeys(keys))
        greedy = [key for key in distinct if not _samples(settings[key[1]])]
        sampled = [key for key in distinct if _samples(settings[key[1]])]
        known = self.shards.of_first(lambda: self.cache.get(greedy))
        self.n_known += len(known)
        # As in `_scores`, what this run itself has answered stays in the plan.
        open_keys = [key for key in greedy if key not in known or known[key][1]]
        texts = self._in_rounds(
            self._generation_plan(open_keys, settings),
            lambda batch: batch.keys,
            self._generate,
            {key: text for key, (text, _) in known.items()},
            count=len(distinct),
        )
        # Texts drawn at random are drawn again each time, so they are not stored.
        texts |= self._in_rounds(
            self._generation_plan(sampled, settings),
            lambda batch: batch.keys,
            self._generate,
            {},
            count=len(distinct),
            keep=False,
        )
        return [texts[key] for key in keys]

    def _generation_plan(self, keys: list[Any], settings: dict[str, Any]) -> list["Prompts"]:
        """Batches of one setting each, longest contexts first."""
        # Without position ids a model counts the padding on the left, so only contexts of equal
        # length may share a batch.
        pads = "position_ids" in inspect.signature(self.subject.model.forward).parameters
        groups: dict[tuple[str, int], list[Any]] = {}
        for key in keys:
            groups.setdefault((key[1], 0 if pads else len(key[0])), []).append(key)
        plan = []
        for (which, _), members in groups.items():
            members.sort(key=lambda key: (-len(key[0]), key[0]))
            with reading(GENERATION, "give them as lm-eval's task guide does", "cannot be used"):
                gen = normalize_gen_kwargs(settings[which], 256)
            # A model with a short context still needs room for the prompt.
            room = min(gen.pop("max_gen_toks"), self.max_length // 2)
            budget = max(self.scorer.token_budget, GENERATION_BUDGET)
            self.n_truncated += sum(len(context) > self.max_length - room for context, _ in members)
            size = max(1, budget // (len(members[0][0]) + room))
            plan += [
                Prompts(members[start : start + size], room, gen)
                for start in range(0, len(members), size)
            ]
        return plan

    def _generate(self, batch: "Prompts") -> dict[Any, str]:
        room = batch.room
        settings = dict(batch.settings)
        eos = self.tokenizer.eos_token_id
        until = settings.pop("until", None)
        stop = handle_stop_sequences(until, eos=None if eos is None else self.tokenizer.decode(eos))
        sampling = _sampling(settings)
        ends = end_tokens(self.subject)
        prompts = [
            Text(context[-(self.max_length - room) :], room, each, stops=stop, ends=ends)
            for (context, _), each in zip(batch.keys, sampling(len(batch.keys)), strict=True)
        ]
        written = [list(completion.ids) for completion in write(self.subject, prompts)]
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        return {
            key: postprocess_generated_text(t, stop, None)
            for key, t in zip(batch.keys, texts, strict=True)
        }


def _sampling(settings: dict[str, Any]) -> Callable[[int], list[Sampling]]:
    """A function from a number of texts to their samplings, each with a seed of its own.

    The seeds come from torch's generator.

    Raises:
        WorkbenchError: names a setting that is not supported.
    """
    do_sample = settings.pop("do_sample", None)
    known = {
        name: settings.pop(name)
        for name in ("temperature", "top_p", "top_k", "min_p")
        if name in settings
    }
    if "repetition_penalty" in settings:
        known["repetition_penalty"] = settings.pop("repetition_penalty")
    if settings:
        raise WorkbenchError(
            f"generation_kwargs has {', '.join(settings)}, which is not done; leave it out."
        )
    if not do_sample:
        return lambda n: [Sampling()] * n
    sampling = Sampling(**{"temperature": 1.0, **known})
    return lambda n: [replace(sampling, seed=int(torch.randint(2**62, ()))) for _ in range(n)]


def _samples(settings: Any) -> bool:
    """Whether a request's text is drawn at random, so that it must not come from the cache."""
    return bool(settings.get("do_sample") or settings.get("temperature"))
