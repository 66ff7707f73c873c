"""Parts of a page that run again on their own, and show bad input as a message."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.notices import fault

P = ParamSpec("P")


def fragment(function: Callable[P, None]) -> Callable[P, None]:
    """`st.fragment` that shows a `WorkbenchError` in place.

    The app, which shows all other errors, does not see those of a fragment that runs on its own.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except WorkbenchError as error:
            fault(error)

    return st.fragment(guarded)
