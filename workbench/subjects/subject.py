"""Subject: a model under study, its tokenizer, its card and, on demand, its TransformerLens view."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects.card import Card

BROKEN = "\ufffd"
"""What a tokenizer decodes bytes to that are no whole character."""
LONGEST = 12
"""Tokens within which a character must be whole: it has four bytes at most, and a token may end amid the next."""


class TokenCountError(WorkbenchError):
    """A text that should be one token is none or several."""


@dataclass(eq=False)
class Subject:
    """One type for every model, wherever the weights came from.

    - `model`: a plain Hugging Face causal model in eval mode, no gradients, on `device`
    - `tokenizer`: its tokenizer; `card`: its facts; `name`: short, for pages and tables
    - `bridge`: the TransformerLens view over the same weights, made when first asked for
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: Card

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def n_ctx(self) -> int:
        """Longest input in tokens."""
        return self.card.n_ctx

    @property
    def hash(self) -> str:
        """sha256 of the weights, hexadecimal."""
        return self.card.sha256

    @cached_property
    def bridge(self) -> Any:
        """The `TransformerBridge`: raw weights, TransformerLens's hook names, `model` untouched.

        Raises `WorkbenchError` for an architecture that TransformerLens cannot name.
        """
        from workbench.subjects.bridge import bridge

        try:
            return bridge(self.model, self.tokenizer, self.name)
        except ValueError as error:
            raise WorkbenchError(
                f"TransformerLens has no view of {self.card.architecture} ({self.name}): {error}. "
                "Benchmarks and chat still work."
            ) from error

    def encode(self, text: str, what: str = "prompt") -> Int[Tensor, "1 pos"]:
        """Token ids on the Subject's device, with the special tokens that its tokenizer adds.

        Raises `WorkbenchError` when there is nothing to read or more than the context holds.
        """
        if not text:
            raise WorkbenchError(f"The {what} is empty; type some text.")
        ids = self.tokenizer(text, return_tensors="pt", verbose=False)["input_ids"].long()
        if ids.shape[1] == 0:
            raise WorkbenchError(f"The {what} {text!r} has no token in the vocabulary of {self.name}; type other text.")
        if ids.shape[1] > self.n_ctx:
            raise WorkbenchError(
                f"The {what} has {ids.shape[1]} tokens, and the context of {self.name} holds {self.n_ctx}; shorten it."
            )
        return ids.to(self.device)

    def tokens(self, ids: Int[Tensor, "*pos"], *, apart: bool = False) -> list[str]:
        """The text of each token of a running text; `apart` says that they do not follow each other.

        Bytes that make up a character together each show it with their place, as in "ש⟨1/2⟩"; a byte whose character
        is not whole shows as the tokenizer spells it.
        """
        flat = ids.flatten().tolist()
        found = [self.tokenizer.decode([i]) for i in flat]
        spelt = self.tokenizer.convert_ids_to_tokens(flat)
        at = 0
        while at < len(flat):
            n = 1
            if BROKEN in found[at] or not found[at]:
                whole, n = ("", 1) if apart else self._character(flat[at : at + LONGEST])
                found[at : at + n] = [f"{whole}⟨{i}/{n}⟩" for i in range(1, n + 1)] if whole else [spelt[at]]
            at += n
        return found

    def _character(self, ids: list[int]) -> tuple[str, int]:
        """The text of as few tokens as make whole characters, and how many they are; "" and 1 where none do."""
        for n in range(2, len(ids) + 1):
            if (text := self.tokenizer.decode(ids[:n])) and BROKEN not in text:
                return text, n
        return "", 1

    def answer_id(self, text: str, what: str = "answer") -> int:
        """The one token that `text` is, exactly as it continues a prompt (mind the leading space).

        Raises `TokenCountError` when it is none or several, showing how it splits.
        """
        return self.answer_ids(text, what)[0]

    def answer_ids(self, text: str, what: str = "answer", *, several: bool = False) -> tuple[int, ...]:
        """As `answer_id`; `several` allows any number of tokens but none."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        if not ids or (len(ids) > 1 and not several):
            parts = " + ".join(repr(t) for t in self.tokens(torch.tensor(ids))) if ids else "nothing"
            raise TokenCountError(
                f"The {what} {text!r} is {len(ids)} tokens for {self.name} ({parts}); give a single token"
                + ("." if text.startswith(" ") or not text else f", perhaps {' ' + text!r} with its leading space.")
            )
        return tuple(ids)
