"""The metrics of a service in Prometheus's text format; they hold no prompts and no user names."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from workbench.serving.service import Service


def metrics(service: "Service") -> str:
    """All metrics of a service, one per line."""
    return "\n".join(_lines(service)) + "\n"


def _lines(service: "Service") -> Iterator[str]:
    yield "# TYPE workbench_requests_total counter"
    for (name, status), n in sorted(service.answers.items()):
        yield f'workbench_requests_total{{endpoint="{name}",status="{status}"}} {n}'
    loaded = service.models.loaded().values()
    for what, kind, value in (
        ("requests_at_once", "gauge", service.at_once),
        ("uptime_seconds", "gauge", round(time.time() - service.began, 3)),
        ("model_loads_total", "counter", service.models.loads),
        ("model_bytes", "gauge", service.models.memory()),
        ("process_resident_bytes", "gauge", psutil.Process().memory_info().rss),
    ):
        yield f"# TYPE workbench_{what} {kind}"
        yield f"workbench_{what} {value}"
    for what, kind in (
        ("tokens", "counter"),
        ("prompt_tokens", "counter"),
        ("reused_tokens", "counter"),
        ("busy_s", "counter"),
    ):
        yield f"# TYPE workbench_{what}_total {kind}"
        for served in loaded:
            yield (
                f"workbench_{what}_total{_of(served.subject.hash)} "
                f"{getattr(served.engine.counts, what)}"
            )
    for what in ("n_open", "n_waiting"):
        yield f"# TYPE workbench_engine_{what} gauge"
        for served in loaded:
            yield (
                f"workbench_engine_{what}{_of(served.subject.hash)} {getattr(served.engine, what)}"
            )


def _of(sha256: str) -> str:
    return f'{{sha256="{sha256[:12]}"}}'
