"""/workbench/v1/{attention,heads,patch,lens,compare}: records of the Python API as JSON."""

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
"""Maximum of numbers in an attention pattern sent as JSON."""


def _attention(body: fields.AttentionRequest, subjects: list[Subject], job: Job) -> Record:
    [subject] = subjects
    card = subject.card
    n = len(subject.ids(body.prompt))
    if card.n_layers * card.n_heads * n * n > MOST_NUMBERS:
        raise WorkbenchError(
            f"The patterns of {card.n_layers * card.n_heads} heads over {n} tokens are more than "
            f"{MOST_NUMBERS:,} numbers, too many for JSON; shorten the prompt, or take the site "
            "pattern of some layers by capture."
        )
    return attention(subject, body.prompt)


def _heads(body: fields.HeadsRequest, subjects: list[Subject], job: Job) -> Record:
    return head_scores(subjects[0], texts=body.texts, n=body.n, length=body.length, seed=body.seed)


def _patch(body: fields.PatchRequest, subjects: list[Subject], job: Job) -> Record:
    return patch(subjects[0], **body.model_dump(exclude={"model", "wait"}), progress=job.report)


def _lens(body: fields.LensRequest, subjects: list[Subject], job: Job) -> Record:
    return lens(subjects[0], body.prompt, kind=body.kind, answer=body.answer or ())


def _compare(body: fields.CompareRequest, subjects: list[Subject], job: Job) -> Record:
    from workbench.benchmarks import suites  # these import the harness, which takes seconds
    from workbench.comparison import compare

    if body.suite not in suites():  # a path would be read as a file
        raise WorkbenchError(
            f"There is no suite {body.suite!r}; there are {', '.join(sorted(suites()))}."
        )
    return compare(
        *subjects,
        suite=body.suite,
        limit=body.limit,
        seed=body.seed,
        parts=body.parts,
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
"""By path: the request's fields, the function that makes the record, a summary for the document."""


def asking(kind: type[fields.Reading], work: Work) -> Any:
    """The handler of a path: answers with the record if it is ready in time, else with its job.

    Args:
        kind: The fields of the request.
        work: Makes the record of the fields and their models.
    """

    async def handler(service: Service, request: Request) -> Response:
        body = await service.body(request, kind)
        for name in body.names():
            await to_thread.run_sync(service.models.check, name)
        job = service.jobs.submit(lambda job: _made(service, body, work, job))
        try:
            await unless_left(request, ended_within(job, body.wait))
        except BaseException:
            service.jobs.cancel(job)  # the client left without its id
            raise
        return answer(job)

    return handler


def _made(service: Service, body: Any, work: Work, job: Job) -> bytes:
    """The record as JSON; its models stay loaded and locked meanwhile."""
    with ExitStack() as stack:
        served = [stack.enter_context(service.models.use(name)) for name in body.names()]
        for one in sorted({id(s): s for s in served}.values(), key=lambda s: s.subject.hash):
            stack.enter_context(one.lock)
        return work(body, [one.subject for one in served], job).to_json().encode()


def answer(job: Job) -> Response:
    """The answer to a job's current state: its record, its error, or where to poll."""
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
    """GET /workbench/v1/jobs/{id}: 202 while the job runs, then the record."""
    return answer(service.jobs.get(request.path_params["id"]))


async def stop(service: Service, request: Request) -> Response:
    """DELETE /workbench/v1/jobs/{id}: cancels the job."""
    job = service.jobs.get(request.path_params["id"])
    service.jobs.cancel(job)
    await ended_within(job, 2.0)
    return JSONResponse(job.to_dict())


async def nothing(service: Service, request: Request) -> Response:
    """Every other path: 404."""
    raise ApiError(404, f"There is no {request.url.path}; see /v1/docs.", code="unknown_url")
