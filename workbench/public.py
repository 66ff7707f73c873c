"""The decorator of every public function: it loads models by name, and records provenance."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.jsonable import plain
from workbench.modes import modes
from workbench.provenance import Provenance, data_hash, provenance
from workbench.records import Record, stamp

DATA = (
    "prompt",
    "clean",
    "corrupted",
    "text",
    "texts",
    "target",
    "positive",
    "negative",
    "probe",
    "labels",
)
"""Names of arguments that are data, whose hashes are recorded."""
LISTENERS = ("progress", "partial", "each_layer", "tracker", "known")
"""Names of arguments that do not affect the result: callbacks, and earlier measurements."""
SHORT = 1000
"""Longest argument, in characters, that is recorded whole."""

F = TypeVar("F", bound=Callable[..., Any])


def public(
    *models: str,
    loads: bool = False,
    seq2seq: bool = False,
    encoder: bool = False,
    signals: bool = False,
) -> Callable[[F], F]:
    """A decorator that loads models given by name, and records the result's provenance.

    The function's signature is kept. A name is loaded anew at each call, so load a model once and
    pass the Subject where many calls follow.

    Args:
        models: Names of parameters that take a `SubjectOrName`, or a list of them.
        loads: The function loads its models itself, because it needs their names; paths are passed
            on as text.
        seq2seq: Whether encoder-decoder models are accepted.
        encoder: Whether encoder-only models are accepted.
        signals: Whether the models are `Encoder`s, of pictures or sounds, and not `Subject`s.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        def subject_of(source: Any) -> Any:
            from workbench.subjects import Subject, load
            from workbench.subjects.encoder_load import load_encoder

            if isinstance(source, Subject):
                _check_kind(source, seq2seq=seq2seq, encoder=encoder)
            if not isinstance(source, str | Path):
                return source
            if loads:
                return str(source) if isinstance(source, Path) else source
            with modes():  # loading must not depend on the caller's torch state
                if signals:
                    return load_encoder(source)
                return load(source, seq2seq=seq2seq, encoder=encoder)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # raises Python's own message about arguments
            for name in models:
                if name in bound.arguments:
                    given = bound.arguments[name]
                    many = isinstance(given, list | tuple)
                    bound.arguments[name] = (
                        [subject_of(one) for one in given] if many else subject_of(given)
                    )
            result = function(*bound.args, **bound.kwargs)
            bound.apply_defaults()
            _keep(result, function.__name__, bound.arguments, models)
            return result

        return called  # pyright: ignore[reportReturnType]

    return decorate


def _check_kind(subject: Any, *, seq2seq: bool, encoder: bool) -> None:
    """Raise `WorkbenchError` for a Subject of a kind for which a function has no meaning."""
    from workbench.subjects.kinds import ENCODER, SEQ2SEQ, refusal

    kind = subject.kind
    if (kind == SEQ2SEQ and not seq2seq) or (kind == ENCODER and not encoder):
        raise WorkbenchError(refusal(f"{subject.name} ({subject.card.architecture})", kind))


def _keep(result: Any, function: str, given: Mapping[str, Any], models: tuple[str, ...]) -> None:
    """Record the provenance on a record, or in a table's `attrs`; other results cannot hold it."""
    if isinstance(result, Record):
        stamp(result, _provenance(function, given, models, result))
    elif hasattr(result, "attrs"):
        result.attrs["provenance"] = plain(_provenance(function, given, models, None))


def _provenance(
    function: str, given: Mapping[str, Any], models: tuple[str, ...], record: Record | None
) -> Provenance:
    from workbench.subjects import Subject

    read = (
        {}
        if record is None
        else {name: sha256 for name, sha256 in record.model_hashes().items() if sha256}
    )
    if record is not None and record.provenance is not None:  # the function knew its models better
        read |= record.provenance.models
    for name in models:
        sources = given[name] if isinstance(given[name], list | tuple) else [given[name]]
        read |= {source.name: source.hash for source in sources if isinstance(source, Subject)}
    inputs = {name: _listed(given.get(name)) for name in DATA}
    data = {name: data_hash(_shelved(name, value)) for name, value in inputs.items() if value}
    settings = {
        name: _setting(value) for name, value in given.items() if name not in (*models, *LISTENERS)
    }
    seed = given.get("seed", getattr(record, "seed", None))
    known = {} if record is None else record.data_hashes()
    return provenance(
        f"workbench.{function}", settings, models=read, data={**data, **known}, seed=seed
    )


def _listed(value: Any) -> Any:
    """An array as lists, whose JSON has every number; any other value unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def _shelved(name: str, value: Any) -> Any:
    """The file of a probe that was given by name; any other value unchanged."""
    if name != "probe" or not isinstance(value, str):
        return value
    files = (
        folder / f"{value}.toml" for folder in (paths.shelf("probes"), paths.home() / "probes")
    )
    return next((file for file in files if file.is_file()), value)


def _setting(value: Any) -> Any:
    """An argument in JSON's types; of a long one only the beginning, as `data` has its hash."""
    try:
        words = plain(value)
    except TypeError:
        return repr(value)[:SHORT]
    text = words if isinstance(words, str) else repr(words)
    return words if len(text) <= SHORT else f"{text[:SHORT]}…"
