"""Conversations as a model reads them: its own chat template, or the plain one."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError

PLAIN = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""The chat template of a model that has none."""
TURN = "\nUser:"
"""With which a model that continues the plain template goes on to the next turn."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    ask: bool = False,
    tools: Sequence[Any] | None = None,
) -> str:
    """Messages as the chat template writes them; with `ask` up to where the assistant begins to speak.

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
        raise WorkbenchError(f"The model's chat template cannot write this conversation ({error}).") from error
