"""Interventions: reproducible edits of a Subject, saved as JSON. An edited Subject is a Subject.

An edit is the same at every position and independent of the prompt, so the edited model can be
benchmarked, patched and talked to like any other. The values of an edit (means, directions) are
stored in it; nothing is computed when it is applied. A transplant replaces weights by those of
another model; both models are named and pinned by their hashes.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_type_hints

import pandas as pd
import torch
from transformers import PreTrainedModel

from workbench import paths
from workbench.doors import made_folder, parsed_json, path_of, reading, writing
from workbench.errors import WorkbenchError
from workbench.jsonable import rebuild
from workbench.public import public
from workbench.records import Record
from workbench.subjects import identity
from workbench.subjects.bridge import own_clone, shared_clone
from workbench.subjects.edits import ACTIONS, SITES, Edit, hang
from workbench.subjects.parts import Parts, assemble
from workbench.subjects.stream import stream_of
from workbench.subjects.subject import Subject, SubjectOrName

FURTHEST = 1000
"""Largest alpha: how many times the way to the donor's weights a transplant may go."""
MOST_BYTES = 50_000_000
"""Largest intervention file."""
NAME = re.compile(r"[\w.+-]{1,80}")


@dataclass(frozen=True)
class Transplant:
    """Parts of the base whose weights are replaced by a donor's.

    - `donor`: name of the donor, as `load` takes it
    - `donor_sha256`, `base_sha256`: hashes of the two models
    - `parts`: names of the parts (see `subjects.parts`)
    - `alpha`: how far the weights move from the base's (0) to the donor's (1)
    """

    donor: str
    donor_sha256: str
    base_sha256: str
    parts: tuple[str, ...]
    alpha: float = 1.0


