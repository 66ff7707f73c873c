"""Subject: a model under study with its tokenizer, card and TransformerLens view."""

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
from workbench.subjects.kinds import DECODER, kind_of_model
from workbench.subjects.modules import n_embedding_rows

SHOWN = 5
"""Most pieces of unspellable text that a notice names."""


class TokenCountError(WorkbenchError):
    """A text that must be one token is none or several."""


@dataclass(eq=False, repr=False)
class Subject:
    """A model under study, wherever its weights come from.

    - `name`: short name for pages and tables
    - `model`: a plain Hugging Face causal model in eval mode, without gradients, on `device`
    - `tokenizer`: its tokenizer
    - `card`: facts about it
    - `bridge`: TransformerLens view over the same weights, made on first use
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: Card

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        spelling.check_sizes(self.tokenizer, self.d_embed, self.name)

    def __repr__(self) -> str:
        """Name, architecture, size and hash on one line."""
        card = self.card
        shape = (
            f"{card.n_layers} layers of {card.n_heads} heads, d_model {card.d_model}, "
            f"{card.n_params:,} parameters"
        )
        return f"<Subject {self.name}: {card.architecture}, {shape}; sha256 {self.hash[:12]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: the card."""
        return {"text/plain": repr(self), "text/html": table_html(self.to_frame(), repr(self))}

    def to_frame(self) -> pd.DataFrame:
        """The card as a table with one row per known fact."""
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
        """The device of the weights."""
        return self.model.device

    @property
    def kind(self) -> str:
        """What the model is: decoder, encoder or encoder-decoder (see `kinds`)."""
        return kind_of_model(self.model)

    @property
    def n_ctx(self) -> int:
        """Context length: the longest input in tokens."""
        return self.card.n_ctx

    @property
    def d_embed(self) -> int:
        """Rows of the token embedding; may be more than the tokenizer has tokens."""
        return n_embedding_rows(self.model)

    @property
    def hash(self) -> str:
        """Hexadecimal sha256 over weights, configuration, tokenizer, edits and dtype."""
        return identity.in_dtype(self.card.identity or self.card.sha256, self.model.dtype)

    @cached_property
    def bridge(self) -> Any:
        """The `TransformerBridge`: TransformerLens's hooks over unprocessed weights.

        Hooks on it do not affect `model`.

        Raises:
            WorkbenchError: TransformerLens does not know the architecture.
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
        """Token ids of a text of any length, with the special tokens that belong before it.

        Special tokens that belong after a text are left off, except for an encoder's; see
        `notices`.

        Raises:
            WorkbenchError: The model has no tokenizer and the text is not token ids, or the text
                has a token without a row in the embedding.
        """
        self._check_words(text)
        end = self.kind != DECODER
        ids = spelling.read(self.tokenizer, text, end=end)
        spelling.check_ids(self.tokenizer, ids, self.d_embed, self.name)
        return ids

    def _check_words(self, text: str) -> None:
        """Raise `WorkbenchError` for natural text where texts can only be token ids."""
        if not spelling.spells_ids(self.tokenizer):
            return
        words = spelling.unspelt(self.tokenizer, text)
        if not words:
            return
        where = Path(self.card.source)
        raise WorkbenchError(
            f"{self.name} came without a tokenizer, so its text is token ids from 0 to "
            f"{len(self.tokenizer) - 1}, such as '3 1 2', and {words[0]!r} is none. To read words "
            f"put its tokenizer.json into {where.parent if where.suffix else where}, or meta.json "
            "with the stoi and itos of nanoGPT's meta.pkl."
        )

    def encode(self, text: str, what: str = "prompt") -> Int[Tensor, "1 pos"]:
        """Token ids `[1, pos]` of a prompt on the Subject's device, ready for the model.

        Args:
            text: The prompt; special tokens are added as in `ids`.
            what: What the text is, for messages.

        Raises:
            WorkbenchError: The text is empty or longer than the context.
        """
        if not text:
            raise WorkbenchError(f"The {what} is empty; type some text.")
        ids = self.ids(text)
        if not ids:
            raise WorkbenchError(
                f"The {what} {text!r} has no token in the vocabulary of {self.name}; type other "
                "text."
            )
        if len(ids) > self.n_ctx:
            raise WorkbenchError(
                f"The {what} has {len(ids)} tokens, and the context of {self.name} holds "
                f"{self.n_ctx}; shorten it."
            )
        return torch.tensor([ids], device=self.device)

    def tokens(self, ids: Int[Tensor, "*pos"], *, unrelated: bool = False) -> list[str]:
        """The text of each token (see `spelling.labels`).

        Args:
            ids: Token ids of any shape, flattened.
            unrelated: Whether the ids are no running text; characters of several tokens are then
                not joined.
        """
        return spelling.labels(self.tokenizer, ids.flatten().tolist(), unrelated=unrelated)

    def text(self, ids: Int[Tensor, "*pos"], *, skip_special: bool = False) -> str:
        """The text of ids; an id without a token shows as `[383]`.

        Args:
            ids: Token ids of any shape, flattened.
            skip_special: Whether to leave out special tokens.
        """
        return spelling.decoded(self.tokenizer, ids.flatten().tolist(), skip_special=skip_special)

    def answer_id(self, text: str, what: str = "answer", *, prompt: str = "") -> int:
        """The token id of a single-token answer, as it continues a prompt.

        Args:
            text: The answer, with its leading space where it has one.
            what: What the text is, for messages.
            prompt: The prompt that it continues.

        Raises:
            TokenCountError: The answer is none or several tokens; the message shows them.
        """
        return self.answer_ids(text, what, prompt=prompt)[0]

    def answer_ids(
        self, text: str, what: str = "answer", *, several: bool = False, prompt: str = ""
    ) -> tuple[int, ...]:
        """The token ids of an answer, as it continues a prompt.

        Args:
            text: The answer, with its leading space where it has one.
            what: What the text is, for messages.
            several: Whether more than one token is allowed.
            prompt: The prompt that it continues.

        Raises:
            TokenCountError: The answer has no token, or several where one is needed.
        """
        self._check_words(text)
        ids = self._continued(prompt, text)
        if not ids or (len(ids) > 1 and not several):
            parts = self._joined(ids) if ids else "nothing"
            spaced = "" if text.startswith(" ") or not text else f" {text}"
            helps = bool(spaced) and len(self._continued(prompt, spaced)) == 1
            raise TokenCountError(
                f"The {what} {text!r} is {len(ids)} tokens for {self.name} ({parts}); give a "
                "single token" + (f", perhaps {spaced!r} with its leading space." if helps else ".")
            )
        spelling.check_ids(self.tokenizer, ids, self.d_embed, self.name)
        return ids

    def _joined(self, ids: Sequence[int]) -> str:
        """The tokens in quotes, joined by plus signs."""
        return " + ".join(map(repr, self.tokens(torch.tensor(ids))))

    def _continued(self, prompt: str, answer: str) -> tuple[int, ...]:
        return spelling.continued(self.tokenizer, prompt, answer).ids if answer else ()

    def notices(self, *prompts: str, answers: Sequence[str] = ()) -> list[str]:
        """Notices about how prompts and answers are tokenized, one sentence each.

        They name special tokens that are left off or not repeated, text that the tokenizer cannot
        spell, and answers that would merge with the prompt.

        Args:
            prompts: Prompts of the model.
            answers: Answers to the first prompt.
        """
        sentences = self._framed(prompts)
        sentences += self._unspelt(prompts, "prompt" if len(prompts) == 1 else "prompts")
        for answer in answers:
            if prompts and answer and spelling.continued(self.tokenizer, prompts[0], answer).merged:
                shown = self._joined(self._continued(prompts[0], answer))
                sentences.append(
                    f"The prompt's end and the answer {answer!r} written together split into other "
                    f"tokens; it is measured as {shown} after the prompt as it stands."
                )
        return sentences + self._unspelt(answers, "answer" if len(answers) == 1 else "answers")

    def _framed(self, prompts: Sequence[str]) -> list[str]:
        """Notices about special tokens that are left off or not repeated."""
        around = spelling.frame(self.tokenizer)
        sentences = []
        if around.after and self.kind == DECODER:
            words = "".join(self.tokens(torch.tensor(around.after)))
            sentences.append(
                f"The tokenizer of {self.name} ends every text with {words}; it is left off, so "
                "that what is read comes after the prompt's own last token."
            )
        if around.before and any(
            spelling.begins(spelling.bare(self.tokenizer, p), around.before) for p in prompts
        ):
            words = "".join(self.tokens(torch.tensor(around.before)))
            sentences.append(
                f"The prompt begins with {words}, which its tokenizer would put there too; it is "
                "there once."
            )
        return sentences

    def _unspelt(self, texts: Sequence[str], what: str) -> list[str]:
        """A notice about text that the tokenizer cannot spell; [] where there is none."""
        pieces = [piece for text in texts for piece in spelling.unspelt(self.tokenizer, text)]
        if not pieces:
            return []
        distinct = list(dict.fromkeys(pieces))
        shown = ", ".join(map(repr, distinct[:SHOWN])) + (", ..." if len(distinct) > SHOWN else "")
        return [
            f"The tokenizer of {self.name} cannot spell {len(pieces)} "
            f"{'piece' if len(pieces) == 1 else 'pieces'} of the {what} ({shown}); the model reads "
            "its unknown token there, or nothing."
        ]


SubjectOrName = str | Path | Subject
"""A model argument of a public function: a name or path that `load` takes, or a Subject."""
