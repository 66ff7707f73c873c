"""Conversations as a model reads them: its own chat template, or the plain one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects.spelling import bare, frame

PLAIN = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""The chat template of a model that has none."""
TURN = "\nUser:"
"""With which a model that continues the plain template goes on to the next turn."""

PASSAGE = "{context}\nQuestion: {question}\nAnswer:"
"""A question about a passage, as fine-tuning on questions writes it; the answer goes on after it,
to the line's end.
"""


class ChatPrompt(NamedTuple):
    """A conversation's tokens, up to where the assistant begins to speak.

    - `plain`: the model has no chat template of its own; `stops`: strings that end its turn then
    """

    ids: list[int]
    plain: bool
    stops: tuple[str, ...]


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None = None,
) -> ChatPrompt:
    """What a model reads that is to speak next; the plain template gets the special tokens that
    begin a text.

    Raises `WorkbenchError` for a conversation that the template cannot write.
    """
    plain = not tokenizer.chat_template
    ids = bare(tokenizer, render(tokenizer, messages, True, tools))
    return ChatPrompt(
        [*frame(tokenizer).before, *ids] if plain else ids, plain, (TURN,) if plain else ()
    )


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    ask: bool = False,
    tools: Sequence[Any] | None = None,
) -> str:
    """Messages as the chat template writes them; with `ask` up to where the assistant begins to
    speak.

    Raises `WorkbenchError` for a conversation that the template cannot write.
    """
    from jinja2.exceptions import TemplateError

    template = tokenizer.chat_template or PLAIN
    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages),  # pyright: ignore[reportArgumentType]
                tools=list(tools) if tools else None,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=ask,
            )
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise WorkbenchError(
            f"The model's chat template cannot write this conversation ({error})."
        ) from error
