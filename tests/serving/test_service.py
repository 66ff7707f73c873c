"""The service under clients that hang, leave or send garbage; its keys, its memory, and how it
ends.
"""

import asyncio
import signal
import socket
import threading
import time

import httpx
import pytest
import torch

from tests.serving.conftest import start
from workbench.errors import WorkbenchError
from workbench.generation import Request
from workbench.serving import Limits, make_service
from workbench.serving.guard import is_local
from workbench.serving.keys import new_key, read_keys
from workbench.serving.limits import ApiError
from workbench.serving.listing import entry
from workbench.serving.models import Models
from workbench.serving.server import keys_for

ASK = {"model": "shelf-base", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
LONG = {**ASK, "max_tokens": 240, "n": 8, "stream": True}


def head(live, path="/v1/completions", length=1000):
    """A raw connection that has begun a request."""
    host, port = live.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    lines = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    client.sendall(lines.encode())
    return client


def number(live, name):
    lines = httpx.get(f"{live.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"workbench_{name}{{"))


def open_requests(live):
    return number(live, "engine_n_open")


def written(live):
    return number(live, "tokens_total")


def until(condition, seconds=30):
    for _ in range(int(seconds / 0.1)):
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_clients_that_hang_leave_or_send_garbage_disturb_nobody(live):
    before = live.post("/completions", **ASK).json()["choices"]
    hanging = [head(live) for _ in range(8)]
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 5000,
        b"POST /v1/completions\r\n",
    ):
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(garbage)
    for _ in range(4):
        with httpx.stream("POST", f"{live.v1}/completions", json=LONG, timeout=60) as stream:
            next(stream.iter_lines())
    reading = httpx.Client(timeout=60).stream("POST", f"{live.v1}/completions", json=LONG)
    stuck = reading.__enter__()  # it never reads
    assert live.post("/completions", **ASK).json()["choices"] == before
    assert until(lambda: open_requests(live) == 0), "those who left are still written for"
    stuck.close()
    for client in hanging:
        client.close()
    assert live.post("/completions", **ASK).json()["choices"] == before


def test_a_client_that_leaves_a_whole_answer_takes_it_along(live):
    before = written(live)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{live.v1}/completions", json={**LONG, "stream": False, "n": 16}, timeout=0.3)
    assert until(lambda: open_requests(live) == 0)
    assert written(live) - before < 16 * 240


def test_many_clients_at_once_get_what_one_alone_gets(live):
    texts = ["Once upon", "The king", "A", "It was a dark", "She said", "In the morning the"] * 3
    bodies = [{**ASK, "prompt": text, "max_tokens": 10 + i} for i, text in enumerate(texts)]
    alone = [live.post("/completions", **body).json()["choices"][0]["text"] for body in bodies]

    async def together():
        async with httpx.AsyncClient(timeout=120) as client:
            return await asyncio.gather(
                *(client.post(f"{live.v1}/completions", json=body) for body in bodies)
            )

    assert [answer.json()["choices"][0]["text"] for answer in asyncio.run(together())] == alone


def test_sigterm_drains_and_then_ends(home):
    process, url = start("shelf-base")
    answers = []
    body = {**ASK, "max_tokens": 200, "n": 4}
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=body, timeout=120))
    )
    asking.start()
    assert until(lambda: "n_open{" in (text := httpx.get(f"{url}/metrics").text) and '"} 4' in text)
    process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert answers[0].status_code == 200 and answers[0].json()["usage"]["completion_tokens"] > 100
    assert process.wait(30) in (0, -signal.SIGTERM)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health")


def test_a_key_opens_what_is_behind_it(home, tmp_path):
    path = tmp_path / "keys"
    key = new_key(path)
    assert key not in path.read_text() and path.stat().st_mode & 0o077 == 0
    keys = read_keys(path)
    assert keys.open(key) and not keys.open(key[:-1]) and not keys.open("") and not keys.open("é")
    path.write_text(key)
    with pytest.raises(WorkbenchError, match="never the key"):
        read_keys(path)


