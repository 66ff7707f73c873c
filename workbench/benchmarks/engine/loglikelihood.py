"""Token log-likelihoods of many requests: shared prefixes computed once, little padding.

Requests are packed into a row as a tree of tokens: a common prefix is in the row once, and each
token attends to its ancestors only. The result is exact for every model that accepts a
four-dimensional attention mask and position ids. Whether a model does is tested once, against
plain calls; if not, requests are scored one a row. Logits are computed at scored tokens only.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch

from workbench import threads
from workbench.benchmarks.engine.onednn import Layout

LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Config entries of models that change their logits after the output embeddings."""
FLOATS_AT_ONCE = 1 << 23
"""Logits in memory at once."""
REACHES = ("sliding_window", "attention_chunk_size")
"""Config entries that limit how far a token attends; a row's tree mask has no such limit."""
LONGEST_ROW = 2048
"""Tokens a row at most, as the cost of its mask grows with the square."""
LONGEST_TRIAL = 256
"""Tokens of the row on which shortcuts are tested, if there is one as short."""
ATTENTION_COST = 1.5
"""Attention to this many d_model pairs of tokens takes as long as all else does for one token.

By FLOPs it would be about 6, but masked attention runs at a quarter of a matrix product's speed.
"""


_WORKS: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()
"""Which shortcuts were tested to be right for a model: whether rows may branch ("packed"), hidden
states with the output embeddings suffice ("hidden"), and weights may be reordered ("laid out")."""


@dataclass(frozen=True)
class Request:
    """One sequence to score: its last `len(targets)` inputs should predict the `targets`."""

    index: int
    inputs: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a request's targets in nats, and whether greedy decoding gives them."""

    loglikelihood: float
    greedy: bool


class Row:
    """Requests, sorted by their inputs, packed into one row as a tree of tokens.

    Attributes:
        requests: The requests in the row.
        tokens: Token id of each node.
        parents: Index of each node's parent; -1 for a root.
        positions: Position of each node in its own request.
        paths: For each request, the nodes of its inputs.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests: list[Request] = []
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.positions: list[int] = []
        self.paths: list[list[int]] = []
        for request in requests:
            self.add(request, self.shared(request))

    @property
    def length(self) -> int:
        """Tokens in the row."""
        return len(self.tokens)

    @cached_property
    def branches(self) -> bool:
        """Whether the row is more than one plain sequence, so that it needs a tree mask."""
        return any(parent != i - 1 for i, parent in enumerate(self.parents))

    def shared(self, request: Request) -> int:
        """How many of a request's first tokens are in the row already."""
        if not self.requests:
            return 0
        # Requests come sorted, so this one shares most with the last.
        pairs = zip(self.requests[-1].inputs, request.inputs, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def add(self, request: Request, shared: int) -> None:
        """Append a request after the first `shared` tokens, which are in the row already."""
        path = self.paths[-1][:shared] if shared else []
        for position in range(shared, len(request.inputs)):
            self.parents.append(path[-1] if path else -1)
            self.positions.append(position)
            path.append(len(self.tokens))
            self.tokens.append(request.inputs[position])
        self.requests.append(request)
        self.paths.append(path)

    def seen(self) -> torch.Tensor:
        """Attention mask `[query, key]` as booleans: each node sees its ancestors and itself."""
        seen = torch.zeros(self.length, self.length, dtype=torch.bool).numpy()
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return torch.from_numpy(seen)


def plan(requests: Sequence[Request], limit: int, reach: int, worth: float) -> list[Row]:
    """Requests packed into rows, neighbours in lexicographic order together.

    Args:
        requests: What is scored.
        limit: Tokens a row; only a row of one request may be longer.
        reach: Requests of more tokens than this get a row of their own, because the model's
            attention has a window that the tree mask would lift.
        worth: Extra pairs of tokens to attend to that are worth it to save computing one token.
    """
    rows: list[Row] = []
    for request in sorted(requests, key=lambda r: (r.inputs, r.targets)):
        row = rows[-1] if rows else Row([])
        count = len(request.inputs)
        shared = row.shared(request) if count <= reach else 0
        grown = row.length + count - shared
        extra_pairs = grown**2 - row.length**2 - count**2
        if shared and grown <= limit and shared * worth >= extra_pairs:
            row.add(request, shared)
        else:
            rows.append(Row([request]))
    return rows


def batches(rows: Sequence[Row], budget: int) -> list[list[Row]]:
    """Rows of similar length batched together, longest first.

    Args:
        rows: The rows of a plan.
        budget: Tokens a batch at most, with padding.

    Rows that need a tree mask get batches of their own, as it would lift the others' sliding
    window.
    """
    result: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: (r.branches, -r.length)):
        alike = result and result[-1][0].branches == row.branches
        if alike and (len(result[-1]) + 1) * result[-1][0].length <= budget:
            result[-1].append(row)
        else:
            result.append([row])
    return result


