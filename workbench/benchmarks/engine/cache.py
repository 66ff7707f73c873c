"""Cached answers of a Subject, stored under a fingerprint of its weights and precision."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from workbench.store.answers import Answers

if TYPE_CHECKING:
    from workbench.subjects import Subject

VERSION = 1
"""Raise it when the same request to the same model would give another answer than before."""


class Cache:
    """Answers by request (a tuple); without `answers` the cache is always empty."""

    def __init__(self, answers: Answers | None) -> None:
        self._answers = answers

    def get(self, requests: Sequence[Any]) -> dict[Any, tuple[Any, bool]]:
        """(answer, whether this run computed it) of the requests that have been answered."""
        if self._answers is None:
            return {}
        by_key = {self._answers.key(request): request for request in requests}
        return {by_key[key]: answer for key, answer in self._answers.get(list(by_key)).items()}

    def put(self, answers: Mapping[Any, Any]) -> None:
        """Store answers by request."""
        if self._answers is not None:
            self._answers.put(
                (self._answers.key(request), answer) for request, answer in answers.items()
            )

    def close(self) -> None:
        """Close the database file."""
        if self._answers is not None:
            self._answers.close()


def cache_of(subject: "Subject", origin: str) -> Cache:
    """The cache of a Subject; an empty one if hooks change the model, as no hash covers them.

    Args:
        subject: The model.
        origin: The run that asks; when it is resumed, it can tell its own answers from others'.
    """
    from workbench.subjects.intervention import has_hooks  # late: it loads the model libraries

    if has_hooks(subject):
        return Cache(None)
    return Cache(Answers(fingerprint(subject), origin=origin))


def fingerprint(subject: "Subject") -> str:
    """SHA-256 over all that answers depend on: current weights, configuration, device, context."""
    digest = hashlib.sha256(
        f"{VERSION} {subject.hash} {subject.n_ctx} {subject.device.type}".encode()
    )
    digest.update(subject.model.config.to_json_string().encode())
    for name, tensor in subject.model.named_parameters():
        flat = tensor.detach().reshape(-1)
        sums = torch.stack((flat.sum(dtype=torch.float64), flat[::7].sum(dtype=torch.float64)))
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {sums.tolist()}".encode())
    return digest.hexdigest()
