"""The entry of a model in /v1/models."""

from typing import Any

from workbench.serving.models import Served
from workbench.subjects import Available


def entry(listed: Available | str, served: Served | None) -> dict[str, Any]:
    """A model's entry as JSON values; hash, dtype, context and parent are null unless it is loaded.

    Args:
        listed: From `available`, or the name of a run's checkpoint.
        served: The loaded model, or None.
    """
    name = listed if isinstance(listed, str) else listed.name
    kind = "run" if isinstance(listed, str) else listed.kind
    created = 0
    if not isinstance(listed, str) and listed.path.exists():
        created = int(listed.path.stat().st_mtime)
    subject = served.subject if served else None
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": kind,
        "workbench": {
            "loaded": subject is not None,
            "sha256": subject.hash if subject else None,
            "dtype": str(subject.model.dtype).removeprefix("torch.") if subject else None,
            "n_ctx": subject.n_ctx if subject else None,
            "parent": (subject.card.parent or None) if subject else None,
            "chat_template": bool(subject.tokenizer.chat_template) if subject else None,
        },
    }