@dataclass(frozen=True)
class Intervention(Record):
    """A named list of edits of one base model.

    - `name`: name under which it can be saved
    - `base`: name of the base model, as `load` takes it
    - `edits`: edits of activations
    - `words`: what it does, for people
    - `transplant`: weights of another model, replaced before the edits
    """

    name: str
    base: str
    edits: tuple[Edit, ...]
    words: str = ""
    transplant: Transplant | None = None

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of the models of a transplant, by name; edits alone pin no weights."""
        transplant = self.transplant
        if transplant is None:
            return {}
        return {
            self.base: transplant.base_sha256,
            transplant.donor: transplant.donor_sha256,
        }

    def headline(self) -> str:
        """What it does, in words."""
        words = self.words or f"{len(self.edits)} edits"
        return f"{self.name} of {self.base or 'no named base'}: {words}"

    def to_frame(self) -> pd.DataFrame:
        """One row per edit, and one per transplanted part."""
        rows = [
            {
                "layer": edit.layer,
                "site": edit.site,
                "index": ", ".join(map(str, edit.index)) or "all",
                "action": edit.action,
            }
            for edit in self.edits
        ]
        parts = self.transplant.parts if self.transplant else ()
        rows += [
            {"layer": None, "site": part, "index": "all", "action": "transplant"} for part in parts
        ]
        return pd.DataFrame(rows, columns=pd.Index(["layer", "site", "index", "action"]))

    def to_json(self, *, indent: int | None = 1) -> str:
        """The intervention as JSON, without provenance, because its hash pins the edited model."""
        values = asdict(self)
        if self.transplant is None:
            del values["transplant"]  # keeps the hashes of before there were transplants
        return json.dumps(values, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Intervention":
        """The intervention that `to_json` wrote.

        Raises:
            WorkbenchError: For anything but an intervention.
        """
        with reading(
            "This", "give the JSON that an intervention was saved as", "is not an intervention"
        ):
            values = parsed_json(text)
            _check_words(values)
            hints = get_type_hints(cls)
            change = cls(**{word: rebuild(hints[word], value) for word, value in values.items()})
        change.check()
        return change

    def check(self) -> None:
        """Raise `WorkbenchError` for an invalid name, site, action, value or transplant."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise WorkbenchError(
                f"An intervention's name is letters, digits and . + - _; {self.name!r} is not."
            )
        for edit in self.edits:
            if edit.site not in SITES or edit.action not in ACTIONS:
                raise WorkbenchError(
                    f"An edit is {edit.action!r} at {edit.site!r}; it must be one of "
                    f"{', '.join(ACTIONS)} at one of {', '.join(SITES)}."
                )
            if not _is_finite(edit.value):
                raise WorkbenchError(
                    f"The edit at {edit.site} of layer {edit.layer} in {self.name} has a value "
                    "that is no finite number (NaN or infinity); all that follows would be NaN. "
                    "Give finite numbers."
                )
        if self.transplant is not None and not _is_valid(self.transplant):
            raise WorkbenchError(
                "A transplant names its donor, two hashes, its parts and an alpha from "
                f"-{FURTHEST} to {FURTHEST}."
            )

    def save(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Save it in the home folder and return the name under which `load` finds the edited model.

        Raises:
            WorkbenchError: Another intervention has this name; a name's meaning never changes.
        """
        self.check()
        folder = made_folder(paths.home() / "interventions")
        path = folder / f"{self.name}.json"
        if path.is_file() and path.read_text(encoding="utf-8") != self.to_json():
            raise WorkbenchError(
                f"Another intervention is kept as {self.name}; choose another name."
            )
        with writing(path) as part:
            part.write_text(self.to_json(), encoding="utf-8")
        return f"edit:{self.name}"


def _check_words(values: dict[str, Any]) -> None:
    """Raise `ValueError` for a field that no part of an intervention has."""
    parts = [
        (Intervention, values),
        *((Edit, edit) for edit in values["edits"]),
        (Transplant, values.get("transplant") or {}),
    ]
    for kind, given in parts:
        unknown = sorted(set(given) - {field.name for field in fields(kind)})
        if unknown:
            raise ValueError(f"it has words that none has: {', '.join(unknown)}")


def _is_valid(transplant: Transplant) -> bool:
    """Whether the fields of a transplant, which may come from a file, have the right types."""
    hashes = (transplant.donor_sha256, transplant.base_sha256)
    texts = (transplant.donor, *hashes, *transplant.parts)
    alpha: Any = transplant.alpha
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(alpha, int | float)
        and abs(alpha) <= FURTHEST
    )


def _is_finite(value: Any) -> bool:
    """Whether a number, or every number in nested lists, is finite."""
    try:
        return bool(torch.isfinite(torch.as_tensor(value, dtype=torch.float64)).all())
    except (TypeError, ValueError, RuntimeError):
        return False


def saved() -> list[Path]:
    """The files of saved interventions."""
    return sorted((paths.home() / "interventions").glob("*.json"))


def read_intervention(name: str) -> Intervention:
    """A saved intervention by name, or one in a .json file.

    Raises:
        WorkbenchError: There is none, or the file is damaged.
    """
    path = path_of(name, "kept intervention")
    if not name.endswith(".json"):
        path = path_of(paths.home() / "interventions" / f"{path.name}.json")
    if not path.is_file():
        raise _missing(name)
    if path.stat().st_size > MOST_BYTES:
        raise WorkbenchError(
            f"{path} is larger than {MOST_BYTES // 10**6} MB, which no intervention is."
        )
    with reading(path, "save the intervention again"):
        text = path.read_text(encoding="utf-8")
    return Intervention.from_json(text)


def rename_intervention(name: str, new: str) -> str:
    """The name under which `load` finds a saved intervention from now on.

    Args:
        name: Its name, with or without `edit:`.
        new: Its new name.

    Raises:
        WorkbenchError: There is none, or the new name is taken or is no name.
    """
    change = read_intervention(name.removeprefix("edit:"))
    if change.name != new:
        renamed = replace(change, name=new)
        if any(path.stem == new for path in saved()):
            raise WorkbenchError(f"An intervention {new} exists already; choose another name.")
        renamed.save()
        delete_intervention(change.name)
    return f"edit:{new}"


def delete_intervention(name: str) -> None:
    """Deletes a saved intervention.

    Args:
        name: Its name, with or without `edit:`.

    Raises:
        WorkbenchError: There is none.
    """
    bare = name.removeprefix("edit:")
    path = next((path for path in saved() if path.stem == bare), None)
    if path is None:
        raise _missing(bare)
    path.unlink()


def _missing(name: str) -> WorkbenchError:
    """The error for a name under which no intervention is kept."""
    names = ", ".join(path.stem for path in saved()) or "none yet"
    return WorkbenchError(f"There is no intervention {name!r}; kept are: {names}.")


@public("subject", "donor")
def apply(
    subject: SubjectOrName, change: Intervention, donor: SubjectOrName | None = None
) -> Subject:
    """The edited Subject; `subject` is not changed.

    It shares the weights and needs memory only for those that a transplant changes. Its hash covers
    weights and edits, and its card names the parent.

    Args:
        subject: The base model.
        change: The intervention.
        donor: The donor of a transplant; loaded by its name where it is not given.

    Raises:
        WorkbenchError: The model lacks a layer, head or neuron of an edit, a value has another
            shape, or base or donor are not the models that the transplant was made from.
    """
    subject = cast("Subject", subject)  # loaded by the decorator, as the donor is
    donor = cast("Subject | None", donor)
    change.check()
    mapping: Any = subject.bridge.adapter.component_mapping
    model = (
        shared_clone(subject.model)
        if change.transplant is None
        else _grafted(subject, change.transplant, donor)
    )
    layers: Any = model.get_submodule(mapping["blocks"].name)
    stream = stream_of(subject.model, mapping) if change.edits else None
    if stream is not None and stream.unlike:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) cannot be edited: {stream.unlike}."
        )
    for edit in change.edits:
        if not 0 <= edit.layer < len(layers):
            raise WorkbenchError(
                f"{subject.name} has no layer {edit.layer}; it has layers 0 to {len(layers) - 1}."
            )
        assert stream is not None
        hang(layers[edit.layer], stream.blocks[edit.layer], edit, subject)
    name = f"{subject.name}+{change.name}"
    card = replace(
        subject.card,
        name=name,
        sha256=_with_edits(subject.card.sha256, change),
        identity=_with_edits(subject.hash, change),
        parent=subject.name,
        notes=change.words,
        metrics={},
    )
    return Subject(name, model, subject.tokenizer, card)


def _with_edits(sha256: str, change: Intervention) -> str:
    """The hash of a model together with an intervention."""
    return hashlib.sha256((sha256 + change.to_json()).encode()).hexdigest()


def _grafted(subject: Subject, change: Transplant, donor: Subject | None) -> PreTrainedModel:
    """A clone of the model with the donor's parts in it."""
    from workbench.subjects.load import load

    donor = donor or load(change.donor, device=subject.device)
    for model, sha256, what in (
        (subject, change.base_sha256, "base"),
        (donor, change.donor_sha256, "donor"),
    ):
        if not identity.matches(model, sha256):
            raise WorkbenchError(
                f"The transplant was made with another {what}: {model.name} has sha256 "
                f"{model.hash[:12]}, it was {sha256[:12]}; bring the old weights back, or make the "
                "transplant again."
            )
    check_alike(subject, donor)
    parts = Parts(subject)
    slices = [piece for name in change.parts for piece in parts.slices(name)]
    clone = own_clone(subject.model)
    parameters = dict(clone.named_parameters())
    host_weights = {name: p.detach() for name, p in parameters.items()}
    donor_weights = {name: p.detach() for name, p in donor.model.named_parameters()}
    changed = assemble(slices, host_weights, donor_weights, change.alpha)
    for name, tensor in changed.items():
        parameters[name].data = tensor
    return clone


def check_alike(base: Subject, donor: Subject) -> None:
    """Raise `WorkbenchError` unless weights of one model fit into the other.

    Vocabularies may differ in size; the embedding rows that both have fit.

    Raises:
        WorkbenchError: The models differ in architecture or shapes, or one has edits of
            activations.
    """
    same_shapes = _shapes(base) == _shapes(donor)
    if base.card.architecture != donor.card.architecture or not same_shapes:
        raise WorkbenchError(
            f"{base.name} and {donor.name} differ in shape, so no weights of one fit the other; "
            "choose a model and its fine-tune."
        )
    for subject in (base, donor):
        if has_hooks(subject):
            raise WorkbenchError(
                f"{subject.name} is edited while it runs, not in its weights; transplants move "
                "weights only."
            )


def _shapes(subject: Subject) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, without the number of rows of (un)embeddings."""
    ends = [subject.model.get_input_embeddings(), subject.model.get_output_embeddings()]
    of_tokens = {
        id(p) for module in ends if module is not None for p in module.parameters(recurse=False)
    }
    return {
        n: tuple(p.shape[1:]) if id(p) in of_tokens else tuple(p.shape)
        for n, p in subject.model.named_parameters()
    }


def has_hooks(subject: Subject) -> bool:
    """Whether the model has edits of activations (hooks), which its weights do not contain."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())
