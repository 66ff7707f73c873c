"""The Chat page and its parts: conversations that branch, replies that grow, counterfactuals,
passages.
"""

import json

import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from workbench import paths
from workbench.data.conversations import conversation
from workbench.errors import WorkbenchError
from workbench.generation import (
    Completion,
    Engine,
    Growing,
    Request,
    Sampling,
    Scored,
    end_tokens,
    write,
)
from workbench.interp.patching.direct import direct
from workbench.interp.prompts.counterfactual import counterfactual
from workbench.serving.explain import explained
from workbench.serving.fields import Explain
from workbench.serving.kept import keep, kept, read_talk
from workbench.serving.passage import fetched, prompt_ids, span_tokens, spans
from workbench.serving.talk import Reply, Talk
from workbench.subjects.chat import chat_prompt

CONTEXT = (
    "The red house was built in 1842 by Anna Reed, of Leeds. "
    "The lamp of the red house was lit in March."
)


@pytest.fixture(scope="module")
def base():
    return wb.load("shelf-base")


def answered(turn, model, text):
    completion = Completion((5, 6), text, "stop", (Scored(5, -0.5, ((5, -0.5),)), Scored(6, -1.0)))
    turn.replies[model] = Reply.of(
        completion, model=model, sha256="a" * 64, prompt=[1, 2], settings={"seed": 3}
    )


def two_turns():
    talk = Talk(system="Be kind.")
    for question in ("first", "second"):
        turn = talk.say(question)
        answered(turn, "one", f"{question}, answered")
        answered(turn, "two", f"{question}, otherwise")
    return talk


def test_nothing_that_was_said_is_lost_in_branches():
    talk = two_turns()
    first, second = talk.path()
    other = talk.say_instead(second, "third")
    assert [t.text for t in talk.path()] == ["first", "third"]
    assert talk.siblings(other) == [second, other]
    talk.show(second)
    assert [t.text for t in talk.path()] == ["first", "second"]
    talk.branch(first)
    assert [t.text for t in talk.path()] == ["first"]
    talk.say("fourth")
    assert [t.text for t in talk.siblings(talk.path()[1])] == ["second", "third", "fourth"]
    talk.show(first)
    assert talk.path()[-1].text == "fourth" and len(talk.turns) == 4
    with pytest.raises(WorkbenchError, match="message is empty"):
        talk.say(" \n")


def test_a_model_reads_only_what_it_said_itself():
    talk = two_turns()
    del talk.turns[0].replies["two"]
    last = talk.say("and now?")
    messages = talk.messages("two", last)
    assert [m["content"] for m in messages] == [
        "Be kind.",
        "second",
        "second, otherwise",
        "and now?",
    ]
    assert [m["content"] for m in talk.messages("three", last)] == ["Be kind.", "and now?"]
    assert len(talk.messages("one", last)) == 6


def test_fine_tuning_reads_what_is_exported():
    records = [json.loads(line) for line in two_turns().export().splitlines()]
    assert [r["model"] for r in records] == ["one", "two"]
    for record, word in zip(records, ("answered", "otherwise"), strict=True):
        messages = conversation(record, {})
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
        assert messages[-1]["content"] == f"second, {word}"
    assert Talk().export() == ""


def test_a_kept_conversation_comes_back_with_all_its_branches(home):
    talk = two_turns()
    talk.say_instead(talk.path()[1], "third")
    name = keep(talk)
    assert read_talk(name) == talk and kept()[0][::2] == (name, "first")
    assert keep(talk, name) == name and len([k for k in kept() if k.name == name]) == 1


