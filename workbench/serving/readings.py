"""POST /v1/embeddings, /v1/tokenize and /v1/detokenize."""

import base64
from typing import Any

import numpy as np
import torch

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.serving.fields import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from workbench.serving.limits import ApiError
from workbench.serving.models import Served
from workbench.serving.shapes import label
from workbench.subjects.spelling import bare


def embeddings(body: EmbeddingRequest, served: Served) -> dict[str, Any]:
    """The answer of /v1/embeddings: each text's mean residual stream after a layer.

    Raises:
        ApiError: For a layer or token that the model does not have, or a text that is too long.
    """
    subject = served.subject
    layer = subject.card.n_layers - 1 if body.layer is None else body.layer
    if not 0 <= layer < subject.card.n_layers:
        raise ApiError(
            400, f"{body.model} has layers 0 to {subject.card.n_layers - 1}.", param="layer"
        )
    given = body.input
    many = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    rows: list[np.ndarray] = []
    n_tokens = 0
    for text in many:
        ids = _ids(served, text)
        n_tokens += len(ids)
        with served.lock, torch.no_grad():
            stream = (
                reader(subject).record(torch.tensor([ids], device=subject.device)).resid[layer + 1]
            )
        rows.append(stream[0].float().mean(0).cpu().numpy())
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _encoded(row, body.encoding_format)}
            for i, row in enumerate(rows)
        ],
        "model": body.model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        "workbench": {
            "model": subject.name,
            "sha256": subject.hash,
            "layer": layer,
            "site": "resid_post",
        },
    }


def _ids(served: Served, text: Any) -> list[int]:
    subject = served.subject
    try:
        ids = subject.ids(text) if isinstance(text, str) else list(text)
    except WorkbenchError as error:
        raise ApiError(400, str(error), param="input") from error
    if not ids or len(ids) > subject.n_ctx:
        raise ApiError(
            400,
            f"A text has {len(ids)} tokens; {subject.name} reads 1 to {subject.n_ctx}.",
            param="input",
        )
    if max(ids) >= subject.d_embed:
        raise ApiError(400, f"Token {max(ids)} is none of {subject.name}.", param="input")
    return ids


def _encoded(row: np.ndarray, form: str | None) -> Any:
    return (
        base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row.tolist()
    )


def tokenize(body: TokenizeRequest, served: Served) -> dict[str, Any]:
    """The answer of /v1/tokenize: the token ids of a text, and the text of each."""
    subject = served.subject
    try:
        ids = (
            subject.ids(body.prompt)
            if body.add_special_tokens
            else bare(subject.tokenizer, body.prompt)
        )
    except WorkbenchError as error:
        raise ApiError(400, str(error), param="prompt") from error
    words = [label(subject.tokenizer, token) for token in ids]
    return {
        "model": body.model,
        "tokens": ids,
        "token_strs": words,
        "count": len(ids),
        "max_model_len": subject.n_ctx,
        "workbench": {"model": subject.name, "sha256": subject.hash},
    }


def detokenize(body: DetokenizeRequest, served: Served) -> dict[str, Any]:
    """The answer of /v1/detokenize: the text of token ids."""
    subject = served.subject
    if any(token >= subject.d_embed for token in body.tokens):
        raise ApiError(400, f"Token {max(body.tokens)} is none of {subject.name}.", param="tokens")
    text = subject.text(torch.tensor(body.tokens, dtype=torch.long))
    return {
        "model": body.model,
        "prompt": text,
        "workbench": {"model": subject.name, "sha256": subject.hash},
    }
