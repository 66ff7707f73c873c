"""Subject: a model under study, its tokenizer, its card and, on demand, its TransformerLens view."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.records import table_html
from workbench.subjects import identity, spelling
from workbench.subjects.card import Card

SHOWN = 5
"""Pieces of a text named at most, of those that cannot be spelt."""


class TokenCountError(WorkbenchError):
    """A text that should be one token is none or several."""


@dataclass(eq=False, repr=False)
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
        spelling.check_sizes(self.tokenizer, self.d_embed, self.name)

    def __repr__(self) -> str:
        """The model's name, kind, size and hash."""
        card = self.card
        shape = f"{card.n_layers} layers of {card.n_heads} heads, d_model {card.d_model}, {card.n_params:,} parameters"
        return f"<Subject {self.name}: {card.architecture}, {shape}; sha256 {self.hash[:12]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: the card."""
        return {"text/plain": repr(self), "text/html": table_html(self.to_frame(), repr(self))}

    def to_frame(self) -> pd.DataFrame:
        """The card as a table, a row a fact; what is not known is left out."""
        facts = {
            name: value
            for name, value in self.card.to_dict().items()
            if value not in ("", {}, None)
        }
        return pd.DataFrame(
            {"fact": list(facts), "value": [str(value) for value in facts.values()]}
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def n_ctx(self) -> int:
        """Longest input in tokens."""
        return self.card.n_ctx

    @property
    def d_embed(self) -> int:
        """Rows of the token embedding; a padded one has more than the tokenizer has tokens."""
        embedding: Any = self.model.get_input_embeddings()
        return int(embedding.weight.shape[0])

    @property
    def hash(self) -> str:
        """sha256, hexadecimal, of all that it computes with: weights, configuration, tokenizer,
        edits and dtype.
        """
        return identity.in_dtype(self.card.identity or self.card.sha256, self.model.dtype)

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

    def ids(self, text: str) -> list[int]:
        """Token ids of a text of any length, with the special tokens that its tokenizer puts before
        it.

        Tokens that it puts after a text are left off, but for an encoder's; see `notices`. Raises
        `WorkbenchError` for words where the model came without a tokenizer, and for tokens it has
        no row for.
        """
        self._check_words(text)
        end = bool(self.model.config.is_encoder_decoder)
        ids = spelling.read(self.tokenizer, text, end=end)
        spelling.check_ids(self.tokenizer, ids, self.d_embed, self.name)
        return ids

    def _check_words(self, text: str) -> None:
        """Raise `WorkbenchError` for natural text where a text can only be token ids."""
        if not (
            spelling.spells_ids(self.tokenizer)
            and (words := spelling.unspelt(self.tokenizer, text))
        ):
            return
        where = Path(self.card.source)
        raise WorkbenchError(
            f"{self.name} came without a tokenizer, so its text is token ids from 0 to {len(self.tokenizer) - 1}, such "
            f"as '3 1 2', and {words[0]!r} is none. To read words put its tokenizer.json into "
            f"{where.parent if where.suffix else where}, or meta.json with the stoi and itos of nanoGPT's meta.pkl."
        )

    def encode(self, text: str, what: str = "prompt") -> Int[Tensor, "1 pos"]:
        """As `ids`, on the Subject's device.

        Raises `WorkbenchError` when there is nothing to read or more than the context holds.
        """
        if not text:
            raise WorkbenchError(f"The {what} is empty; type some text.")
        ids = self.ids(text)
        if not ids:
            raise WorkbenchError(
                f"The {what} {text!r} has no token in the vocabulary of {self.name}; type other text."
            )
        if len(ids) > self.n_ctx:
            raise WorkbenchError(
                f"The {what} has {len(ids)} tokens, and the context of {self.name} holds {self.n_ctx}; shorten it."
            )
        return torch.tensor([ids], device=self.device)

    def tokens(self, ids: Int[Tensor, "*pos"], *, apart: bool = False) -> list[str]:
        """The text of each token of a running text (see `spelling.labels`); `apart`: they do not
        follow each other.
        """
        return spelling.labels(self.tokenizer, ids.flatten().tolist(), apart=apart)

    def text(self, ids: Int[Tensor, "*pos"], *, skip_special: bool = False) -> str:
        """The running text of ids; one without a token shows as `[383]`."""
        return spelling.decoded(self.tokenizer, ids.flatten().tolist(), skip_special=skip_special)

    def answer_id(self, text: str, what: str = "answer", *, prompt: str = "") -> int:
        """The one token that `text` is, exactly as it continues a prompt (mind the leading space).

        Raises `TokenCountError` when it is none or several, showing how it splits.
        """
        return self.answer_ids(text, what, prompt=prompt)[0]

    def answer_ids(
        self, text: str, what: str = "answer", *, several: bool = False, prompt: str = ""
    ) -> tuple[int, ...]:
        """As `answer_id`; `several` allows any number of tokens but none."""
        self._check_words(text)
        ids = self._continued(prompt, text)
        if not ids or (len(ids) > 1 and not several):
            parts = (
                " + ".join(repr(t) for t in self.tokens(torch.tensor(ids))) if ids else "nothing"
            )
            spaced = "" if text.startswith(" ") or not text else f" {text}"
            helps = bool(spaced) and len(self._continued(prompt, spaced)) == 1
            raise TokenCountError(
                f"The {what} {text!r} is {len(ids)} tokens for {self.name} ({parts}); give a single token"
                + (f", perhaps {spaced!r} with its leading space." if helps else ".")
            )
        spelling.check_ids(self.tokenizer, ids, self.d_embed, self.name)
        return ids

    def _continued(self, prompt: str, answer: str) -> tuple[int, ...]:
        return spelling.continued(self.tokenizer, prompt, answer).ids if answer else ()

    def notices(self, *prompts: str, answers: Sequence[str] = ()) -> list[str]:
        """What to know of how prompts, and answers to the first of them, were read; a sentence
        each.

        Special tokens left off or not put twice, text that the tokenizer cannot spell, answers that
        would merge with the prompt.
        """
        found = self._framed(prompts) + self._unspelt(
            prompts, "prompt" if len(prompts) == 1 else "prompts"
        )
        for answer in answers:
            if prompts and answer and spelling.continued(self.tokenizer, prompts[0], answer).merged:
                shown = " + ".join(
                    map(repr, self.tokens(torch.tensor(self._continued(prompts[0], answer))))
                )
                found.append(
                    f"The prompt's end and the answer {answer!r} written together split into other tokens; it is "
                    f"measured as {shown} after the prompt as it stands."
                )
        return found + self._unspelt(answers, "answer" if len(answers) == 1 else "answers")

    def _framed(self, prompts: Sequence[str]) -> list[str]:
        """Special tokens that a tokenizer puts round a text and that are left off here."""
        around, found = spelling.frame(self.tokenizer), []
        if around.after and not self.model.config.is_encoder_decoder:
            words = "".join(self.tokens(torch.tensor(around.after)))
            found.append(
                f"The tokenizer of {self.name} ends every text with {words}; it is left off, so that what is read "
                "comes after the prompt's own last token."
            )
        if around.before and any(
            spelling.begins(spelling.bare(self.tokenizer, p), around.before) for p in prompts
        ):
            words = "".join(self.tokens(torch.tensor(around.before)))
            found.append(
                f"The prompt begins with {words}, which its tokenizer would put there too; it is there once."
            )
        return found

    def _unspelt(self, texts: Sequence[str], what: str) -> list[str]:
        pieces = [piece for text in texts for piece in spelling.unspelt(self.tokenizer, text)]
        if not pieces:
            return []
        distinct = list(dict.fromkeys(pieces))
        shown = ", ".join(map(repr, distinct[:SHOWN])) + (", ..." if len(distinct) > SHOWN else "")
        return [
            f"The tokenizer of {self.name} cannot spell {len(pieces)} {'piece' if len(pieces) == 1 else 'pieces'} of "
            f"the {what} ({shown}); the model reads its unknown token there, or nothing."
        ]


SubjectOrName = str | Path | Subject
"""A model argument of a public function: what `load` takes, or a Subject."""
