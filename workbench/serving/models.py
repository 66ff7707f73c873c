"""The models of a service: loaded on demand within a memory budget, never unloaded in use."""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench import memory
from workbench.errors import WorkbenchError
from workbench.generation import Engine
from workbench.serving.limits import ApiError, Limits
from workbench.subjects import Available, Subject, available, stamp
from workbench.subjects.intervention import Intervention, apply
from workbench.subjects.shared import shared

CHECKPOINT = re.compile(r"(run:[\w.-]+)@\d+")
MOST_MADE = 4
"""Unused models edited for one request that stay loaded."""
LISTED = 5.0
"""Seconds for which the list of loadable models is cached."""


@dataclass
class Served:
    """A loaded model with its engine.

    - `stamp`: changes when the model's files do
    - `temporary`: edited by the intervention of one request
    - `replaced`: no longer given to new requests
    - `users`: how many requests hold it
    - `used`: when a request took it last
    """

    subject: Subject
    engine: Engine
    stamp: str = ""
    temporary: bool = False
    replaced: bool = False
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by a reading of the model; generation does not need it."""

    @property
    def busy(self) -> bool:
        """Whether a request holds it, or its engine has work."""
        return bool(self.users or self.engine.n_open)


class Models:
    """The models of a service by name; a holder of `workbench.memory`.

    Args:
        limits: The memory budget, and the limits of engines.
        names: Serve only these; without any, all that can be loaded offline.
        dtype: Of the weights; one other than float32 has another hash.
    """

    name = "models of the service"
    weights = True

    def __init__(
        self, limits: Limits, names: Sequence[str] = (), dtype: torch.dtype = torch.float32
    ) -> None:
        self.limits = limits
        self.names = list(names)
        self.dtype = dtype
        self.loads = 0
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._grown = False
        self._loading = threading.RLock()
        self._counting = threading.Lock()  # held briefly only: the event loop takes it too
        self._listing = threading.Lock()
        self._listed: tuple[float, list[Available]] = (-LISTED, [])
        memory.register(self)

    def available(self) -> list[Available]:
        """The models that requests may name."""
        with self._listing:
            if time.monotonic() - self._listed[0] > LISTED:
                self._listed = (time.monotonic(), [a for a in available() if a.writes])
            listed = self._listed[1]
        if not self.names:
            return listed
        known = {a.name: a for a in listed}
        return [known.get(name) or _named(name) for name in self.names]

    def loaded(self) -> dict[str, Served]:
        """The models in memory by name."""
        return dict(list(self._served.items()))

    def check(self, name: str) -> None:
        """Raise `ApiError` for a name that is not listed: it must not reach the file system."""
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
        """A context with the model of a name, loaded if needed; it stays in memory until the end.

        Args:
            name: Of the model.
            change: An intervention for this request alone.
            listed: Whether only listed names are allowed; pages take any name that `load` does.

        Raises:
            ApiError: For a name that is not listed, or too little memory.
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
        """Cancel all generation and unload all models."""
        for served in self.loaded().values():
            served.engine.close(wait=False)
        self._served.clear()

    def _count(self, served: Served, change: int) -> None:
        with self._counting:
            served.users += change
            served.used = time.monotonic()
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
        """Load a model; its weights are those that pages and edits of it use."""
        self.loads += 1
        return shared(name, dtype=self.dtype, user=f"service {id(self)}")

    def _changed(self, name: str, change: Intervention) -> Served:
        key = _key(name, change)
        if key not in self._served:
            idle = [other for other, s in self._served.items() if s.temporary and not s.users]
            for other in idle[: len(idle) + 1 - MOST_MADE]:
                self._drop(other)
            return self._keep(key, apply(self._get(name).subject, change), "", temporary=True)
        self._served.move_to_end(key)
        return self._served[key]

    def _keep(self, key: str, subject: Subject, at: str, *, temporary: bool = False) -> Served:
        """Start an engine for a model and list it among the loaded ones."""
        limits = self.limits
        engine = Engine(
            subject,
            most_rows=limits.rows,
            most_waiting=limits.waiting,
            most_tokens=limits.tokens,
            prefix_bytes=limits.prefixes,
            copy_bytes=limits.memory // 2,  # with the weights themselves it has to fit
        )
        self._served[key] = Served(subject, engine, at, temporary)
        self._grown = True
        return self._served[key]

    def _make_room(self, wanted: Served, name: str) -> None:
        """Unload unused models, least recently used first, until the rest fits the budget."""
        while (used := self.memory()) > self.limits.memory:
            idle = [key for key, s in self._served.items() if s is not wanted and not s.busy]
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
        """Unload a model once its current users are done."""
        served = self._served.pop(key)
        with self._counting:
            served.replaced = True
            if not served.users:
                served.engine.close(wait=False)

    def entries(self) -> list[memory.Entry]:
        """The loaded models, for the process's account of memory."""
        return [
            memory.Entry(
                key, served.used, memory.storages(served.subject.model), in_use=served.busy
            )
            for key, served in self.loaded().items()
        ]

    def drop(self, key: Hashable) -> None:
        """Unload a model that nobody uses; one in use stays."""
        if not self._loading.acquire(blocking=False):  # a model is being loaded
            return
        try:
            served = self._served.get(str(key))
            if served is not None and not served.busy:
                self._drop(str(key))
        finally:
            self._loading.release()

    def memory(self) -> int:
        """Bytes of all weights in memory, with the engines' copies; shared ones count once."""
        seen: dict[Any, int] = {}
        copies = 0
        for served in self.loaded().values():
            copies += served.engine.n_bytes
            for tensor in served.subject.model.state_dict().values():
                storage = tensor.untyped_storage()
                seen[storage.data_ptr()] = storage.nbytes()
        return sum(seen.values()) + copies


def _key(name: str, change: Intervention) -> str:
    return f"{name} {change.to_json()}"


def _named(name: str) -> Available:
    """A model named on the command line, which may be a path."""
    from pathlib import Path

    kind = next((k for k in ("run", "edit") if name.startswith(f"{k}:")), "folder")
    return Available(name, kind, Path(name))


def change_of(fields: dict[str, Any] | None) -> Intervention | None:
    """The intervention of a request, or None.

    Args:
        fields: The JSON of an edit.

    Raises:
        ApiError: For an invalid one, or a transplant, which would load another model.
    """
    if fields is None:
        return None
    import json

    given = {"name": "request", "base": "", **fields}
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
