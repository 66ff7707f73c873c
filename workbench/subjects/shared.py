"""One copy of a model's weights for all pages, sessions and requests of the process.

Who asks for a model gets a module tree over weights that are loaded once. Hooks of the pages do not
fire in the service's runs, because each of the two has a tree of its own. A copy lives as long as
somebody holds a Subject of it.
"""

import threading
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from workbench.errors import WorkbenchError
from workbench.subjects.bridge import shared_clone
from workbench.subjects.kinds import DECODER, ENCODER, SEQ2SEQ, refusal
from workbench.subjects.load import load, loading_edit
from workbench.subjects.modules import device_of, moved
from workbench.subjects.names import resolve, stamp
from workbench.subjects.subject import Subject

PAGES = "pages"
"""The user of the trees that pages run."""


@dataclass(eq=False)
class _Copy:
    """Weights in memory.

    - `subject`: never run and never hooked, so that its clones have no hooks of anybody
    - `base`: the copy whose weights it shares, which must not be loaded again meanwhile
    - `views`: the Subject of each user
    - `lock`: held while the tree is read
    """

    subject: Subject
    base: "_Copy | None" = None
    views: "WeakValueDictionary[str, Subject]" = field(default_factory=WeakValueDictionary)
    lock: Any = field(default_factory=threading.RLock)


@dataclass
class _Turn:
    """The lock of one name while its model is loaded."""

    waiting: int = 0
    lock: Any = field(default_factory=threading.Lock)


_COPIES: "WeakValueDictionary[tuple, _Copy]" = WeakValueDictionary()
_SAME: "WeakValueDictionary[tuple, _Copy]" = WeakValueDictionary()
"""The copies by what is in them: the hash and the device."""
_OF: "WeakKeyDictionary[Subject, _Copy]" = WeakKeyDictionary()
_TURNS: dict[tuple, _Turn] = {}
_LOCK = threading.Lock()
_counts = {"loads": 0}


def shared(
    name: str,
    *,
    seq2seq: bool = False,
    encoder: bool = False,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    user: str = PAGES,
) -> Subject:
    """The process's Subject of a name, loaded once however many ask at once; never modify it.

    Files that have changed are loaded again. Two names of the same contents share weights, and so
    does an edit with its base.

    Args:
        name: As `load` takes it.
        seq2seq: Accept encoder-decoder models.
        encoder: Accept encoder-only models.
        device: Where to put the weights; the default is the GPU where there is one.
        dtype: Of the weights.
        user: Whose module tree it is: Subjects of different users share weights, but no hooks.

    Raises:
        WorkbenchError: The model cannot be loaded, or is of a kind that is not accepted.
    """
    device = device_of(device)
    kinds = (DECODER, *([SEQ2SEQ] if seq2seq else []), *([ENCODER] if encoder else []))
    copy = _copy_of(name.strip(), device, dtype, kinds)
    whole = copy.subject
    if whole.kind not in kinds:
        raise WorkbenchError(refusal(f"{whole.name} ({whole.card.architecture})", whole.kind))
    with copy.lock:
        view = copy.views.get(user)
        if view is None:
            view = Subject(whole.name, shared_clone(whole.model), whole.tokenizer, whole.card)
            copy.views[user] = view
            _OF[view] = copy
        return view


def loads() -> int:
    """How often weights were read since the process began."""
    return _counts["loads"]


def _copy_of(name: str, device: torch.device, dtype: torch.dtype, kinds: tuple) -> _Copy:
    exact = resolve(name)
    key = (exact, stamp(exact), str(device), dtype)
    if exact.startswith("edit:"):
        # Without a lock: two edits that are made from each other would wait for each other.
        return _COPIES.get(key) or _entered(key, *_edited(exact, device, dtype))
    with _LOCK:
        turn = _TURNS.setdefault(key, _Turn())
        turn.waiting += 1
    try:
        with turn.lock:
            return _COPIES.get(key) or _entered(key, _loaded(exact, device, dtype, kinds))
    finally:
        with _LOCK:
            turn.waiting -= 1
            if not turn.waiting:
                _TURNS.pop(key, None)


def _loaded(name: str, device: torch.device, dtype: torch.dtype, kinds: tuple) -> Subject:
    _counts["loads"] += 1
    subject = load(name, device=device, seq2seq=SEQ2SEQ in kinds, encoder=ENCODER in kinds)
    if dtype != torch.float32:  # which all models are loaded in
        moved(subject.model, dtype)
    return subject


def _edited(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Subject, _Copy]:
    """An edit over the shared weights of its base."""
    from workbench.subjects.intervention import apply, read_intervention

    with loading_edit(name):
        change = read_intervention(name.removeprefix("edit:"))
        base = _copy_of(change.base, device, dtype, (DECODER,))
        with base.lock:
            return apply(base.subject, change), base


def _entered(key: tuple, subject: Subject, base: _Copy | None = None) -> _Copy:
    """The copy of a Subject that was just loaded, over weights that are there already if any are.

    Args:
        key: Its name, files, device and dtype.
        subject: The Subject.
        base: The copy that it was made from.
    """
    contents = (subject.hash, str(subject.device))
    with _LOCK:
        known = _COPIES.get(key)
        same = _SAME.get(contents)
        if known is not None:
            return known
        if same is not None and base is None:
            with same.lock:
                model = shared_clone(same.subject.model)
            subject = Subject(subject.name, model, subject.tokenizer, subject.card)
        copy = _Copy(subject, base or same)
        _COPIES[key] = copy
        _SAME.setdefault(contents, copy)
        return copy
