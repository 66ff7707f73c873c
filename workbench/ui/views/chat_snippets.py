"""Python and curl commands that do the same as the Chat page."""

import json
import shlex
from typing import Any

import streamlit as st

from workbench.serving.fields import ChatRequest, CompletionRequest
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import chat, chat_continue, chat_passage
from workbench.ui.views.chat_settings import Settings


def of_chat(settings: Settings) -> None:
    """Show code for the first model's last reply; without any, for the first suggested message."""
    path = chat.talk().path()
    model = settings.models[0]
    if path:
        messages = chat.talk().messages(model, path[-1])
    else:
        system = [{"role": "system", "content": settings.system}] if settings.system.strip() else []
        messages = [*system, {"role": "user", "content": chat.STARTERS[0]}]
    same_in_python(f"""\
import workbench as wb
from workbench.generation import Request, Sampling, end_tokens, write
from workbench.subjects.chat import chat_prompt

model = wb.load({model!r})
read = chat_prompt(model.tokenizer, {messages!r})
{_request(settings, "read.ids", stops="read.stops")}
print(model.hash, write(model, [request])[0].text)
""")
    same_with_curl("/v1/chat/completions", chat.body(model, messages, settings))


def of_continuation(prompt: str, settings: Settings) -> None:
    """Show code for the first model's sampled continuation."""
    model = settings.models[0]
    same_in_python(f"""\
import workbench as wb
from workbench.generation import Request, Sampling, end_tokens, write

model = wb.load({model!r})
{_request(settings, f"model.ids({prompt!r})")}
print(model.hash, write(model, [request])[0].text)
""")
    same_with_curl("/v1/completions", chat_continue.body(model, prompt, settings, greedy=False))


def of_passage(query: chat_passage.PassageQuery, settings: Settings) -> None:
    """Show code for the first model's answer, its place in the passage, and the heads behind it."""
    model = settings.models[0]
    body = chat_passage.body(model, query)
    stops = "" if isinstance(body, ChatRequest) else "stops=['\\n'], "
    same_in_python(f"""\
import workbench as wb
from workbench.generation import Request, end_tokens, write
from workbench.serving.passage import fetched, prompt_ids, span_tokens, spans

model = wb.load({model!r})
context = {query.context!r}
question = {query.question!r}
prompt = prompt_ids(model, context, question, chat={isinstance(body, ChatRequest)})
request = Request(prompt, {chat_passage.LENGTH}, {stops}ends=end_tokens(model))
answer = write(model, [request])[0]
places = spans(context, answer.text, question)
print(answer.text, [context[place.start : place.stop] for place in places])
if places:
    sources = span_tokens(model, prompt, context, question, places)
    print(fetched(model, prompt, answer.ids, sources).to_frame().head())
""")
    path = "/v1/chat/completions" if isinstance(body, ChatRequest) else "/v1/completions"
    same_with_curl(path, body)


def _request(settings: Settings, prompt: str, stops: str = "") -> str:
    given = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": settings.seed}
    usual = {"top_p": 1.0}
    sampling = ", ".join(
        f"{name}={value!r}" for name, value in given.items() if usual.get(name) != value
    )
    more = f"stops={stops}, " if stops else ""
    return (
        f"prompt = {prompt}\n"
        f"sampling = Sampling({sampling})\n"
        f"request = Request(prompt, {settings.n}, sampling, {more}ends=end_tokens(model))"
    )


def same_with_curl(path: str, body: ChatRequest | CompletionRequest) -> None:
    """Show the API request, which this page's own port takes."""
    request: dict[str, Any] = body.model_dump(exclude_none=True)
    host = st.context.headers.get("host") or "127.0.0.1:8501"
    with st.expander("Same over the API", icon=":material/api:"):
        st.code(
            f"curl http://{host}{path} -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(json.dumps(request))}",
            language="sh",
            wrap_lines=True,
        )
        st.caption(
            "With a key, add -H 'Authorization: Bearer KEY'. To get the explanation of each "
            "token, add "
            '"workbench": {"explain": {}}.'
        )
