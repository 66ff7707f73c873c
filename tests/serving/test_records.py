"""/workbench/v1: every answer is the record that the Python API gives, long ones come as jobs, and
both are bounded.
"""

import threading
import time
from typing import Any

import httpx
import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.serving.jobs import MOST_KEPT, MOST_WAITING, Jobs
from workbench.serving.limits import ApiError

PAIR: dict[str, Any] = {
    "clean": "She had a sister, a horse and a fire. He had a sister, a horse and a",
    "corrupted": "She had a sister, a horse and a door. He had a sister, a horse and a",
    "answer": " fire",
    "wrong": " door",
}
WORDS = "One two three four five six seven eight nine."
ASKED = [
    (
        "attention",
        {"prompt": "The king said to the"},
        lambda m: wb.attention(m, "The king said to the"),
    ),
    (
        "heads",
        {"n": 2, "length": 12, "seed": 3},
        lambda m: wb.head_scores(m, n=2, length=12, seed=3),
    ),
    ("heads", {"texts": [WORDS]}, lambda m: wb.head_scores(m, texts=[WORDS])),
    ("patch", {**PAIR, "site": "z"}, lambda m: wb.patch(m, **PAIR, site="z")),
    (
        "patch",
        {**PAIR, "direction": "noising", "metric": "prob", "layer": 3},
        lambda m: wb.patch(m, **PAIR, direction="noising", metric="prob", layer=3),
    ),
    (
        "lens",
        {"prompt": "The king said", "answer": [" to", " that"]},
        lambda m: wb.lens(m, "The king said", answer=[" to", " that"]),
    ),
]


def post(live, path, **body):
    return httpx.post(f"{live.url}/workbench/v1/{path}", json=body, timeout=300)


def same(one, other):
    """Whether two records' JSON agree but for rounding, their provenance and the time they took."""
    if isinstance(one, dict):
        leave = {"provenance", "seconds"}
        assert one.keys() == other.keys()
        for key in one.keys() - leave:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, abs=2e-5, rel=1e-4)
    else:
        assert one == other


@pytest.mark.parametrize(("path", "body", "call"), ASKED)
@pytest.mark.parametrize("model", ["shelf-base", pytest.param("edit", marks=pytest.mark.slow)])
def test_an_answer_is_the_python_apis_own_record(live, path, body, call, model):
    name = live.edit if model == "edit" else model
    answer = post(live, path, model=name, wait=60, **body)
    assert answer.status_code == 200, answer.text
    subject = wb.load(name)
    record = call(subject)
    read = type(record).from_dict(answer.json())
    assert type(read) is type(record) and answer.json()["sha256"] == subject.hash
    same(answer.json(), record.to_dict() | {"provenance": None})
    assert answer.json()["provenance"]["models"] == record.provenance.models


def test_what_is_not_there_in_time_is_a_job_to_poll(live):
    accepted = post(
        live, "compare", base="shelf-base", tuned="shelf-base", parts=["weights"], wait=0
    )
    assert accepted.status_code == 202 and accepted.headers["Location"] == accepted.json()["poll"]
    answer = accepted
    for _ in range(600):
        answer = httpx.get(live.url + accepted.json()["poll"])
        if answer.status_code != 202:
            break
        time.sleep(0.1)
    base = wb.load("shelf-base")
    same(answer.json(), wb.compare(base, base, parts=["weights"]).to_dict())


def test_a_job_is_stopped_when_it_next_says_how_far_it_is(live):
    body = {"base": "shelf-base", "tuned": "shelf-base", "parts": ["text", "layers", "heads"]}
    poll = live.url + post(live, "compare", wait=0, **body).json()["poll"]
    assert httpx.delete(poll, timeout=60).status_code == 200
    for _ in range(600):
        if httpx.get(poll).status_code == 410:
            break
        time.sleep(0.1)
    assert httpx.get(poll).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("attention", {"model": "shelf-base"}, 400, "prompt"),
        ("attention", {"model": "shelf-base", "prompt": "word " * 240}, 400, None),
        ("attention", {"model": "../../etc", "prompt": "a"}, 404, "model"),
        ("attention", {"model": "shelf-base", "prompt": "a", "layer": 3}, 400, "layer"),
        ("heads", {"model": "shelf-base", "n": 0}, 400, "n"),
        ("patch", {"model": "shelf-base", **PAIR, "site": "nowhere"}, 400, None),
        ("patch", {"model": "shelf-base", **PAIR, "corrupted": "short"}, 400, None),
        ("lens", {"model": "shelf-base", "prompt": "a", "wait": 61}, 400, "wait"),
        ("compare", {"base": "shelf-base", "tuned": "none"}, 404, "model"),
        (
            "compare",
            {"base": "shelf-base", "tuned": "shelf-base", "suite": "/etc/passwd"},
            400,
            None,
        ),
        ("nothing", {"model": "shelf-base"}, 404, None),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(live, path, body, status, param):
    answer = post(live, path, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_an_unknown_job_is_refused(live):
    for method in (httpx.get, httpx.delete):
        assert method(f"{live.url}/workbench/v1/jobs/job-0").status_code == 404


def test_the_queue_is_bounded_and_old_answers_leave():
    jobs = Jobs()
    go = threading.Event()

    def wait(job):
        go.wait(30)
        return b"done"

    first = jobs.submit(wait)
    while first.status == "queued":
        time.sleep(0.01)
    others = [jobs.submit(wait) for _ in range(MOST_WAITING)]
    with pytest.raises(ApiError) as full:
        jobs.submit(wait)
    assert full.value.status == 429
    jobs.cancel(others[-1])
    assert others[-1].status == "cancelled"
    go.set()
    for job in [first, *others]:
        assert job.ended.wait(10)
    assert [job.status for job in others[:-1]] == ["done"] * (MOST_WAITING - 1)
    for _ in range(MOST_KEPT + 1):
        assert jobs.submit(wait).ended.wait(10)
    with pytest.raises(ApiError, match="There is no job"):
        jobs.get(first.id)


def test_a_job_that_fails_says_why_and_the_next_one_is_carried_out():
    jobs = Jobs()

    def fault(error):
        def work(job):
            raise error

        return work

    ended = [
        jobs.submit(fault(error)) for error in (WorkbenchError("a sentence"), ValueError("ours"))
    ]
    fine = jobs.submit(lambda job: b"fine")
    assert fine.ended.wait(10) and fine.record == b"fine"
    for job, status in zip(ended, (400, 500), strict=True):
        assert job.status == "failed" and job.error is not None and job.error.status == status