@pytest.mark.parametrize(
    "name", ["../runs", "", "20200101-000000-zzzz", "20200101-000000-abcd", "a" * 500]
)
def test_no_other_file_is_read_as_a_conversation(name):
    with pytest.raises(WorkbenchError):
        read_talk(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}x",
        '{"turns": 3}',
        '{"turns": [{"number": 0, "parent": 7, "text": "a"}]}',
        '{"at": 4}',
    ],
)
def test_a_damaged_conversation_is_a_sentence(text):
    with pytest.raises(WorkbenchError, match="conversation"):
        Talk.from_json(text)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_what_grows_ends_as_what_is_written_at_once(base, temperature):
    ask = Request(
        base.ids("The king said to the"), 20, Sampling(temperature=temperature, seed=4), top=3
    )
    engine = Engine(base)
    growing = Growing(engine, ask)
    growing.wait(30)
    assert growing.ids() and growing.first_s is not None
    growing.wait(30, whole=True)
    done = growing.completion()
    wanted = write(base, [ask])[0]
    assert (done.ids, done.text, done.reason) == (wanted.ids, wanted.text, wanted.reason)
    # A model that has written before takes a shorter way, which rounds otherwise.
    logprobs = [[score.logprob for score in each.scores] for each in (done, wanted)]
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)
    assert [
        s.token for s in growing.scores()
    ] == growing.ids() and growing.text() == growing.completion().text
    stopped = Growing(engine, Request(ask.prompt, 200))
    stopped.wait(30)
    stopped.cancel()
    stopped.wait(30, whole=True)
    assert stopped.completion().reason == "cancelled"
    engine.close()


def test_the_chat_prompt_is_the_template_with_the_tokens_that_begin_a_text(base):
    read = chat_prompt(base.tokenizer, [{"role": "user", "content": "Hello."}])
    assert read.plain and read.stops == ("\nUser:",)
    assert base.text(torch.tensor(read.ids)) == "User: Hello.\nAssistant: "


@pytest.mark.parametrize(
    "text", ["She had a sister, a horse and a fire. He had a sister, a horse and a", "The king of"]
)
def test_a_counterfactual_is_a_pair_that_patching_takes(base, text):
    """`patch` tokenises the words anew, and reads the same logit differences off its own runs."""
    before = base.ids(text)
    [written] = write(base, [Request(before, 4)])
    for n in range(len(written.ids)):
        ids = [*before, *written.ids[:n]]
        token = written.ids[n]
        why = explained(base, [*ids, token], len(ids), Explain(tokens=1, top=5))["tokens"][0][
            "attribution"
        ]
        pair = counterfactual(base, ids, token, why)
        clean = base.ids(pair.clean)
        corrupted = base.ids(pair.corrupted)
        assert clean == ids and [
            i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b
        ] == [pair.position]
        patching = wb.patch(
            base, pair.clean, pair.corrupted, answer=pair.answer, wrong=pair.wrong, site="resid_pre"
        )
        assert patching.clean_metric == pytest.approx(pair.clean_difference, abs=1e-3)
        assert patching.corrupted_metric == pytest.approx(pair.corrupted_difference, abs=1e-3)
        assert pair.clean_difference > pair.corrupted_difference


def test_a_text_without_a_word_to_replace_is_a_sentence(base):
    with pytest.raises(WorkbenchError, match="No word of this text"):
        counterfactual(base, base.ids("1 2 3"), 5, [0.1] * 10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Anna Reed", ["Anna Reed"]),
        (" anna  reed.", ["Anna Reed"]),
        ("the red house", ["The red house", "the red house"]),
        ("It was Anna Reed of Leeds, she said", ["Anna Reed, of Leeds"]),
        ("The red house was built by Anna Reed", ["Anna Reed"]),
        ("184", []),
        ("It was of the best", []),
        ("of the", ["of the"]),
        ("somebody else", []),
        ("", []),
    ],
)
def test_an_answer_is_found_where_it_stands(answer, expected):
    places = spans(CONTEXT, answer, "Who built the red house?")
    assert [CONTEXT[place.start : place.stop] for place in places] == expected


