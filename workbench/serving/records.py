"""/workbench/v1/{attention,heads,patch,lens,compare}: the Python API's records as JSON, and the
jobs behind them.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workbench.errors import WorkbenchError
from workbench.interp import attention, head_scores, lens, patch
from workbench.records import Record
from workbench.serving import record_fields as fields
from workbench.serving.jobs import Job, ended_within
from workbench.serving.limits import ApiError
from workbench.serving.service import Service, unless_left
from workbench.subjects import Subject

PREFIX = "/workbench/v1"
MOST_NUMBERS = 1 << 20
"""Numbers of a pattern that are written as JSON."""


def _attention(said: fields.AttentionRequest, subjects: list[Subject], job: Job) -> Record:
    [subject] = subjects
    card = subject.card
    n = len(subject.ids(said.prompt))
    if card.n_layers * card.n_heads * n * n > MOST_NUMBERS:
        raise WorkbenchError(
            f"The patterns of {card.n_layers * card.n_heads} heads over {n} tokens are more than "
            f"{MOST_NUMBERS:,} numbers, too many for JSON; shorten the prompt, or take the site "
            "pattern of some layers by capture."
        )
    return attention(subject, said.prompt)


def _heads(said: fields.HeadsRequest, subjects: list[Subject], job: Job) -> Record:
    return head_scores(subjects[0], texts=said.texts, n=said.n, length=said.length, seed=said.seed)


def _patch(said: fields.PatchRequest, subjects: list[Subject], job: Job) -> Record:
    return patch(subjects[0], **said.model_dump(exclude={"model", "wait"}), progress=job.report)


def _lens(said: fields.LensRequest, subjects: list[Subject], job: Job) -> Record:
    return lens(subjects[0], said.prompt, kind=said.kind, answer=said.answer or ())


def _compare(said: fields.CompareRequest, subjects: list[Subject], job: Job) -> Record:
    from workbench.benchmarks import suites  # these import the harness, which takes seconds
    from workbench.comparison import compare

    if said.suite not in suites():  # a path would be read as a file
        raise WorkbenchError(
            f"There is no suite {said.suite!r}; there are {', '.join(sorted(suites()))}."
        )
    return compare(
        *subjects,
        suite=said.suite,
        limit=said.limit,
        seed=said.seed,
        parts=said.parts,
        progress=job.report,
    )


Work = Callable[[Any, list[Subject], Job], Record]
POSTS: dict[str, tuple[type[fields.Reading], Work, str]] = {
    "/attention": (
        fields.AttentionRequest,
        _attention,
        "Attention patterns of a prompt: every head",
    ),
    "/heads": (fields.HeadsRequest, _heads, "Scores of every head, with intervals"),
    "/patch": (fields.PatchRequest, _patch, "An exact patching map of a prompt pair"),
    "/lens": (fields.LensRequest, _lens, "What every layer says at every token"),
    "/compare": (fields.CompareRequest, _compare, "What changed between two models"),
}
"""Each path with its fields, what makes the record, and a word on it for the document."""


def asking(kind: type[fields.Reading], work: Work) -> Any:
    """The handler of a path: the record where it is there in time, else its job."""

    async def handler(service: Service, request: Request) -> Response:
        said = await service.body(request, kind)
        for name in said.names():
            await to_thread.run_sync(service.models.check, name)
        job = service.jobs.submit(lambda job: _made(service, said, work, job))
        try:
            await unless_left(request, ended_within(job, said.wait))
        except BaseException:
            service.jobs.cancel(job)  # nobody knows its id
            raise
        return answer(job)

    return handler


def _made(service: Service, said: Any, work: Work, job: Job) -> bytes:
    """The record's JSON; the models are held, and read by nobody else, meanwhile."""
    with ExitStack() as stack:
        served = [stack.enter_context(service.models.use(name)) for name in said.names()]
        for one in sorted({id(s): s for s in served}.values(), key=lambda s: s.subject.hash):
            stack.enter_context(one.lock)
        return work(said, [one.subject for one in served], job).to_json().encode()


def answer(job: Job) -> Response:
    """A job as it stands: its record, its error, or where to ask again."""
    if job.error is not None:
        return job.error.response()
    if job.status == "done":
        return Response(
            job.record, media_type="application/json", headers={"X-Workbench-Job": job.id}
        )
    where = f"{PREFIX}/jobs/{job.id}"
    status = 410 if job.status == "cancelled" else 202
    return JSONResponse({**job.to_dict(), "poll": where}, status, {"Location": where})


async def look(service: Service, request: Request) -> Response:
    """GET /workbench/v1/jobs/{id}: 202 while it goes on, then the record."""
    return answer(service.jobs.get(request.path_params["id"]))


async def stop(service: Service, request: Request) -> Response:
    """DELETE /workbench/v1/jobs/{id}."""
    job = service.jobs.get(request.path_params["id"])
    service.jobs.cancel(job)
    await ended_within(job, 2.0)
    return JSONResponse(job.to_dict())


async def nothing(service: Service, request: Request) -> Response:
    """Every other path."""
    raise ApiError(404, f"There is no {request.url.path}; see /v1/docs.", code="unknown_url")
