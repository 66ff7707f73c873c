"""Parts of a page that run again by themselves, and in which bad input is a sentence all the same."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.notices import fault

P = ParamSpec("P")


def fragment(function: Callable[P, None]) -> Callable[P, None]:
    """`st.fragment` that shows a `WorkbenchError` where it arose: the app, which shows all others,
    never sees these.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except WorkbenchError as error:
            fault(error)

    return st.fragment(guarded)
