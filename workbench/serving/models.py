"""The models of a service: by name, loaded when asked for, within a memory budget; one in use never
leaves.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError
from workbench.generation import Engine
from workbench.serving.limits import ApiError, Limits
from workbench.subjects import Available, Subject, available, load, stamp
from workbench.subjects.intervention import Intervention, apply, read_intervention

CHECKPOINT = re.compile(r"(run:[\w.-]+)@\d+")
MOST_MADE = 4
"""Models made by interventions of requests that are kept while nobody uses them."""
LISTED = 5.0
"""Seconds for which the list of what can be loaded is believed."""


@dataclass
class Served:
    """A loaded model with its engine; `users` are the requests that hold it.

    - `made`: by an intervention of one request; `replaced`: no longer given to new requests
    """

    subject: Subject
    engine: Engine
    stamp: str = ""
    made: bool = False
    replaced: bool = False
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by readings of the model other than generation, one at a time."""


class Models:
    """Names to models.

    Args:
        limits: The memory budget, and what an engine takes on.
        names: Only these are served; without any, all that can be loaded without the network.
    """

    def __init__(self, limits: Limits, names: Sequence[str] = ()) -> None:
        self.limits = limits
        self.names = list(names)
        self.loads = 0
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._grown = False
        self._loading = threading.RLock()
        self._counting = threading.Lock()  # never held for long: the event loop takes it too
        self._listing = threading.Lock()
        self._listed: tuple[float, list[Available]] = (-LISTED, [])

    def available(self) -> list[Available]:
        """What may be asked for."""
        with self._listing:
            if time.monotonic() - self._listed[0] > LISTED:
                self._listed = (time.monotonic(), [a for a in available() if a.kind != "seq2seq"])
            found = self._listed[1]
        if not self.names:
            return found
        known = {a.name: a for a in found}
        return [known.get(name) or _named(name) for name in self.names]

    def loaded(self) -> dict[str, Served]:
        """The models in memory."""
        return dict(list(self._served.items()))

    def check(self, name: str) -> None:
        """Raise `ApiError` for a name that is not on the list: no other name reaches the file
        system.
        """
        known = {a.name for a in self.available()}
        checkpoint = CHECKPOINT.fullmatch(name)
        if name not in known and not (checkpoint and checkpoint[1] in known):
            raise ApiError(
                404,
                f"There is no model {name!r}; GET /v1/models lists them.",
                param="model",
                code="model_not_found",
            )

    @contextmanager
    def use(
        self, name: str, change: Intervention | None = None, *, listed: bool = True
    ) -> Iterator[Served]:
        """The model of this name, which stays in memory until the request is done; loads it where
        need be.

        Pages, which take any name that `load` does, set `listed` to False.
        """
        if listed:
            self.check(name)
        with self._loading:
            served = self._get(name) if change is None else self._changed(name, change)
            self._count(served, 1)
            if self._grown:
                self._make_room(served, name if change is None else _key(name, change))
        try:
            yield served
        finally:
            self._count(served, -1)

    def close(self) -> None:
        """Cancel what is under way and let go of all models."""
        for served in self.loaded().values():
            served.engine.close(wait=False)
        self._served.clear()

    def _count(self, served: Served, change: int) -> None:
        with self._counting:
            served.users += change
            if served.replaced and not served.users:
                served.engine.close(wait=False)

    def _get(self, name: str) -> Served:
        at = stamp(name)
        served = self._served.get(name)
        if served is not None and served.stamp != at:  # its files have changed
            self._drop(name)
            served = None
        if served is None:
            return self._keep(name, self._load(name), at)
        self._served.move_to_end(name)
        return served

    def _load(self, name: str) -> Subject:
        """Load a model; an edit shares the weights of its base where that is served too."""
        self.loads += 1
        if name.startswith("edit:"):
            change = read_intervention(name.removeprefix("edit:"))
            if change.base != name and change.base in {a.name for a in self.available()}:
                return apply(self._get(change.base).subject, change)
        return load(name)

    def _changed(self, name: str, change: Intervention) -> Served:
        key = _key(name, change)
        if key not in self._served:
            made = [other for other, s in self._served.items() if s.made and not s.users]
            for other in made[: len(made) + 1 - MOST_MADE]:
                self._drop(other)
            return self._keep(key, apply(self._get(name).subject, change), "", made=True)
        self._served.move_to_end(key)
        return self._served[key]

    def _keep(self, key: str, subject: Subject, at: str, *, made: bool = False) -> Served:
        limits = self.limits
        engine = Engine(
            subject,
            most_rows=limits.rows,
            most_waiting=limits.waiting,
            most_tokens=limits.tokens,
            prefix_bytes=limits.prefixes,
        )
        self._served[key] = Served(subject, engine, at, made)
        self._grown = True
        return self._served[key]

    def _make_room(self, wanted: Served, name: str) -> None:
        """Let go of models that nobody uses, the least recently used first, until the rest fits."""
        while (used := self.memory()) > self.limits.memory:
            idle = [
                key
                for key, s in self._served.items()
                if s is not wanted and not s.users and not s.engine.n_open
            ]
            if not idle:
                self._count(wanted, -1)
                if not wanted.users:
                    self._drop(name)
                raise ApiError(
                    503,
                    f"{wanted.subject.name} does not fit beside the models in use: {used >> 20} "
                    f"MiB of {self.limits.memory >> 20} MiB; ask again later, or give the service "
                    "more memory.",
                    code="out_of_memory",
                )
            self._drop(idle[0])
        self._grown = False

    def _drop(self, key: str) -> None:
        """Let go of a model; those who use it finish with it."""
        served = self._served.pop(key)
        with self._counting:
            served.replaced = True
            if not served.users:
                served.engine.close(wait=False)

    def memory(self) -> int:
        """Bytes of all weights in memory, shared ones once."""
        seen: dict[Any, int] = {}
        for served in self.loaded().values():
            for tensor in served.subject.model.state_dict().values():
                storage = tensor.untyped_storage()
                seen[storage.data_ptr()] = storage.nbytes()
        return sum(seen.values())


def _key(name: str, change: Intervention) -> str:
    return f"{name} {change.to_json()}"


def _named(name: str) -> Available:
    """What the operator named on the command line, which may be a path."""
    from pathlib import Path

    kind = next((k for k in ("run", "edit") if name.startswith(f"{k}:")), "folder")
    return Available(name, kind, Path(name))


def change_of(said: dict[str, Any] | None) -> Intervention | None:
    """The intervention of a request. Raises `ApiError` for one that is none, or that would load
    another model.
    """
    if said is None:
        return None
    import json

    given = {"name": "request", "base": "", **said}
    if given.get("transplant") is not None:
        raise ApiError(
            400,
            "A transplant cannot be made for one request; keep it as an edit and name that as "
            "the model.",
            param="workbench.intervention.transplant",
        )
    try:
        return Intervention.from_json(json.dumps(given))
    except WorkbenchError as error:
        raise ApiError(400, str(error), param="workbench.intervention") from error
