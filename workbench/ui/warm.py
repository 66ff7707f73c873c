"""Import the model libraries and load the default model while the first page is being read."""

import gc
import threading
from functools import cache

DEFAULT = "shelf-base"
_imported = threading.Event()
_loaded = threading.Event()
_STARTING = threading.Lock()


def start() -> threading.Thread:
    """Start the thread, once per process, however many sessions begin at once.

    Torch and transformers take seconds to import, and Home needs neither.
    """
    with _STARTING:
        return _started()


@cache
def _started() -> threading.Thread:
    thread = threading.Thread(target=_warm, name="warm", daemon=True)
    thread.start()
    return thread


def wait() -> None:
    """Wait until the libraries are imported.

    Two threads must not import transformers at once: one of them would fail.
    """
    _imported.wait()


def done() -> bool:
    """Whether the default model is loaded and its attention computed."""
    return _loaded.is_set()


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
    _loaded.set()