class Scorer:
    """Scores requests under one causal language model, in the fastest way that is exact for it."""

    def __init__(self, model: Any, *, n_ctx: int, token_budget: int | None = None) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.row_limit = min(n_ctx, LONGEST_ROW)
        self.reach = min(n_ctx, *(getattr(model.config, name, None) or n_ctx for name in REACHES))
        # On a CPU larger batches leave the cache: measured on a 135 M model, 256 tokens a thread
        # are fastest.
        self.token_budget = token_budget or (
            256 * threads.most() if self.device.type == "cpu" else 32768
        )
        self.vocabulary, d_model = model.get_input_embeddings().weight.shape
        self.worth = ATTENTION_COST * d_model
        changes = [getattr(model.config, name, None) for name in LOGIT_CHANGES]
        self.works = _WORKS.setdefault(model, {})
        self.layout = Layout(model)
        if (
            any(change not in (None, 1, 1.0) for change in changes)
            or model.get_output_embeddings() is None
        ):
            self.works["hidden"] = False

    def score(self, requests: Sequence[Request], report: Callable[[int], None]) -> dict[int, Score]:
        """Scores by request index; `report` gets the number of requests done after every batch."""
        scores: dict[int, Score] = {}
        for batch in self.plan(requests):
            scores |= self.run(batch)
            report(len(scores))
        return scores

    def plan(self, requests: Sequence[Request]) -> list[list[Row]]:
        """Batches of rows, always the same for the same requests.

        The first call for a model tests which shortcuts are exact for it.
        """
        rows = plan(requests, self.row_limit, self.reach, self.worth)
        branching = [row for row in rows if row.branches]
        if branching and not self._holds("packed", _trial_row(branching)):
            rows = [Row([request]) for request in requests]
        if rows:
            self._holds("hidden", _trial_row(rows))
            if self.layout.possible:
                self._holds("laid out", _trial_row(rows))
        budget = self.token_budget
        if not self.works.get("hidden"):
            budget = min(budget, max(1, 4 * FLOATS_AT_ONCE // self.vocabulary))
        return batches(rows, budget)

    def run(self, batch: Sequence[Row]) -> dict[int, Score]:
        """The scores of one batch of `plan`, by request index."""
        threads.fit()
        with self._laid_out(self.works.get("laid out", False)):
            return self._run(batch, hidden=self.works["hidden"])

    def _laid_out(self, wanted: bool) -> AbstractContextManager[None]:
        return self.layout if wanted and self.layout.possible else nullcontext()

    def _holds(self, way: str, row: Row) -> bool:
        """Whether a shortcut gives the scores of plain calls; tested once a model, on `row`.

        Args:
            way: "packed", "hidden" or "laid out", as in `_WORKS`.
            row: A short row to test on.
        """
        if way not in self.works:
            singles = [Row([r]) for r in row.requests]
            plain = self._run(singles, hidden=False)
            tolerance = 1e-3 if next(self.model.parameters()).dtype == torch.float32 else 0.1
            try:
                with self._laid_out(way == "laid out"):
                    tried = self._run([row] if way == "packed" else singles, hidden=way == "hidden")
            except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
                # Models differ in how they refuse a mask or lack a base model; plain calls remain.
                self.works[way] = False
                return False
            differences = [
                abs(tried[index].loglikelihood - score.loglikelihood)
                for index, score in plain.items()
            ]
            self.works[way] = max(differences) < tolerance * len(row.requests)
        return self.works[way]

    @torch.no_grad()
    def _run(self, batch: Sequence[Row], *, hidden: bool) -> dict[int, Score]:
        """The scores of one batch by request index.

        Args:
            batch: The rows.
            hidden: Whether to compute logits at scored tokens only, from the hidden states.
        """
        # (row, node) of every token that predicts one -> its number
        places: dict[tuple[int, int], int] = {}
        # (place, target) -> its number; what requests have in common is scored once
        scored: dict[tuple[int, int], int] = {}
        numbers: dict[int, list[int]] = {}  # by request index: which of `scored` are its targets
        for number, row in enumerate(batch):
            for request, path in zip(row.requests, row.paths, strict=True):
                nodes = path[len(path) - len(request.targets) :]
                pairs = [
                    (places.setdefault((number, node), len(places)), target)
                    for node, target in zip(nodes, request.targets, strict=True)
                ]
                numbers[request.index] = [scored.setdefault(pair, len(scored)) for pair in pairs]
        rows, nodes = torch.tensor(list(places), device=self.device).T
        inputs = self._inputs(batch)
        if hidden:
            states: Any = self.model.base_model(**inputs, use_cache=False)[0][rows, nodes]
            head: Any = self.model.get_output_embeddings()
        else:
            states = self.model(**inputs, use_cache=False).logits[rows, nodes]
            head = torch.nn.Identity()
        logprobs, hits = self._token_scores(states, head, list(scored))
        scores: dict[int, Score] = {}
        for index, places_of in numbers.items():
            loglikelihood = sum(logprobs[i] for i in places_of)
            scores[index] = Score(loglikelihood, all(hits[i] for i in places_of))
        return scores

    def _token_scores(
        self, states: torch.Tensor, head: Any, scored: list[tuple[int, int]]
    ) -> tuple[list[float], list[bool]]:
        """Log-probability in nats, and whether it is the highest, of each (state, target).

        Args:
            states: Hidden states or logits, `[place, d_model or vocabulary]`.
            head: From `states` to logits.
            scored: (place, target token) pairs.
        """
        state, target = torch.tensor(scored, device=self.device).T
        logprobs = torch.empty(len(scored), dtype=torch.float64, device=self.device)
        hits = torch.empty(len(scored), dtype=torch.bool, device=self.device)
        step = max(1, FLOATS_AT_ONCE // self.vocabulary)
        for start in range(0, len(states), step):
            logits = head(states[start : start + step]).float()
            here = ((state >= start) & (state < start + step)).nonzero()[:, 0]
            at = state[here] - start
            chosen = logits[at, target[here]]
            greatest = logits.amax(-1)
            hits[here] = chosen == greatest[at]
            # In place: a second array of this size costs more than what is computed on it.
            normaliser = greatest + logits.sub_(greatest[:, None]).exp_().sum(-1).log()
            logprobs[here] = (chosen - normaliser[at]).double()
        return logprobs.tolist(), hits.tolist()

    def _inputs(self, batch: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Token ids, padded on the right; where a row branches also position ids and additive mask.

        Shapes: `[row, token]`, `[row, token]`, `[row, 1, query, key]`.
        """
        width = max(row.length for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        positions = torch.zeros_like(ids)
        for number, row in enumerate(batch):
            ids[number, : row.length] = torch.tensor(row.tokens)
            positions[number, : row.length] = torch.tensor(row.positions)
        if not any(row.branches for row in batch):
            return {"input_ids": ids.to(self.device)}
        seen = torch.eye(width, dtype=torch.bool).repeat(len(batch), 1, 1)
        for number, row in enumerate(batch):
            seen[number, : row.length, : row.length] = row.seen()
        dtype = next(self.model.parameters()).dtype
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
        return {
            "input_ids": ids.to(self.device),
            "position_ids": positions.to(self.device),
            "attention_mask": mask[:, None].to(self.device),
        }


def _trial_row(rows: Sequence[Row]) -> Row:
    """A short row to test on: two requests that branch if there are such, else one request."""
    row = min(rows, key=lambda r: (r.length > LONGEST_TRIAL, abs(r.length - LONGEST_TRIAL)))
    pairs = (Row(row.requests[i : i + 2]) for i in range(len(row.requests) - 1))
    return next((pair for pair in pairs if pair.branches), Row(row.requests[:1]))
