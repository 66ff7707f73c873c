"""Token log-likelihoods of many requests: prefixes shared, little padding, logits only where needed.

Requests that begin alike are laid side by side in one row of tokens: the shared prefix once, then each
request's own rest, under a mask in which a rest sees the prefix and itself. The result is exact for every
model that takes a four-dimensional mask and position ids; whether one does is tried on plain calls first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

# Config entries with which a model changes its logits after the output embeddings.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
FLOATS_AT_ONCE = 1 << 24
# Config entries that bound how far a token sees; the mask of a pack knows no such bound.
REACHES = ("sliding_window", "attention_chunk_size")
LONGEST_PACK = 1024
LONGEST_PROBE = 256
SHORTEST_SHARED = 4


@dataclass(frozen=True)
class Request:
    """One sequence to score: the last `len(targets)` of the `inputs` should predict the `targets`."""

    index: int
    inputs: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Pack:
    """Requests in one row of tokens, the first `shared` tokens of which they have in common."""

    requests: tuple[Request, ...]
    shared: int

    @property
    def length(self) -> int:
        """Tokens in the row."""
        return self.shared + sum(len(r.inputs) - self.shared for r in self.requests)

    @property
    def branches(self) -> bool:
        """Whether any request goes on behind the shared tokens, so that the row needs a mask."""
        return self.length > self.shared

    def with_request(self, request: Request, limit: int, reach: int) -> "Pack | None":
        """This pack with one more request, or None where that saves nothing or grows past `limit` tokens."""
        if len(request.inputs) > reach:
            return None
        pairs = zip(self.requests[-1].inputs[: self.shared], request.inputs, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        count = len(self.requests)
        before = self.shared * (count - 1)
        if shared < max(SHORTEST_SHARED, len(request.inputs) // 4) or shared * count <= before:
            return None
        pack = Pack((*self.requests, request), shared)
        return pack if pack.length <= limit else None


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a request's targets in nats, and whether greedy decoding would have produced them."""

    loglikelihood: float
    greedy: bool


def plan(requests: Sequence[Request], limit: int, reach: int) -> list[Pack]:
    """Packs of neighbours in lexicographic order.

    No pack is longer than `limit` tokens unless one request is; requests longer than `reach` stay alone.
    """
    packs: list[Pack] = []
    for request in sorted(requests, key=lambda r: r.inputs):
        joined = packs[-1].with_request(request, limit, reach) if packs else None
        if joined:
            packs[-1] = joined
        else:
            packs.append(Pack((request,), len(request.inputs)))
    return packs


def batches(packs: Sequence[Pack], budget: int) -> list[list[Pack]]:
    """Packs of similar length together, longest first, at most `budget` tokens a batch with its padding.

    Rows that need a mask stay apart from those that do not: it would lift a sliding window from the latter.
    """
    result: list[list[Pack]] = []
    for pack in sorted(packs, key=lambda p: (p.branches, -p.length)):
        alike = result and result[-1][0].branches == pack.branches
        if alike and (len(result[-1]) + 1) * result[-1][0].length <= budget:
            result[-1].append(pack)
        else:
            result.append([pack])
    return result