def test_heads_add_up_by_source_and_agree_with_the_cache(base):
    """Against TransformerLens's own pattern, values and output matrices, and against direct
    attribution.
    """
    prompt = prompt_ids(base, CONTEXT, "Who built it?", chat=False)
    [answer] = write(base, [Request(prompt, 3)])
    places = spans(CONTEXT, "Anna Reed")
    sources = span_tokens(base, prompt, CONTEXT, "Who built it?", places)
    assert base.text(torch.tensor([prompt[i] for i in sources])).strip() == "Anna Reed"
    everything = fetched(base, prompt, answer.ids, range(len(prompt) + len(answer.ids)))
    assert everything.from_span == pytest.approx(everything.total, abs=1e-4)
    one = fetched(base, prompt, answer.ids[:1], sources)
    logits, cache = base.bridge.run_with_cache(torch.tensor([prompt]))
    against = next(i for i in logits[0, -1].topk(2).indices.tolist() if i != answer.ids[0])
    words = [base.tokens(torch.tensor([i]), unrelated=True)[0] for i in (answer.ids[0], against)]
    contributions = direct(base, base.text(torch.tensor(prompt)), answer=words[0], wrong=words[1])
    assert one.total == pytest.approx(contributions.heads, abs=1e-4)
    final = base.bridge.ln_final
    column = base.bridge.W_U[:, answer.ids[0]] - base.bridge.W_U[:, against]
    direction = column * final.weight / cache["ln_final.hook_scale"][0, -1]
    for layer in range(base.card.n_layers):
        values = cache["v", layer][0]
        values = values.repeat_interleave(base.card.n_heads // values.shape[1], 1)
        for head in range(base.card.n_heads):
            weights = cache["pattern", layer][0, head, -1, sources]
            brought = weights @ values[sources, head] @ base.bridge.W_O[layer, head] @ direction
            assert one.from_span[layer, head] == pytest.approx(float(brought), abs=1e-4)


def opened(**query):
    app = AppTest.from_file(str(paths.shelf("pages") / "chat.py"), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def finished(app):
    for _ in range(50):
        # A reply may end between the drawing of the turns and that of the button.
        writing = "writings" in app.session_state and app.session_state["writings"]
        if not writing and not any(button.key == "stop writing" for button in app.button):
            return app
        app.run()
    raise AssertionError("it never ends")


def talk_of(app) -> Talk:
    return app.session_state["talk"]


def test_a_message_is_answered_by_every_model_and_can_be_said_otherwise():
    app = opened(
        mode="Chat", models=["shelf-base", "shelf-tuned"], n="6", seed="3", system="Be kind."
    )
    app.chat_input[0].set_value("Hello <b>there</b> $x$").run()
    finished(app)
    assert not app.exception and not app.error
    [turn] = talk_of(app).path()
    assert set(turn.replies) == {"shelf-base", "shelf-tuned"}
    for name, reply in turn.replies.items():
        subject = wb.load(name)
        messages = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": turn.text},
        ]
        read = chat_prompt(subject.tokenizer, messages)
        sampling = Sampling(temperature=0.8, seed=3)
        ask = Request(read.ids, 6, sampling, stops=read.stops, ends=end_tokens(subject))
        assert reply.sha256 == subject.hash and reply.text == write(subject, [ask])[0].text
    assert "Hello <b>there</b> $x$" in [text.value for text in app.text]
    app.button(key="edit 0").click().run()
    app.text_area(key="instead").set_value("Good day")
    app.button(key="resend").click().run()
    finished(app)
    assert [t.text for t in talk_of(app).path()] == ["Good day"] and len(talk_of(app).turns) == 2
    app.button(key="‹ 0").click().run()
    assert talk_of(app).path()[0].text.startswith("Hello")
    app.button(key="keep talk").click().run()
    again = opened(mode="Chat", chat=app.session_state["kept as"])
    assert talk_of(again) == talk_of(app)


def test_a_token_that_is_clicked_says_why_it_came():
    app = opened(n="8", temperature="0.0", models=["shelf-base", "shelf-tuned"])
    finished(app)
    app.session_state["picked"] = ("the shelf-base", 2)
    app.run()
    assert not app.exception and not app.error and not app.warning
    shown = " ".join([*(m.value for m in app.markdown), *(c.value for c in app.caption)])
    for words in (
        "Alternatives",
        "Which tokens it depends on",
        "In which layer it was decided",
        "Which heads wrote it",
    ):
        assert words in shown
    assert "shelf-tuned would have chosen" in shown and "Take it further" in shown


@pytest.mark.parametrize("query", [{"models": "./no-such"}, {"chat": "../x", "mode": "Chat"}])
def test_what_cannot_be_opened_is_a_sentence(query):
    app = opened(**query)
    messages = [error.value for error in app.error] + [str(e.message) for e in app.exception]
    assert messages and any("no" in words for words in messages)
