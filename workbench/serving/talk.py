"""A conversation with one model or several: a tree of turns, in which what was said before is never
lost.

Saying something else in a turn's place, or going on anew after it, makes a branch. `path` is the
branch that is shown.
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
    """What one model answered.

    - `model`: by the name that `load` takes; `sha256`: of the weights that answered
    - `prompt`: the tokens that were read; `ids`: those written, with `scores`, one a token
    - `reason`: as in `Completion`; `settings`: the fields of the request that the answer hangs on
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
        """The reply that a completion is."""
        ids = list(completion.ids)
        scores = list(completion.scores)
        return cls(
            model, sha256, completion.text, list(prompt), ids, scores, completion.reason, settings
        )


@dataclass
class Turn:
    """What the user said, and what each model replied, by its name; `parent` is the turn before,
    None for the first.
    """

    number: int
    parent: int | None
    text: str
    replies: dict[str, Reply] = field(default_factory=dict)


@dataclass
class Talk:
    """The tree of turns; `at` is the last turn of the branch that is shown."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    at: int | None = None

    def path(self) -> list[Turn]:
        """The turns of the branch that is shown, the first one first."""
        return self._up_to(self.at)

    def _up_to(self, number: int | None) -> list[Turn]:
        found = []
        while number is not None:
            found.append(self.turns[number])
            number = self.turns[number].parent
        return found[::-1]

    def say(self, text: str) -> Turn:
        """A new turn after the last one shown; it is shown from now on."""
        return self._add(self.at, text)

    def say_instead(self, turn: Turn, text: str) -> Turn:
        """A new turn in the place of another, which stays in a branch of its own."""
        return self._add(turn.parent, text)

    def _add(self, parent: int | None, text: str) -> Turn:
        if not text.strip():
            raise WorkbenchError("The message is empty; write something to be answered.")
        turn = Turn(len(self.turns), parent, text)
        self.turns.append(turn)
        self.at = turn.number
        return turn

    def branch(self, turn: Turn) -> None:
        """Go on anew after this turn: what was said next stays in its own branch."""
        self.at = turn.number

    def siblings(self, turn: Turn) -> list[Turn]:
        """The turns that stand in the same place, this one among them."""
        return [other for other in self.turns if other.parent == turn.parent]

    def children(self, turn: Turn) -> list[Turn]:
        """The turns that follow one, in all branches."""
        return [other for other in self.turns if other.parent == turn.number]

    def show(self, turn: Turn) -> None:
        """Show the branch of a turn, to its newest end."""
        while following := self.children(turn):
            turn = following[-1]
        self.at = turn.number

    def messages(self, model: str, turn: Turn) -> list[dict[str, str]]:
        """What a model reads when it is to reply to a turn: the turns that it replied to itself,
        and this one.
        """
        found = [{"role": "system", "content": self.system}] if self.system.strip() else []
        for before in self._up_to(turn.parent):
            if model in before.replies:
                found += _exchange(before, model)
        return [*found, {"role": "user", "content": turn.text}]

    def models(self) -> list[str]:
        """Who replied in the branch that is shown."""
        return list(dict.fromkeys(name for turn in self.path() for name in turn.replies))

    def export(self) -> str:
        """The branch that is shown as JSONL, a line a model, as fine-tuning on chats reads it; ""
        for none.
        """
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines())

    def _lines(self) -> Iterator[dict[str, Any]]:
        for model in self.models():
            turns = [turn for turn in self.path() if model in turn.replies]
            said = [message for turn in turns for message in _exchange(turn, model)]
            if self.system.strip():
                said.insert(0, {"role": "system", "content": self.system})
            yield {"messages": said, "model": model, "sha256": turns[-1].replies[model].sha256}

    def title(self) -> str:
        """The beginning of what was said first."""
        words = " ".join(self.turns[0].text.split()) if self.turns else "empty"
        return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 1]}…"

    def to_json(self) -> str:
        """The whole tree."""
        return json.dumps({"version": VERSION, **plain(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The tree that `to_json` wrote. Raises `WorkbenchError` for anything else."""
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
