"""Which model the Pictures page is about, and which views have a meaning for it."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.pictures.palette import picture_models
from workbench.subjects import Subject, stamp
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import encoders, load_encoder
from workbench.ui.parts.kept import kept
from workbench.ui.parts.titles import bare, option
from workbench.ui.views.pictures import VIEWS
from workbench.ui.views.pictures_encoder import (
    attribute_view,
    classify_view,
    lens_view,
    look_view,
)
from workbench.ui.views.pictures_patching import patch_view

FIRST = "Look"
"""The view of a first visit."""
ENCODER_VIEWS = {
    "Look": look_view,
    "Classify": classify_view,
    "Patch": patch_view,
    "Lens": lens_view,
    "Attribute": attribute_view,
}
"""The views of an encoder; of one without a classifier the first alone."""


def pick_model() -> str:
    """The model of pictures or sounds that a select box chooses.

    Raises:
        WorkbenchError: A link names another model.
    """
    names = [*picture_models(), *encoders()]
    linked = bare(st.query_params.get("picture_model") or "")
    if linked and linked not in names:
        raise WorkbenchError(
            f"{linked} is no model of pictures or sounds on this machine; choose from "
            f"{', '.join(names)}."
        )
    return bare(
        str(
            st.selectbox(
                "Model", names, key="picture_model", bind="query-params", format_func=option
            )
        )
    )


def pick_view(views: Sequence[str]) -> str:
    """The name of the view that a control chooses; the first where another model's was chosen.

    Args:
        views: Those of the model.
    """
    chosen = st.session_state.get("pictures_view") or st.query_params.get("pictures_view")
    if chosen not in (None, *views):
        st.session_state["pictures_view"] = FIRST
    return str(
        st.segmented_control(
            "View",
            views,
            default=FIRST,
            key="pictures_view",
            bind="query-params",
            required=True,
            label_visibility="collapsed",
        )
    )


def cached_encoder(name: str) -> Encoder:
    """The named Encoder, loaded once and shared by all sessions; never modify it."""
    return _loaded(name, stamp(name))


@kept("models of pictures", 4, "Loading the model", weights=True)
def _loaded(name: str, files: str) -> Encoder:
    return load_encoder(name)


def views_of(model: Subject | Encoder) -> dict[str, Callable[[Any], str]]:
    """The views that have a meaning for a model."""
    if not isinstance(model, Encoder):
        return VIEWS
    return ENCODER_VIEWS if model.classifies else {FIRST: look_view}
