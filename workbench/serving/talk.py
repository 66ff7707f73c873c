"""A conversation with one or several models: a tree of turns, so that nothing is lost.

Rewriting a turn, or continuing after an earlier one, makes a branch. `path` is the branch shown.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.generation import Completion, Scored
from workbench.jsonable import plain, rebuild

MEND = "give a conversation that was kept here"
VERSION = 1
LONGEST_TITLE = 60


@dataclass(frozen=True)
class Reply:
    """One model's answer.

    - `model`: the name that `load` takes; `sha256`: of its weights
    - `prompt`: the token ids it read; `ids`: those it wrote; `scores`: one per written token
    - `reason`: as in `Completion`
    - `settings`: the fields of the request that the answer depends on
    """

    model: str
    sha256: str
    text: str
    prompt: list[int]
    ids: list[int]
    scores: list[Scored]
    reason: str
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        completion: Completion,
        *,
        model: str,
        sha256: str,
        prompt: list[int],
        settings: dict[str, Any],
    ) -> Self:
        """The reply in a completion.

        Args:
            completion: With scores.
            model: The name that `load` takes.
            sha256: Of its weights.
            prompt: The token ids it read.
            settings: The fields of the request that the answer depends on.
        """
        ids = list(completion.ids)
        scores = list(completion.scores)
        return cls(
            model, sha256, completion.text, list(prompt), ids, scores, completion.reason, settings
        )


@dataclass
class Turn:
    """A user message and the replies to it by model; `parent` is the turn before, or None."""

    number: int
    parent: int | None
    text: str
    replies: dict[str, Reply] = field(default_factory=dict)


@dataclass
class Talk:
    """A conversation: the tree of turns; `at` is the last turn of the branch shown."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    at: int | None = None

    def path(self) -> list[Turn]:
        """The turns of the branch shown, in order."""
        return self._up_to(self.at)

    def _up_to(self, number: int | None) -> list[Turn]:
        turns = []
        while number is not None:
            turns.append(self.turns[number])
            number = self.turns[number].parent
        return turns[::-1]

    def say(self, text: str) -> Turn:
        """Add a turn after the last one shown, show it and return it."""
        return self._add(self.at, text)

    def say_instead(self, turn: Turn, text: str) -> Turn:
        """Add a turn in place of another, which stays in its own branch; returns the new one."""
        return self._add(turn.parent, text)

    def _add(self, parent: int | None, text: str) -> Turn:
        if not text.strip():
            raise WorkbenchError("The message is empty; write something to be answered.")
        turn = Turn(len(self.turns), parent, text)
        self.turns.append(turn)
        self.at = turn.number
        return turn

    def branch(self, turn: Turn) -> None:
        """Continue after this turn; the turns that followed it stay in their own branch."""
        self.at = turn.number

    def siblings(self, turn: Turn) -> list[Turn]:
        """The turns with the same parent, this one included."""
        return [other for other in self.turns if other.parent == turn.parent]

    def children(self, turn: Turn) -> list[Turn]:
        """The turns that directly follow this one, in all branches."""
        return [other for other in self.turns if other.parent == turn.number]

    def show(self, turn: Turn) -> None:
        """Show the branch of a turn, down to its newest end."""
        while following := self.children(turn):
            turn = following[-1]
        self.at = turn.number

    def messages(self, model: str, turn: Turn) -> list[dict[str, str]]:
        """The messages that a model reads to reply to a turn: its exchanges, then the turn.

        Args:
            model: The name of the model; turns that it did not reply to are left out.
            turn: The turn to reply to.
        """
        messages = [{"role": "system", "content": self.system}] if self.system.strip() else []
        for before in self._up_to(turn.parent):
            if model in before.replies:
                messages += _exchange(before, model)
        return [*messages, {"role": "user", "content": turn.text}]

    def models(self) -> list[str]:
        """The names of the models that replied in the branch shown."""
        return list(dict.fromkeys(name for turn in self.path() for name in turn.replies))

    def export(self) -> str:
        """The branch shown as JSONL, one line per model, as chat fine-tuning reads it."""
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines())

    def _lines(self) -> Iterator[dict[str, Any]]:
        for model in self.models():
            turns = [turn for turn in self.path() if model in turn.replies]
            messages = [message for turn in turns for message in _exchange(turn, model)]
            if self.system.strip():
                messages.insert(0, {"role": "system", "content": self.system})
            yield {"messages": messages, "model": model, "sha256": turns[-1].replies[model].sha256}

    def title(self) -> str:
        """The beginning of the first message."""
        words = " ".join(self.turns[0].text.split()) if self.turns else "empty"
        return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 1]}…"

    def to_json(self) -> str:
        """The whole tree as JSON."""
        return json.dumps({"version": VERSION, **plain(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The conversation that `to_json` wrote. Raises `WorkbenchError` for anything else."""
        with reading("The conversation", MEND, "is not a kept conversation"):
            talk = rebuild(cls, json.loads(text))
            for place, turn in enumerate(talk.turns):
                if turn.number != place or not (turn.parent is None or 0 <= turn.parent < place):
                    raise ValueError(f"turn {place} has no place in it")
            if not (talk.at is None or 0 <= talk.at < len(talk.turns)):
                raise ValueError(f"there is no turn {talk.at}")
        return talk


def _exchange(turn: Turn, model: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": turn.text},
        {"role": "assistant", "content": turn.replies[model].text},
    ]
