"""lm-evaluation-harness's `LM` over a Subject: tokenised as its own `hf` model does, scored by `Scorer`."""

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from workbench.benchmarks.cache import Cache
from workbench.benchmarks.scoring import Request, Scorer

if TYPE_CHECKING:
    from workbench.subjects import Subject

UNSCORED = (math.nan, False)
Key = tuple[tuple[int, ...], tuple[int, ...]]
TOKEN_BUDGET: int | None = None  # tokens a batch; None lets the scorer choose
GENERATION_BUDGET = 4096  # tokens a batch; decoding is bound by reading the weights, so more rows are nearly free


class SubjectLM(TemplateLM):
    """What lm-eval asks of a model, answered by a Subject.

    Attributes:
        cache: what the model has answered before, and where its answers are kept batch by batch.
        progress: called after every batch with the share of the current requests done; may raise to stop.
        n_known: requests answered from the cache so far.
        n_truncated: requests cut from the left to the model's context so far.
    """

    def __init__(self, subject: "Subject", *, token_budget: int | None = None, cache: Cache | None = None) -> None:
        super().__init__()
        self.subject = subject
        self.tokenizer: Any = subject.tokenizer
        self.max_length = subject.n_ctx
        self._device = subject.device
        self.cache = cache or Cache(None)
        self.scorer = Scorer(subject.model, n_ctx=subject.n_ctx, token_budget=token_budget or TOKEN_BUDGET)
        self.progress: Callable[[float], None] = lambda fraction: None
        self.n_truncated = 0
        self.n_known = 0

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context becomes: the beginning or end token, else (character models) a line break."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        return (self.tokenizer.encode("\n", add_special_tokens=False) or [0])[0]

    @property
    def tokenizer_name(self) -> str:
        """Fingerprint of the tokenizer in lm-eval's own request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; a text that already begins with the beginning token does not get a second one."""
        if add_special_tokens is None:
            if string.startswith(self.tokenizer.decode(self.prefix_token_id)):
                return self.tokenizer.encode(string, add_special_tokens=False)
            return self.tokenizer.encode(string)
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(log-likelihood, greedy) of each (context, continuation); NaN where there is nothing to score."""
        return self._loglikelihood_tokens([(r.args[:2], *self._encode(*r.args[:2])) for r in requests])

    def _encode(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context:
            return self._encode_pair(context, continuation)
        tokens = self.tok_encode(continuation, add_special_tokens=False)
        if tokens[:1] == [self.prefix_token_id]:
            return tokens[:1], tokens[1:]
        return [self.prefix_token_id], tokens

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        wanted: dict[int, Key] = {}
        for index, (_strings, context, continuation) in enumerate(requests):
            if not continuation or len(continuation) > self.max_length:
                continue
            tokens = (context + continuation)[-(self.max_length + 1) :]
            self.n_truncated += len(tokens) < len(context) + len(continuation)
            wanted[index] = tuple(tokens[:-1]), tuple(continuation)
        scores = self._scores(list(dict.fromkeys(wanted.values())))
        return [scores[wanted[index]] if index in wanted else UNSCORED for index in range(len(requests))]

    def _scores(self, keys: list[Key]) -> dict[Key, tuple[float, bool]]:
        """(log-likelihood, greedy) of each (inputs, targets), from the cache where they are known."""
        known = self.cache.get(keys)
        self.n_known += len(known)
        scores: dict[Key, tuple[float, bool]] = {key: (value, greedy) for key, ((value, greedy), _) in known.items()}
        # What this run itself has found stays in the plan: taken up again, it has the batches of an undisturbed one.
        open_keys = [key for key in keys if key not in known or known[key][1]]
        done = len(keys) - len(open_keys)
        for batch in self.scorer.plan([Request(i, *key) for i, key in enumerate(open_keys)]):
            asked = [open_keys[request.index] for row in batch for request in row.requests]
            if any(key not in scores for key in asked):
                fresh = {open_keys[i]: (s.loglikelihood, s.greedy) for i, s in self.scorer.run(batch).items()}
                self.cache.put(fresh)
                scores = fresh | scores
            done += len(asked)
            self.progress(done / len(keys))
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts, in windows of the model's context, every token predicted once."""
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
        totals = [0.0 if owner in set(owners) else math.nan for owner in range(len(requests))]
        for owner, (loglikelihood, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += loglikelihood
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Text generated after each context, greedy unless the task samples, up to a stop sequence."""
        keys = [(tuple(self.tok_encode(r.args[0])), repr(r.args[1])) for r in requests]
        settings = {repr(r.args[1]): r.args[1] for r in requests}
        known = self.cache.get([key for key in dict.fromkeys(keys) if not _samples(settings[key[1]])])
        self.n_known += len(known)
        texts: dict[Any, str] = {key: text for key, (text, _) in known.items()}
        open_keys = [key for key in dict.fromkeys(keys) if key not in known or known[key][1]]
        done = len(set(keys)) - len(open_keys)
        for batch, room, gen in self._generation_plan(open_keys, settings):
            if any(key not in texts for key in batch):
                produced = self._generate([list(context) for context, _ in batch], room, dict(gen))
                fresh = dict(zip(batch, produced, strict=True))
                if not _samples(gen):
                    self.cache.put(fresh)
                texts = fresh | texts
            done += len(batch)
            self.progress(done / len(set(keys)))
        return [texts[key] for key in keys]

    def _generation_plan(self, keys: list[Any], settings: dict[str, Any]) -> list[tuple[list[Any], int, Any]]:
        """Batches of (keys, room in tokens, settings), longest contexts first."""
        # Without position ids a model counts the padding on the left: then only equal lengths share a batch.
        pads = "position_ids" in inspect.signature(self.subject.model.forward).parameters
        groups: dict[tuple[str, int], list[Any]] = {}
        for key in keys:
            groups.setdefault((key[1], 0 if pads else len(key[0])), []).append(key)
        found = []
        for (which, _), members in groups.items():
            members.sort(key=lambda key: (-len(key[0]), key[0]))
            gen = normalize_gen_kwargs(settings[which], 256)
            # A model with a short context still needs room for the prompt.
            room = min(gen.pop("max_gen_toks"), self.max_length // 2)
            budget = max(self.scorer.token_budget, GENERATION_BUDGET)
            size = max(1, budget // (len(members[0][0]) + room))
            found += [(members[start : start + size], room, gen) for start in range(0, len(members), size)]
        return found

    def _generate(self, contexts: list[list[int]], room: int, settings: dict[str, Any]) -> list[str]:
        from lm_eval.models.utils_hf import stop_sequences_criteria

        longest = self.max_length - room
        self.n_truncated += sum(len(context) > longest for context in contexts)
        contexts = [context[-longest:] for context in contexts]
        eos = self.tokenizer.eos_token_id
        pad = next((t for t in (self.tokenizer.pad_token_id, eos) if t is not None), 0)
        width = max(len(context) for context in contexts)
        ids = torch.tensor([[pad] * (width - len(c)) + c for c in contexts], device=self._device)
        mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts], device=self._device)
        stop = handle_stop_sequences(
            settings.pop("until", None), eos=None if eos is None else self.tokenizer.decode(eos)
        )
        if not settings.get("do_sample"):
            settings = {k: v for k, v in settings.items() if k not in ("temperature", "top_p", "top_k")}
        with torch.no_grad():
            output = self.subject.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=room,
                pad_token_id=pad,
                stopping_criteria=stop_sequences_criteria(self.tokenizer, stop, width, len(contexts)),
                **settings,
            )
        texts = [self.tokenizer.decode(row[width:], skip_special_tokens=True) for row in output.tolist()]
        return [postprocess_generated_text(text, stop, None) for text in texts]


def _samples(settings: Any) -> bool:
    """Whether a request's text is drawn at random, so that it may not be answered from the cache."""
    return bool(settings.get("do_sample") or settings.get("temperature"))
