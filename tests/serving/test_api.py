"""The API as its clients see it: OpenAI's own client and plain HTTP, against the model asked in
this process.
"""

import json

import httpx
import openai
import pytest
import torch

import workbench
from workbench.generation import Request, Sampling, end_tokens, write
from workbench.interp.engine.packed import reader

PROMPT = "Once upon a time there was a"


@pytest.fixture(scope="module")
def subjects(live):
    return {name: workbench.load(name) for name in ("shelf-base", live.edit)}


@pytest.fixture(scope="module")
def client(live):
    return openai.OpenAI(base_url=live.v1, api_key="none", max_retries=0)


def here(subject, prompt=PROMPT, most=12, **settings):
    ends = end_tokens(subject)
    return write(subject, [Request(subject.ids(prompt), most, Sampling(**settings), ends=ends)])[0]


def test_the_openai_client_streams_from_a_model_and_its_edit(client, subjects):
    written = {}
    for name, subject in subjects.items():
        chunks = list(
            client.completions.create(
                model=name,
                prompt=PROMPT,
                max_tokens=12,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        written[name] = "".join(c.choices[0].text for c in chunks if c.choices)
        assert written[name] == here(subject).text
        assert chunks[-1].usage.completion_tokens == 12
        assert chunks[-2].choices[0].finish_reason == "length"
        assert {c.system_fingerprint for c in chunks} == {subject.hash}
    assert len(set(written.values())) == 2


def test_models_are_listed_with_what_they_are(client, live, subjects):
    listed = {m.id: m for m in client.models.list().data}
    assert set(listed) == {"shelf-base", live.edit}
    assert (listed[live.edit].owned_by, listed["shelf-base"].owned_by) == ("edit", "bundled")
    model = client.models.retrieve(live.edit)
    assert model.workbench["sha256"] == subjects[live.edit].hash
    assert (model.workbench["n_ctx"], model.workbench["parent"]) == (256, "shelf-base")


def test_batches_of_texts_and_ids_have_n_answers_each(client, subjects):
    subject = subjects["shelf-base"]
    ids = [subject.ids(PROMPT), subject.ids("The")]
    by_ids = client.completions.create(
        model="shelf-base", prompt=ids, max_tokens=5, temperature=0, n=2
    )
    by_text = client.completions.create(
        model="shelf-base", prompt=[PROMPT, "The"], max_tokens=5, temperature=0
    )
    assert [c.index for c in by_ids.choices] == [0, 1, 2, 3]
    wanted = [here(subject, text, 5).text for text in (PROMPT, "The")]
    assert [c.text for c in by_ids.choices] == [wanted[0], wanted[0], wanted[1], wanted[1]]
    assert [c.text for c in by_text.choices] == wanted
    assert by_text.usage.prompt_tokens == sum(map(len, ids))


def test_seeds_are_kept_and_the_best_is_the_likeliest(client):
    def ask(**more):
        return client.completions.create(
            model="shelf-base", prompt=PROMPT, max_tokens=8, temperature=1, logprobs=0, **more
        )

    first, again, other = (ask(seed=seed).choices[0].text for seed in (3, 3, 4))
    assert first == again != other
    several = ask(seed=3, n=4).choices
    mean = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in several]
    best = ask(seed=3, n=2, best_of=4).choices
    order = sorted(range(4), key=lambda i: -mean[i])
    assert [c.text for c in best] == [several[i].text for i in order[:2]]


@torch.no_grad()
def test_echo_with_no_new_token_scores_the_prompt(client, subjects):
    for name, subject in subjects.items():
        choice = client.completions.create(
            model=name, prompt=PROMPT, max_tokens=0, echo=True, logprobs=2
        ).choices[0]
        ids = torch.tensor([subject.ids(PROMPT)])
        logs = subject.model(ids).logits[0].log_softmax(-1)
        wanted = [float(logs[at, token]) for at, token in enumerate(ids[0, 1:].tolist())]
        assert choice.text == PROMPT and choice.finish_reason == "length"
        assert choice.logprobs.token_logprobs[0] is None
        assert choice.logprobs.token_logprobs[1:] == pytest.approx(wanted, abs=1e-5)
        assert "".join(choice.logprobs.tokens) == PROMPT
        assert [PROMPT[at:] for at in choice.logprobs.text_offset][-1] == choice.logprobs.tokens[-1]
        assert all(len(top) in (2, 3) for top in choice.logprobs.top_logprobs[1:])


def test_stop_strings_end_a_text_before_them(client, subjects):
    text = here(subjects["shelf-base"]).text
    stop = text[10:14]
    answer = client.completions.create(
        model="shelf-base", prompt=PROMPT, max_tokens=12, temperature=0, stop=[stop]
    )
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (
        text[: text.index(stop)],
        "stop",
    )
    chunks = client.completions.create(
        model="shelf-base", prompt=PROMPT, max_tokens=12, temperature=0, stop=stop, stream=True
    )
    assert "".join(c.choices[0].text for c in chunks) == text[: text.index(stop)]


def test_logit_bias_and_penalties_reach_the_sampling(client, subjects):
    token = subjects["shelf-base"].answer_id(" king")
    answer = client.completions.create(
        model="shelf-base", prompt=PROMPT, max_tokens=3, temperature=0, logit_bias={str(token): 100}
    )
    assert answer.choices[0].text == " king king king"
    punished = client.completions.create(
        model="shelf-base",
        prompt=PROMPT,
        max_tokens=3,
        temperature=0,
        logit_bias={str(token): 20},
        frequency_penalty=2,
        extra_body={"repetition_penalty": 100, "top_k": 5, "min_p": 0.1},
    )
    assert punished.choices[0].text != " king king king"


def test_a_model_without_a_template_chats_in_the_plain_one(client, subjects):
    subject = subjects["shelf-base"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who is the king?"},
    ]
    request = {"model": "shelf-base", "messages": messages, "max_tokens": 10, "temperature": 0}
    answer = client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
    plain = "System: Be brief.\nUser: Who is the king?\nAssistant: "
    assert answer.choices[0].message.content == here(subject, plain, 10).text
    assert answer.workbench["template"] == "plain" and answer.workbench["sha256"] == subject.hash
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    chunks = list(client.chat.completions.create(**request, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks)
        == answer.choices[0].message.content
    )


@torch.no_grad()
def test_embeddings_are_the_mean_of_a_layer(client, subjects):
    subject = subjects["shelf-base"]
    for layer in (None, 2):
        extra = {} if layer is None else {"layer": layer}
        answer = client.embeddings.create(
            model="shelf-base", input=[PROMPT, "The"], extra_body=extra
        )
        out = subject.model(
            torch.tensor([subject.ids(PROMPT)]), output_hidden_states=True
        ).hidden_states
        if layer is not None:  # the library's last state is normed
            assert answer.data[0].embedding == pytest.approx(
                out[layer + 1][0].mean(0).tolist(), abs=1e-4
            )
        run = reader(subject).record(torch.tensor([subject.ids("The")]))
        assert answer.data[1].embedding == pytest.approx(
            run.resid[(layer or 5) + 1][0].mean(0).tolist(), abs=1e-4
        )


def test_texts_become_tokens_and_texts_again(live, subjects):
    answer = live.post("/tokenize", model="shelf-base", prompt=PROMPT).json()
    assert answer["tokens"] == subjects["shelf-base"].ids(PROMPT) and answer["count"] == len(
        answer["tokens"]
    )
    assert (
        live.post("/detokenize", model="shelf-base", tokens=answer["tokens"]).json()["prompt"]
        == PROMPT
    )


def test_an_intervention_works_for_its_request_alone(live, subjects):
    request = {"model": "shelf-base", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    before = live.post("/completions", **request).json()
    change = {"edits": [{"layer": 3, "site": "z", "index": [1, 2]}]}
    change["edits"].append(
        {"layer": 4, "site": "resid_post", "action": "add", "value": [0.2] * 192}
    )
    edited = live.post("/completions", **request, workbench={"intervention": change}).json()
    after = live.post("/completions", **request).json()
    assert edited["choices"][0]["text"] == here(subjects[live.edit]).text
    assert before["choices"] == after["choices"] != edited["choices"]
    assert edited["workbench"]["sha256"] not in (
        before["workbench"]["sha256"],
        subjects[live.edit].hash,
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/completions", {"suffix": "x"}, 400, "suffix"),
        (
            "/completions",
            {"stream_options": {"include_usage": True, "x": 1}},
            400,
            "stream_options.x",
        ),
        ("/completions", {"max_tokens": -1}, 400, "max_tokens"),
        ("/completions", {"max_tokens": 1.5}, 400, "max_tokens"),
        ("/completions", {"max_tokens": 300}, 400, "prompt"),
        ("/completions", {"temperature": "hot"}, 400, "temperature"),
        ("/completions", {"n": 3, "best_of": 2}, 400, "best_of"),
        ("/completions", {"n": 128, "prompt": ["a", "b"]}, 400, "n"),
        ("/completions", {"logit_bias": {"king": 1}}, 400, "logit_bias"),
        ("/completions", {"prompt": []}, 400, "prompt"),
        ("/completions", {"prompt": [10**6]}, 400, "prompt"),
        ("/completions", {"model": "/etc"}, 404, "model"),
        ("/completions", {"model": "edit:../../x.json"}, 404, "model"),
        ("/completions", {"model": "shelf-tuned"}, 404, "model"),
        (
            "/completions",
            {"workbench": {"intervention": {"edits": [{"layer": 99, "site": "z"}]}}},
            400,
            None,
        ),
        (
            "/completions",
            {"workbench": {"intervention": {"edits": [], "transplant": {}}}},
            400,
            None,
        ),
        ("/completions", {"workbench": {"other": 1}}, 400, "workbench.other"),
        (
            "/chat/completions",
            {"response_format": {"type": "json_schema"}},
            400,
            "response_format.type",
        ),
        ("/chat/completions", {"tools": [{"type": "function"}]}, 400, "tools"),
        ("/chat/completions", {"tool_choice": "auto"}, 400, "tool_choice"),
        ("/embeddings", {"input": "x", "dimensions": 3}, 400, "dimensions"),
        ("/embeddings", {"input": "x", "layer": 99}, 400, "layer"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(live, path, body, status, param):
    start = {
        "/completions": {"prompt": "a"},
        "/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
        "/embeddings": {},
    }
    answer = live.post(path, **{"model": "shelf-base", **start[path], **body})
    error = answer.json()["error"]
    assert (answer.status_code, set(error)) == (status, {"message", "type", "param", "code"})
    if param is not None:
        assert error["param"] == param, error
    else:
        assert "workbench.intervention" in error["param"]


def test_bodies_that_are_none_are_refused(live):
    url = f"{live.v1}/completions"
    headers = {"Content-Type": "application/json"}
    for content, status in (
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 10**5, 400),
        (b"x" * (9 << 20), 413),
    ):
        assert httpx.post(url, content=content, headers=headers, timeout=60).status_code == status
    assert httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.get(f"{live.v1}/nothing").json()["error"]["code"] == "unknown_url"


def test_pages_of_other_sites_reach_nothing(live):
    answer = httpx.post(
        f"{live.v1}/completions", json={}, headers={"Origin": "https://evil.example"}
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert httpx.get(f"{live.v1}/models", headers={"Host": "evil.example:80"}).status_code == 403
    assert httpx.options(f"{live.v1}/completions").status_code == 405


def test_the_document_holds_every_path_and_the_numbers_count(live):
    assert (
        live.post("/completions", model="shelf-base", prompt="a", max_tokens=1).status_code == 200
    )
    document = httpx.get(f"{live.v1}/openapi.json").json()
    assert {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models"} <= set(
        document["paths"]
    )
    assert (
        "suffix" not in json.dumps(document) and "logit_bias" in httpx.get(f"{live.v1}/docs").text
    )
    lines = dict(
        line.rsplit(" ", 1)
        for line in httpx.get(f"{live.url}/metrics").text.splitlines()
        if line[0] != "#"
    )
    assert float(lines['workbench_requests_total{endpoint="/completions",status="200"}']) > 0
    assert any(
        name.startswith("workbench_tokens_total") and float(n) > 0 for name, n in lines.items()
    )
