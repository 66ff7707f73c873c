"""Conversations of many formats, read as lists of {role, content}.

Formats: OpenAI's and TRL's `messages`, ShareGPT's `conversations`, `turns` of speakers, TRL's
prompt and completion (text or messages), Alpaca's instruction, input and output, and prompt and
response.
"""

import re
from collections.abc import Mapping
from typing import Any

from workbench.data.columns import is_missing
from workbench.data.leftout import LeftOutError, NoColumnError

Message = dict[str, str]
Record = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "client", "question", "0"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "ai", "agent"), "assistant"),
    **dict.fromkeys(("response", "answer", "1"), "assistant"),
    "system": "system",
    "developer": "system",
}
"""Role by the speaker's name, in lower case."""
TOOLS = ("tool", "function", "observation", "function_call", "function_response", "tool_call")
"""Speakers of conversations with tool calls, which are left out."""
LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns")
"""Columns that hold a whole conversation."""
REPLIES = ("response", "completion", "output", "answer", "chosen")
"""Columns that hold the reply to a `prompt`."""
ALPACA = re.compile(
    r"### Instruction:\s*(.*?)\s*(?:### Input:\s*(.*?)\s*)?### Response:\s*$", re.DOTALL
)
"""A prompt that is written in Alpaca's template already."""


def conversation(record: Record, named: Mapping[str, str]) -> list[Message]:
    """The messages of a record, without blank ones.

    Args:
        record: One row of a data set.
        named: The user's columns for `messages`, `prompt` and `response`.

    Raises:
        LeftOutError: For a record that is not a plain conversation, with the reason.
        NoColumnError: For a record without any of the columns above.
    """
    absent = [column for column in named.values() if column not in record]
    if absent:
        raise NoColumnError(absent[0])
    if named:
        columns = {part: record[column] for part, column in named.items()}
    else:
        columns = {str(name).lower(): value for name, value in record.items()}
    for name in LISTS:
        if name in columns:
            return _messages(columns[name], dialogue=name == "turns")
    if "instruction" in columns:
        parts = [columns["instruction"], columns.get("input")]
        prompt = "\n\n".join(_plain(part) for part in parts if not is_missing(part))
        return _pair(prompt, columns.get("output", columns.get("response")))
    if "prompt" not in columns:
        raise NoColumnError("messages")
    reply = next((columns[name] for name in REPLIES if name in columns), None)
    if isinstance(columns["prompt"], list):
        return [*_messages(columns["prompt"]), *_messages(reply if isinstance(reply, list) else [])]
    return _pair(_unwrapped(_plain(columns["prompt"])), reply)


def _unwrapped(prompt: str) -> str:
    match = ALPACA.search(prompt)
    return "\n\n".join(part for part in match.groups() if part) if match else prompt


def _pair(prompt: str, reply: Any) -> list[Message]:
    answer = "" if is_missing(reply) else _plain(reply)
    if not prompt.strip() or not answer.strip():
        raise LeftOutError("an empty prompt or reply")
    return [
        {"role": "user", "content": prompt.strip()},
        {"role": "assistant", "content": answer.strip()},
    ]


def _messages(value: Any, *, dialogue: bool = False) -> list[Message]:
    """Messages of a list of records, of [speaker, text] pairs, or of a table of turns."""
    if isinstance(value, dict) and {"speaker", "utterance"} <= set(value):
        value = list(zip(value["speaker"], value["utterance"], strict=True))
    if not isinstance(value, list | tuple) or not value:
        raise LeftOutError("no list of messages")
    messages = []
    for entry in value:
        speaker, content = _entry(entry)
        role = _role(speaker, dialogue=dialogue)
        text = _content(content)
        if text:
            messages.append({"role": role, "content": text})
    return messages


def _entry(entry: Any) -> tuple[Any, Any]:
    """Speaker and content of {role, content}, ShareGPT's {from, value}, or a pair."""
    if isinstance(entry, dict):
        if entry.get("tool_calls") or entry.get("function_call"):
            raise LeftOutError("tool calls")
        for who, what in (("role", "content"), ("from", "value"), ("speaker", "text")):
            if who in entry and what in entry:
                return entry[who], entry[what]
        raise LeftOutError("a message without role and content")
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return entry[0], entry[1]
    raise LeftOutError("a message without role and content")


def _role(speaker: Any, *, dialogue: bool) -> str:
    name = str(speaker).strip().lower()
    if name in TOOLS:
        raise LeftOutError("tool calls")
    if dialogue and name == "system":
        return "assistant"  # of a dialogue's two sides; `messages` use the word as templates do
    if name not in ROLES:
        raise LeftOutError(f"an unknown speaker ({str(speaker)[:20]!r})")
    return ROLES[name]


def _content(content: Any) -> str:
    """A message's text; OpenAI's list of parts is joined where all are text."""
    if is_missing(content):
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [text for text in parts if isinstance(text, str)]
        if len(texts) != len(content):
            raise LeftOutError("content that is not text")
        return "\n".join(texts).strip()
    return _plain(content).strip()


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise LeftOutError("content that is not text")
