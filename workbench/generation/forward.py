"""One forward pass over the next columns of a cache, for any causal model that supports it.

Whether a model supports it is tested, not looked up: a few tokens through the cache, alone and
batched with another text, must give the logits of a plain forward pass.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.generation.kv import KV, Place, together, with_prefixes
from workbench.generation.shortcut import shortcut

TOGETHER = "together"
ALONE = "alone"
WHOLE = "whole"
"""Ways to run a model: texts batched; one text per pass; whole texts again for each token."""
TRIED = 8
"""Tokens of the longer text in that test."""
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Largest difference of logits, relative to the largest logit, that counts as equal."""
_WAYS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class Forward:
    """A causal model as a function from tokens and a cache to logits.

    - `way`: `TOGETHER`, `ALONE` or `WHOLE`, as the test on the model says
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        names = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in names
        self._takes_keep = "logits_to_keep" in names
        self._cache = "past_key_values" if "past_key_values" in names else "cache"
        self.shortcut = shortcut(model)
        if model not in _WAYS:
            _WAYS[model] = self._try_out()
        self.way = _WAYS[model]

    @torch.no_grad()
    def columns(
        self, kv: KV, texts: Sequence[Sequence[int]], stop: int, *, every: bool = False
    ) -> Tensor:
        """Run columns `kv.end` to `stop` of the texts through the model and into the cache.

        Args:
            kv: The cache, one row per text; it is extended.
            texts: The token ids of each row's whole text.
            stop: The column after the last one to run.
            every: Whether to return the logits of all columns, not just the last.

        Returns:
            Logits `[row, 1, d_vocab]`, or `[row, column, d_vocab]` with `every`.
        """
        begin = kv.end
        device = self.model.device
        kv.reserve(stop - begin)
        # Texts are flush right: columns before a text's start hold token 0, masked below.
        ids = [
            [text[c - start] if start <= c else 0 for c in range(begin, stop)]
            for text, start in zip(texts, kv.starts, strict=True)
        ]
        plain = partial(self._run, kv, torch.tensor(ids, device=device), stop, every=every)
        # All texts have begun, none has a cached beginning left to pass, and the cache is in use.
        running = begin >= max(1, *kv.starts, *kv.known)
        if every or stop - begin > 1 or not running:
            return plain()
        return self.shortcut.logits([row[0] for row in ids], kv, plain, self.model)

    def _run(self, kv: KV, ids: Tensor, stop: int, *, every: bool) -> Tensor:
        begin = kv.end
        device = ids.device
        starts = torch.tensor(kv.starts, device=device)[:, None]
        at = torch.arange(stop, device=device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": True, self._cache: kv}
        if max(kv.starts) > 0:
            inputs["attention_mask"] = (at >= starts).long()
        if self._takes_positions:
            inputs["position_ids"] = (at[begin:] - starts).clamp(min=0)
        if self._takes_keep and not every:
            inputs["logits_to_keep"] = 1
        kv.real = self._real(kv, begin, stop, device)
        try:
            logits = self.model(**inputs).logits
        finally:
            kv.real = None
        kv.end = stop
        return logits if every else logits[:, -1:]

    def _real(self, kv: KV, begin: int, stop: int, device: torch.device) -> Tensor | None:
        """The columns to write, `[row, column]`: not padding, nor cached ones; None for all."""
        first = torch.tensor(
            [max(start, known) for start, known in zip(kv.starts, kv.known, strict=True)]
        )
        if int(first.max()) <= begin:
            return None
        return (torch.arange(begin, stop) >= first[:, None]).to(device)

    @torch.no_grad()
    def whole(self, text: Sequence[int]) -> Tensor:
        """Logits `[pos, d_vocab]` of a text by a plain forward pass."""
        return self.model(
            torch.tensor([list(text)], device=self.model.device), use_cache=False
        ).logits[0]

    def _try_out(self) -> str:
        """The fastest way whose logits equal those of plain forward passes."""
        n_vocab = self.model.get_input_embeddings().weight.shape[0]
        texts = [[(7 * i + 1) % n_vocab for i in range(n)] for n in (TRIED, TRIED - 3)]
        wanted = [self.whole([*text, 0]) for text in texts]
        close = CLOSE.get(self.model.dtype, 0.05) * max(float(w.abs().max()) for w in wanted)
        for way, rows in ((TOGETHER, [0, 1]), (ALONE, [0])):
            if way == TOGETHER and not self._takes_positions:
                continue  # it would count padding columns as positions
            try:
                differences = self._differences([texts[i] for i in rows], [wanted[i] for i in rows])
            except Exception:  # a foreign forward may raise anything on an unfamiliar cache
                continue
            if max(differences) <= close:
                return way
        return WHOLE

    def _differences(self, texts: list[list[int]], wanted: list[Tensor]) -> list[float]:
        """Largest logit differences to plain passes: in chunks, and after regrouping the cache."""
        kv = with_prefixes([len(text) for text in texts], [None] * len(texts))
        self.columns(kv, texts, TRIED - 2)
        # (logits, the position of the plain pass that they must equal)
        checked = [(self.columns(kv, texts, TRIED), -2)]
        kv = together([Place(kv, row) for row in range(len(texts))])
        checked.append((self.columns(kv, [[*text, 0] for text in texts], kv.end + 1), -1))
        return [
            float((logits[row, -1] - wanted[row][at]).abs().max())
            for logits, at in checked
            for row in range(len(texts))
        ]