class Scorer:
    """Scores requests under one causal language model, by the fastest way that is right for it."""

    def __init__(self, model: Any, *, n_ctx: int, token_budget: int | None = None) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.pack_limit = min(n_ctx, LONGEST_PACK)
        self.reach = min(n_ctx, *(getattr(model.config, name, None) or n_ctx for name in REACHES))
        # On a CPU larger batches leave the cache: measured on a 135 M model, 256 tokens a thread are fastest.
        self.token_budget = token_budget or (256 * torch.get_num_threads() if self.device.type == "cpu" else 32768)
        changes = [getattr(model.config, name, None) for name in LOGIT_CHANGES]
        self.works: dict[str, bool] = {}
        if any(change not in (None, 1, 1.0) for change in changes) or model.get_output_embeddings() is None:
            self.works["hidden"] = False

    @torch.no_grad()
    def score(self, requests: Sequence[Request], report: Callable[[int], None]) -> dict[int, Score]:
        """Scores by request index; `report` is told the number of requests done after every batch."""
        packs = plan(requests, self.pack_limit, self.reach)
        branching = [pack for pack in packs if pack.branches]
        if branching and not self._holds("packed", _probe(branching)):
            packs = [Pack((r,), len(r.inputs)) for r in requests]
        if packs:
            self._holds("hidden", _probe(packs))
        budget = self.token_budget
        if not self.works.get("hidden"):
            budget = min(budget, max(1, 4 * FLOATS_AT_ONCE // self._vocabulary()))
        scores: dict[int, Score] = {}
        for batch in batches(packs, budget):
            scores |= self._score_batch(batch, hidden=self.works["hidden"])
            report(len(scores))
        return scores

    def _holds(self, way: str, pack: Pack) -> bool:
        """Whether a way ("packed", "hidden") gives what plain calls give; tried once, on `pack`."""
        if way not in self.works:
            singles = [Pack((r,), len(r.inputs)) for r in pack.requests]
            plain = [self._score_batch([single], hidden=False) for single in singles]
            tolerance = 1e-3 if next(self.model.parameters()).dtype == torch.float32 else 0.1
            try:
                if way == "packed":
                    tried = self._score_batch([pack], hidden=False)
                else:
                    tried = {k: v for single in singles for k, v in self._score_batch([single], hidden=True).items()}
            except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
                # Models differ in how they refuse a mask or lack a base model; the plain way remains.
                self.works[way] = False
                return False
            self.works[way] = all(
                abs(tried[index].loglikelihood - score.loglikelihood) < tolerance * max(1, len(pack.requests))
                for scores in plain
                for index, score in scores.items()
            )
        return self.works[way]

    def _vocabulary(self) -> int:
        return self.model.get_input_embeddings().weight.shape[0]

    def _score_batch(self, packs: Sequence[Pack], *, hidden: bool) -> dict[int, Score]:
        places: list[tuple[int, int]] = []  # (row, column) of every scored token
        for row, pack in enumerate(packs):
            start = pack.shared
            for request in pack.requests:
                # The i-th input stands in column i within the prefix, beyond it behind the earlier rests.
                shift = start - pack.shared
                n = len(request.inputs)
                columns = (i if i < pack.shared else i + shift for i in range(n - len(request.targets), n))
                places += [(row, column) for column in columns]
                start += n - pack.shared
        rows, columns = torch.tensor(places, device=self.device).T
        inputs = self._inputs(packs)
        requests = [r for pack in packs for r in pack.requests]
        targets = torch.tensor([t for r in requests for t in r.targets], device=self.device)
        if hidden:
            states = self.model.base_model(**inputs, use_cache=False)[0][rows, columns]
            head = self.model.get_output_embeddings()
        else:
            states, head = self.model(**inputs, use_cache=False).logits[rows, columns], torch.nn.Identity()
        step = max(1, FLOATS_AT_ONCE // self._vocabulary())
        chunks = [_token_scores(head(s), t) for s, t in zip(states.split(step), targets.split(step), strict=True)]
        logprobs, hits = (torch.cat(part).cpu() for part in zip(*chunks, strict=True))
        counts = [len(r.targets) for r in requests]
        return {
            r.index: Score(float(logprob.sum()), bool(hit.all()))
            for r, logprob, hit in zip(requests, logprobs.split(counts), hits.split(counts), strict=True)
        }

    def _inputs(self, packs: Sequence[Pack]) -> dict[str, torch.Tensor]:
        """Token ids padded on the right and, where a pack holds rests, position ids and the additive mask."""
        width = max(pack.length for pack in packs)
        ids = torch.zeros(len(packs), width, dtype=torch.long)
        branch = torch.full((len(packs), width), -1)  # -1 padding, 0 the prefix, 1.. the rests
        positions = torch.zeros_like(ids)
        for row, pack in enumerate(packs):
            pieces = [(0, 0, pack.requests[0].inputs[: pack.shared])]
            pieces += [(pack.shared, k, r.inputs[pack.shared :]) for k, r in enumerate(pack.requests, 1)]
            column = 0
            for first, number, tokens in pieces:
                where = slice(column, column + len(tokens))
                ids[row, where] = torch.tensor(tokens, dtype=torch.long)
                positions[row, where] = torch.arange(first, first + len(tokens))
                branch[row, where] = number
                column += len(tokens)
        if not any(pack.branches for pack in packs):
            return {"input_ids": ids.to(self.device)}
        same_or_prefix = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
        seen = same_or_prefix & torch.ones(width, width, dtype=torch.bool).tril()
        dtype = next(self.model.parameters()).dtype
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
        return {
            "input_ids": ids.to(self.device),
            "position_ids": positions.to(self.device),
            "attention_mask": mask[:, None].to(self.device),
        }


def _probe(packs: Sequence[Pack]) -> Pack:
    """The longest pack that is still cheap to try out."""
    return min(packs, key=lambda p: (p.length > LONGEST_PROBE, abs(p.length - LONGEST_PROBE)))


def _token_scores(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.float()
    chosen = logits.gather(1, targets[:, None])[:, 0]
    return chosen - logits.logsumexp(-1), logits.argmax(-1) == targets
