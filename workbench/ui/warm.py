"""Import the model libraries and look at the default model while the first page is being read."""

import gc
import threading
from functools import cache

DEFAULT = "shelf-base"
_imported, _looked = threading.Event(), threading.Event()


@cache
def start() -> threading.Thread:
    """Begin once a process; torch and transformers take seconds to import, and Home needs neither."""
    thread = threading.Thread(target=_warm, name="warm", daemon=True)
    thread.start()
    return thread


def wait() -> None:
    """Until the libraries are imported; of two threads that import transformers at once, one fails."""
    _imported.wait()


def done() -> bool:
    """Whether the default model is loaded and its attention read, so that showing it costs nothing."""
    return _looked.is_set()


def _warm() -> None:
    try:
        from workbench import interp  # noqa: F401
        from workbench.figures import attention  # noqa: F401
        from workbench.subjects import load  # noqa: F401
    finally:
        _imported.set()
    from workbench.ui.parts.look import PROMPT, look
    from workbench.ui.parts.models import cached_load

    look(cached_load(DEFAULT), PROMPT)
    # Streamlit collects garbage after every run of a script; over all of torch's modules that takes
    # 0.3 s each time.
    gc.collect()
    gc.freeze()
    _looked.set()