def test_other_machines_need_a_key():
    with pytest.raises(WorkbenchError, match="key"):
        keys_for("0.0.0.0", None)
    assert not keys_for("127.0.0.1", None)
    assert [is_local(h) for h in ("::1", "localhost", "127.0.0.9", "10.0.0.1", "example.org")] == [
        True
    ] * 3 + [False] * 2


def test_the_guard_asks_everybody_for_the_key(tmp_path):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    from workbench.serving.guard import Guard

    async def socket_route(websocket):
        await websocket.accept()
        await websocket.send_text("in")

    async def page(request):
        return PlainTextResponse("in")

    routes = [Route(path, page) for path in ("/", "/v1/models", "/metrics", "/health")]
    path = tmp_path / "keys"
    key = new_key(path)
    client = TestClient(
        Guard(Starlette(routes=[*routes, WebSocketRoute("/ws", socket_route)]), read_keys(path))
    )
    paths = ("/", "/v1/models", "/metrics", "/health")
    assert [client.get(p).status_code for p in paths] == [401, 401, 401, 200]
    bearer = {"Authorization": f"Bearer {key}"}
    assert [client.get(p, headers=bearer).status_code for p in paths] == [200] * 4
    assert client.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws"):
        pass
    assert client.post("/login", data={"key": "wrong"}).status_code == 401
    assert client.post("/login", data={"key": key}, follow_redirects=False).status_code == 303
    assert client.get("/").text == "in"  # the session's cookie
    assert client.get("/v1/models").status_code == 401  # which opens pages, not the API
    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"


def test_models_leave_when_memory_is_short_but_not_while_they_are_used(home):
    one = 3_443_136 * 4
    models = Models(Limits(memory=int(1.5 * one)))
    with models.use("shelf-base") as first:
        with (
            pytest.raises(ApiError, match="beside the models in use") as refused,
            models.use("shelf-tuned"),
        ):
            pass
        assert refused.value.status == 503 and list(models.loaded()) == ["shelf-base"]
        assert first.users == 1
    with models.use("shelf-tuned"):
        assert list(models.loaded()) == ["shelf-tuned"] and models.memory() <= 1.5 * one
    with models.use("shelf-tuned") as again:
        assert models.loads == 3 and again.users == 1
    models.close()


def test_weights_are_rounded_only_where_asked_and_say_so(home, live):
    with pytest.raises(WorkbenchError, match="float32 or bfloat16, not 'int8'"):
        make_service([], dtype="int8")
    rounded = make_service(["shelf-base", live.edit], dtype="bfloat16").models
    plain = make_service(["shelf-base", live.edit]).models
    for name in ("shelf-base", live.edit):
        with rounded.use(name) as half, plain.use(name) as whole:
            assert entry(name, half)["workbench"]["dtype"] == "bfloat16"
            assert entry(name, whole)["workbench"]["dtype"] == "float32"
            assert half.subject.hash != whole.subject.hash
            ids = whole.subject.tokenizer("Once upon a time there was a king.")["input_ids"]
            logits = [s.subject.model(torch.tensor([ids])).logits.float() for s in (half, whole)]
            worst = float((logits[0].log_softmax(-1) - logits[1].log_softmax(-1)).abs().max())
            assert 0 < worst < 0.5
            score = Request(ids, 0, score_prompt=True)
            answers = [s.engine.submit(score).result().prompt_scores for s in (half, whole)]
            pairs = [(a.logprob, b.logprob) for a, b in zip(*answers, strict=True) if a and b]
            assert max(abs(a - b) for a, b in pairs) <= worst + 1e-3
    assert rounded.memory() < 0.55 * plain.memory()
    rounded.close()
    plain.close()


def test_an_edit_shares_its_bases_weights(home, live):
    models = Models(Limits())
    with models.use("shelf-base") as base, models.use(live.edit) as edited:
        assert models.memory() < 1.1 * 3_443_136 * 4
        assert base.subject.hash != edited.subject.hash
    models.close()


def test_names_that_are_not_listed_reach_no_file(home, tmp_path):
    models = Models(Limits())
    for name in (
        "/etc",
        str(tmp_path),
        "../models/shelf-base",
        "edit:../x",
        "edit:x.json",
        "run:..",
        "gpt2",
        "",
    ):
        with pytest.raises(ApiError, match="no model"), models.use(name):
            pass
    assert models.loads == 0
