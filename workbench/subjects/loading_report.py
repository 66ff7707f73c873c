"""Report on loading: tensors that are missing, left over, of another shape or not finite.

transformers fills missing tensors with random numbers, so nothing of this kind may pass silently.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError

HARMLESS = (
    # rotary angles, which follow from the configuration
    r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$",
    # causal masks of GPT-2, GPT-Neo, GPT-J and GPT-NeoX
    r"(^|\.)(attn|attention)\.(bias|masked_bias)$",
    # causal masks of CodeGen
    r"(^|\.)attn\.causal_mask$",
    # the numbers 0, 1, 2 ...
    r"(^|\.)position_ids$",
    # causal masks and rotary angles of TransformerLens
    r"(^|\.)attn\.(mask|IGNORE|rotary_sin|rotary_cos)$",
    # what BERT was also trained with: the head that tells whether two sentences follow each other
    r"^(bert\.)?pooler\.dense\.(weight|bias)$",
    r"^cls\.seq_relationship\.(weight|bias)$",
)
"""Name patterns of tensors in files that no model needs."""

NAMED = 3
"""Number of tensors named in a message, one of each kind where there are several."""
LONGEST_NAME = 120
"""Most characters of a tensor's name in a message."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadingReport:
    """Tensors that do not match between a file and its model.

    - `missing`: names that the model has and the file has not
    - `left_over`: names that the file has and the model has not
    - `reshaped`: name, shape in the file, shape in the model
    """

    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    reshaped: tuple[tuple[str, Shape, Shape], ...] = field(default=())

    @classmethod
    def from_transformers(cls, info: Mapping[str, Any]) -> "LoadingReport":
        """The report from the info of `from_pretrained(..., output_loading_info=True)`."""
        return cls(
            missing=tuple(sorted(info["missing_keys"])),
            left_over=tuple(sorted(filter(is_needed, info["unexpected_keys"]))),
            reshaped=tuple(
                sorted((name, tuple(a), tuple(b)) for name, a, b in info["mismatched_keys"])
            ),
        )

    @classmethod
    def between(cls, file: Mapping[str, Shape], model: Mapping[str, Shape]) -> "LoadingReport":
        """The report from the shapes of a file's tensors and a model's, by name."""
        shared = sorted(set(file) & set(model))
        return cls(
            missing=tuple(sorted(set(model) - set(file))),
            left_over=tuple(sorted(filter(is_needed, set(file) - set(model)))),
            reshaped=tuple(
                (name, file[name], model[name]) for name in shared if file[name] != model[name]
            ),
        )

    @property
    def is_clean(self) -> bool:
        """Whether all tensors of the model and of the file match."""
        return not (self.missing or self.left_over or self.reshaped)

    @property
    def n_open(self) -> int:
        """How many tensors do not match."""
        return len(self.missing) + len(self.left_over) + len(self.reshaped)

    def words(self) -> str:
        """What is wrong, as a clause that does not name the file."""
        shapes = [
            f"{_short(name)}: {list(a)} where the model has {list(b)}"
            for name, a, b in self.reshaped
        ]
        kinds = (
            (self.missing, "that the model needs, missing"),
            (self.left_over, "that the model has no place for"),
            (shapes, "of another shape"),
        )
        n_kinds = sum(bool(names) for names, _ in kinds)
        n_named = 1 if n_kinds > 1 else NAMED - bool(shapes)
        return " and ".join(
            f"{_count(names)} {what} ({_names(names, n_named)})" for names, what in kinds if names
        )

    def check(self, name: str, mend: str) -> None:
        """Raise `WorkbenchError` unless the report is clean.

        Args:
            name: What the user called the file or folder.
            mend: A clause that says what to do, without a full stop.

        Raises:
            WorkbenchError: Some tensor does not match.
        """
        if not self.is_clean:
            raise WorkbenchError(
                f"{name} is not the model that it says it is: {self.words()}; {mend}."
            )


def is_needed(name: str) -> bool:
    """Whether a tensor of a file must have a place in the model; `HARMLESS` ones need not."""
    return not any(re.search(pattern, name) for pattern in HARMLESS)


LIMITS = (".input_min", ".input_max", ".output_min", ".output_max")
"""Clipping bounds in Gemma 4's layers, which are infinite where a layer does not clip."""


def check_finite(tensors: Iterable[tuple[str, Tensor]], name: str) -> None:
    """Raise `WorkbenchError` where a tensor holds NaN or infinity.

    Args:
        tensors: Name and tensor.
        name: What the user called the file or folder.

    Raises:
        WorkbenchError: Some tensor is not finite; the message names the first few.
    """
    broken = [
        tensor_name
        for tensor_name, tensor in tensors
        if not _is_finite(tensor)
        and not (tensor_name.endswith(LIMITS) and not tensor.isnan().any())
    ]
    if broken:
        raise WorkbenchError(
            f"{name} cannot be used: {_count(broken)} with NaN or infinite values "
            f"({_names(broken)}); save the model again from before its training went wrong."
        )


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and value of a model's parameters (tied ones once) and buffers."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, from their sum, which needs no copy."""
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    if torch.isfinite(tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))):
        return True
    return bool(torch.isfinite(tensor).all())  # finite numbers may add up to infinity


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor" + ("" if len(names) == 1 else "s")


def _names(names: Sequence[str], n_named: int = NAMED) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - n_named
    shown = ", ".join(_short(name) for name in names[:n_named])
    return f"{shown} and {more} more" if more > 0 else shown


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:30]}...{name[-LONGEST_NAME + 33 :]}"
