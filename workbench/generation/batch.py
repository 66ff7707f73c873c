"""Continuous batching: requests join and leave between steps and share every forward pass."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.generation.forward import TOGETHER, WHOLE, Forward
from workbench.generation.kv import KV, Place, together, with_prefixes
from workbench.generation.prefixes import SHORTEST, Prefixes, common, cut
from workbench.generation.request import Causal, Completion, Request
from workbench.generation.row import Row, all_scored
from workbench.generation.shortcut import LARGEST

READ_AT_ONCE = 512
"""Prompt tokens read per step; small, so that running texts need not wait long for a new one."""
READ_ALONE = 1 << 12
"""The same when all requests are known at once and nobody waits for the next token."""


class Lane:
    """Rows that share a cache; the last token of each row is not in it yet."""

    def __init__(self, kv: KV, rows: list[Row]) -> None:
        self.kv = kv
        self.rows = rows


class Batch:
    """The requests of one model; each call of `step` advances all of them by a token.

    Args:
        subject: The model; it is not changed.
        most_rows: Maximum of texts generated at once; others wait.
        most_tokens: Maximum of tokens in the shared cache, new ones included; a longer text runs
            alone.
        prefix_bytes: Memory for the cached keys and values of prompt beginnings.
        read_at_once: Prompt tokens read per step.
        copy_bytes: Size up to which a model's weights may be copied into a faster order.
    """

    def __init__(
        self,
        subject: Causal,
        *,
        most_rows: int = 16,
        most_tokens: int = 1 << 16,
        prefix_bytes: int = 1 << 28,
        read_at_once: int = READ_AT_ONCE,
        copy_bytes: int = LARGEST,
    ) -> None:
        self.subject = subject
        self.forward = Forward(subject.model)
        self.forward.shortcut.largest = copy_bytes
        self.most_rows = most_rows
        self.most_tokens = most_tokens
        self.read_at_once = read_at_once
        self.prefixes = Prefixes(prefix_bytes)
        self.waiting: deque[Row] = deque()
        self.joining: Lane | None = None
        self.lanes: list[Lane] = []

    @property
    def n_rows(self) -> int:
        """The number of texts in generation."""
        return sum(len(lane.rows) for lane in self.lanes) + (
            len(self.joining.rows) if self.joining else 0
        )

    def add(self, request: Request, done: Callable[[Completion], None]) -> Row:
        """Queue a request and return its row.

        Args:
            request: What to generate.
            done: Called with the completion when it ends.

        Raises:
            WorkbenchError: For an empty prompt, unknown tokens, or more tokens than the context.
        """
        check(self.subject, request)
        row = Row(request, self.subject.tokenizer, done)
        self.waiting.append(row)
        return row

    def step(self) -> bool:
        """Read part of new prompts and generate one token per text; False if nothing is left."""
        self._let_go()
        if self.joining is None:
            self.joining = self._next_to_join()
        if self.joining is not None and self._read(self.joining):
            lane = self.joining
            self.joining = None
            self._join(lane)
        for lane in list(self.lanes):
            self._write(lane)
        return bool(self.waiting or self.joining or self.lanes)

    def _let_go(self) -> None:
        """Remove cancelled requests."""
        for row in [row for row in self.waiting if row.cancelled]:
            self.waiting.remove(row)
            _end(row, "cancelled")
        if self.joining is not None and all(row.cancelled for row in self.joining.rows):
            for row in self.joining.rows:
                _end(row, "cancelled")
            self.joining = None
        for lane in list(self.lanes):
            for row in lane.rows:
                row.reason = row.reason or ("cancelled" if row.cancelled else "")
            self._leave(lane)

    def _next_to_join(self) -> Lane | None:
        """The requests to read next, with their cached beginnings; None if there is no room."""
        room = min(self.most_rows - self.n_rows, len(self.waiting))
        if room < 1:
            return None
        rows: list[Row] = []
        most = room if self.forward.way == TOGETHER else 1
        blocks = []
        others = [row for lane in self.lanes for row in lane.rows]
        for row in list(self.waiting):
            if not self._fits([*others, *rows, row]):
                break
            known, block = (0, None) if row.request.score_prompt else self._known(row)
            if self._better_later(row, rows, known):
                continue
            row.reused = known
            rows.append(row)
            blocks.append(block)
            if len(rows) == most:
                break
        if not rows:
            return None
        for row in rows:
            self.waiting.remove(row)
        return Lane(with_prefixes([len(row.ids) for row in rows], blocks), rows)

    def _fits(self, rows: list[Row]) -> bool:
        """Whether the cache of these rows, as wide as the longest for all, stays within bounds."""
        longest = max(len(row.request.prompt) + row.request.most for row in rows)
        return len(rows) == 1 or len(rows) * longest <= self.most_tokens

    def _known(self, row: Row) -> tuple[int, list | None]:
        """How many tokens of a prompt are cached, in finished or running texts, and their block.

        The last token is always read, as its logits are needed.
        """
        if self.forward.way == WHOLE:
            return 0, None
        wanted = row.ids[:-1]
        n, block = self.prefixes.best(wanted)
        for lane in self.lanes:
            for at, other in enumerate(lane.rows):
                shared = common(other.ids[:-1], wanted)
                if shared > max(n, SHORTEST - 1):
                    n = shared
                    block = lane.kv.block(at, shared)
        return (n, cut(block, n)) if block else (0, None)

    def _better_later(self, row: Row, rows: list[Row], known: int) -> bool:
        """Whether a request gains by waiting: it shares more with one being read than is cached."""
        if row.request.score_prompt or self.forward.way == WHOLE:
            return False
        return any(common(row.ids[:-1], other.ids) >= known + SHORTEST for other in rows)

    def _read(self, lane: Lane) -> bool:
        """Read the next columns of the prompts; True once all are read."""
        kv = lane.kv
        rows = lane.rows
        if self.forward.way == WHOLE:
            logits = self.forward.whole(rows[0].ids)[None]
            begin = 0
        else:
            begin = kv.end
            width = kv.starts[0] + len(rows[0].ids)
            stop = min(width, begin + max(1, self.read_at_once // len(rows)))
            every = any(row.request.score_prompt for row in rows)
            logits = self.forward.columns(kv, [row.ids for row in rows], stop, every=every)
            if every:
                self._score(lane, logits, begin)
            if stop < width:
                return False
        if self.forward.way == WHOLE and rows[0].request.score_prompt:
            self._score(lane, logits, begin)
        self._choose(rows, logits[:, -1])
        return True

    def _score(self, lane: Lane, logits: Tensor, begin: int) -> None:
        """Score the prompt tokens that follow the columns just read.

        `logits` is `[row, column, d_vocab]`, beginning with column `begin` of the cache.
        """
        for at, row in enumerate(lane.rows):
            if not row.request.score_prompt:
                continue
            first = max(begin, lane.kv.starts[at])
            tokens = row.ids[first - lane.kv.starts[at] + 1 :][: begin + logits.shape[1] - first]
            if tokens:
                inside = logits[at, first - begin :][: len(tokens)]
                row.prompt_scores += all_scored(inside, tokens, row.request.top or 0)

    def _join(self, lane: Lane) -> None:
        """Merge a lane whose prompts have been read into the running one."""
        self._leave(lane, joined=False)
        if not lane.rows:
            return
        if self.forward.way == TOGETHER and self.lanes:
            first = self.lanes[0]
            places = [Place(each.kv, at) for each in (first, lane) for at in range(len(each.rows))]
            first.rows = first.rows + lane.rows
            first.kv = together(places)
        else:
            self.lanes.append(lane)

    def _write(self, lane: Lane) -> None:
        """Generate one token for every row of a lane."""
        rows = lane.rows
        if self.forward.way == WHOLE:
            logits = self.forward.whole(rows[0].ids)[None, -1]
        else:
            logits = self.forward.columns(lane.kv, [row.ids for row in rows], lane.kv.end + 1)[
                :, -1
            ]
        self._choose(rows, logits)
        self._leave(lane)

    def _choose(self, rows: list[Row], logits: Tensor) -> None:
        """Take the next token of each row, from logits `[row, d_vocab]`."""
        likeliest = logits.argmax(-1).tolist() if any(row.plain for row in rows) else []
        for at, row in enumerate(rows):
            if not row.request.most:
                row.reason = "length"
            elif row.plain:
                row.take(likeliest[at])
            else:
                row.next(logits[at].float())

    def _leave(self, lane: Lane, *, joined: bool = True) -> None:
        """Remove the rows that ended and cache their keys and values for prompts that begin alike.

        `joined` is False for a lane that is not in `self.lanes` yet.
        """
        if not any(row.reason for row in lane.rows):
            return
        for at, row in enumerate(lane.rows):
            if row.reason:
                self._keep(lane.kv, at, row)
                row.finish()
        stay = [at for at, row in enumerate(lane.rows) if not row.reason]
        lane.rows = [lane.rows[at] for at in stay]
        if stay and self.forward.way != WHOLE:
            lane.kv = together([Place(lane.kv, at) for at in stay])
        elif not stay and joined:
            self.lanes.remove(lane)

    def _keep(self, kv: KV, at: int, row: Row) -> None:
        """Cache the beginning of row `at` if it is worth it and not cached yet."""
        n = 0 if self.forward.way == WHOLE else kv.length(at)
        if n >= SHORTEST and not row.request.score_prompt and not self.prefixes.covers(row.ids[:n]):
            self.prefixes.keep(row.ids[:n], kv.block(at, n))


def _end(row: Row, reason: str) -> None:
    row.reason = reason
    row.finish()


def check(subject: Causal, request: Request) -> None:
    """Raise `WorkbenchError` for a request that this model cannot serve."""
    n = len(request.prompt)
    n_ctx = subject.n_ctx
    if not n:
        raise WorkbenchError(
            f"The prompt is empty; {subject.name} needs at least one token to go on from."
        )
    if request.most < 0:
        raise WorkbenchError(f"{request.most} new tokens were asked for; ask for 0 or more.")
    if n + max(request.most - 1, 0) > n_ctx:  # the last new token is never read
        raise WorkbenchError(
            f"The context of {subject.name} holds {n_ctx} tokens; the prompt has {n} and "
            f"{request.most} new ones were asked for. Shorten the prompt, or ask for fewer."
        )
    if not all(0 <= token < subject.d_embed for token in request.prompt):
        raise WorkbenchError(
            f"A token of the prompt is none of {subject.name}; they go from 0 to "
            f"{subject.d_embed - 1}."
        )
    beyond = [
        t for t in (*request.sampling.logit_bias, *request.ends) if not 0 <= t < subject.d_embed
    ]
    if beyond:
        raise WorkbenchError(
            f"Token {beyond[0]} is none of {subject.name}; they go from 0 to {subject.d_embed - 1}."
        )


def end_tokens(subject: Causal) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and those of the model's generation config."""
    named: Any = getattr(subject.model.generation_config, "eos_token_id", None)
    named = named if isinstance(named, list) else [named]
    own: Any = subject.tokenizer.eos_token_id
    ends = {*named, own}
    return frozenset(token for token in ends if token is not None and 0 <= token < subject.d_embed)


def write(
    subject: Causal,
    requests: list[Request],
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Completion]:
    """The completions of many requests, in order, generated in the caller's thread.

    Args:
        subject: The model.
        requests: All at once, so that they share forward passes.
        progress: Called with the share done after every completion.

    Raises:
        WorkbenchError: For a request that the model cannot serve.
    """
    batch = Batch(subject, most_rows=max(16, min(64, len(requests))), read_at_once=READ_ALONE)
    completions: dict[int, Completion] = {}

    def done(index: int, completion: Completion) -> None:
        completions[index] = completion
        progress(len(completions) / len(requests))

    for index, request in enumerate(requests):
        batch.add(request, partial(done, index))
    with torch.no_grad():
        while batch.step():
            pass
    return [completions[index] for index in range(len(requests))]
