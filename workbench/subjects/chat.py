"""Conversations as tokens: by the model's own chat template, or by a plain one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

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
"""The string that begins the next turn in the plain template, and so ends the assistant's."""

PASSAGE = "{context}\nQuestion: {question}\nAnswer:"
"""Prompt of a question about a passage, as in fine-tuning; the answer is the rest of the line."""


class ChatPrompt(NamedTuple):
    """A conversation's tokens, up to where the assistant's reply begins.

    - `ids`: token ids
    - `plain`: whether the plain template was used, because the model has none of its own
    - `stops`: strings that end the reply under the plain template
    """

    ids: list[int]
    plain: bool
    stops: tuple[str, ...]


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None = None,
) -> ChatPrompt:
    """The prompt for the assistant's next reply.

    Under the plain template it begins with the special tokens that begin any text.

    Args:
        tokenizer: The model's tokenizer.
        messages: {role, content} each.
        tools: Tool definitions, for templates that take them.

    Raises:
        WorkbenchError: The template cannot write this conversation.
    """
    ids = bare(tokenizer, render(tokenizer, messages, True, tools))
    if tokenizer.chat_template:
        return ChatPrompt(ids, plain=False, stops=())
    return ChatPrompt([*frame(tokenizer).before, *ids], plain=True, stops=(TURN,))


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    ask: bool = False,
    tools: Sequence[Any] | None = None,
) -> str:
    """The text of a conversation, as the chat template writes it.

    Args:
        tokenizer: The model's tokenizer.
        messages: {role, content} each.
        ask: Whether to end with the beginning of an assistant's reply.
        tools: Tool definitions, for templates that take them.

    Raises:
        WorkbenchError: The template cannot write this conversation.
    """
    from jinja2.exceptions import TemplateError

    # A tokenizer with several named templates has a dictionary here, which the method takes too.
    template = cast("str", tokenizer.chat_template or PLAIN)
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=list(tools) if tools else None,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=ask,
        )
        return str(text)
    except (TemplateError, TypeError, ValueError) as error:
        raise WorkbenchError(
            f"The model's chat template cannot write this conversation ({error})."
        ) from error
