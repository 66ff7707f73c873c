"""32 clients for five minutes: what is refused, how long they wait, and the memory it takes.

`pytest -m slow -s tests/serving/test_load.py` prints the figures; `WORKBENCH_LOAD_SECONDS` makes it
shorter or longer.
"""

import os
import random
import threading
import time
from collections import Counter

import httpx
import numpy as np
import psutil
import pytest

from tests.serving.conftest import start
from tests.serving.test_service import head

pytestmark = pytest.mark.slow
CLIENTS = 32
SECONDS = float(os.environ.get("WORKBENCH_LOAD_SECONDS", "300"))
WORDS = "the king said to his old horse that a fire had come to the house by the sea".split()


class Client(threading.Thread):
    """Asks in its own ways, at its own pace, until the time is over."""

    def __init__(self, live, number, end):
        super().__init__()
        self.live = live
        self.random = random.Random(number)
        self.end = end
        self.statuses = Counter()
        self.seconds = []
        self.first = []
        self.faults = []

    def run(self):
        with httpx.Client(timeout=120) as http:
            while time.time() < self.end:
                ask = self.random.choice([self.whole, self.whole, self.streamed, self.scored])
                if self.random.random() < 0.05:
                    ask = self.random.choice([self.hang, self.leave, self.garbage])
                try:
                    ask(http)
                except Exception as error:
                    self.faults.append(repr(error))
                time.sleep(self.random.random() * 0.2)

    def body(self, **more):
        prompt = " ".join(self.random.choices(WORDS, k=self.random.randint(3, 60)))
        length = self.random.randint(1, 60)
        return {"model": self.live.model, "prompt": prompt, "max_tokens": length, **more}

    def whole(self, http):
        began = time.time()
        answer = http.post(
            f"{self.live.v1}/completions",
            json=self.body(temperature=self.random.random(), n=self.random.choice([1, 1, 1, 4])),
        )
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.seconds.append(time.time() - began)
        elif answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.5)

    def streamed(self, http):
        body = {"model": self.live.model, "stream": True, "max_tokens": 40}
        body["messages"] = [{"role": "user", "content": self.body()["prompt"]}]
        began = time.time()
        with http.stream("POST", f"{self.live.v1}/chat/completions", json=body) as answer:
            first = None
            last = ""
            for line in answer.iter_lines():
                if first is None and '"content": "' in line and '"content": ""' not in line:
                    first = time.time() - began
                last = line or last
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            assert last == "data: [DONE]", last
            if first is not None:
                self.first.append(first)

    def scored(self, http):
        body = self.body(echo=True, logprobs=1) | {"max_tokens": 0}
        answer = http.post(f"{self.live.v1}/completions", json=body)
        self.statuses[answer.status_code] += 1

    def hang(self, http):
        client = head(self.live)
        time.sleep(1)
        client.close()

    def leave(self, http):
        body = self.body(stream=True) | {"max_tokens": 150}
        with http.stream("POST", f"{self.live.v1}/completions", json=body) as answer:
            next(answer.iter_lines(), None)

    def garbage(self, http):
        answer = http.post(
            f"{self.live.v1}/completions",
            content=b"{" + os.urandom(40),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 400
        self.statuses[answer.status_code] += 1


@pytest.mark.parametrize("model", ["shelf-base"])
def test_clients_for_minutes_get_answers_or_429_within_bounded_memory(model, home, capsys):
    process, url = start(model)
    live = type("Live", (), {"url": url, "v1": f"{url}/v1", "model": model})()
    server = psutil.Process(process.pid)
    end = time.time() + SECONDS
    clients = [Client(live, number, end) for number in range(CLIENTS)]
    memory = []
    try:
        for client in clients:
            client.start()
        while time.time() < end:
            time.sleep(min(5, SECONDS / 10))
            memory.append(server.memory_info().rss / 2**20)
        for client in clients:
            client.join(120)
        health = httpx.get(f"{url}/health", timeout=10)
    finally:
        process.terminate()
        process.wait(60)
    statuses = sum((client.statuses for client in clients), Counter())
    faults = [fault for client in clients for fault in client.faults]
    with capsys.disabled():
        print(f"\n{model}, {CLIENTS} clients, {SECONDS:.0f} s: {dict(statuses)}; {faults[:3]}")
        for name in ("seconds", "first"):
            times = [t for client in clients for t in getattr(client, name)]
            shares = np.percentile(times, [50, 95, 100])
            print(f"  {name}: n {len(times)}, p50 {shares[0]:.2f}, p95 {shares[1]:.2f}, ", end="")
            print(f"longest {shares[2]:.2f} s")
        third = len(memory) // 3 or 1
        early = max(memory[:third])
        late = max(memory[-third:])
        print(f"  memory: {early:.0f} MiB at most in the first third, {late:.0f} in the last")
    assert health.status_code == 200
    assert not faults
    assert set(statuses) <= {200, 400, 429}
    assert late < 1.2 * early
