"""The picture that the Pictures page is about: a held-out digit, or a file of the user's."""

import hashlib
from typing import NamedTuple

import numpy as np
import streamlit as st
from jaxtyping import Int

from workbench.data.digits import Digits, digits
from workbench.errors import WorkbenchError
from workbench.pictures.files import LARGEST
from workbench.pictures.reading import read_picture
from workbench.ui.parts.history import first_index
from workbench.ui.parts.notices import fault, note

DIGITS = [str(digit) for digit in range(10)]
FIRST = "3"
"""The digit of a first visit."""
HELD_OUT = "a held-out digit"
UPLOAD = "a PNG of your own"


class Chosen(NamedTuple):
    """A picture to look at.

    - `label`: the digit that it shows; None where nobody said
    - `key`: tells it from all others
    - `code`: the Python that makes `image`
    """

    image: Int[np.ndarray, "row column"]
    label: int | None
    key: str
    code: str


@st.cache_resource(show_spinner=False)
def _held_out() -> Digits:
    return digits("test")


def pick_digit(words: str) -> int:
    """The digit that a control chooses."""
    start = DIGITS.index(FIRST) if "of" not in st.session_state else 0
    return int(str(st.selectbox(words, DIGITS, start, key="of", bind="query-params")))


def pick_picture() -> Chosen:
    """The picture that the controls choose; an unreadable upload leaves a held-out digit."""
    of_kind, of_digit, of_which = st.columns(3)
    with of_kind:
        kind = st.selectbox("Picture", [HELD_OUT, UPLOAD], key="from", bind="query-params")
    if kind == UPLOAD:
        own = _upload()
        if own is not None:
            return own
    with of_digit:
        digit = pick_digit("Digit")
    known = _held_out()
    places = np.flatnonzero(known.labels == digit)
    options = list(range(len(places)))
    with of_which:
        which = int(
            st.selectbox(
                f"Which of its {len(places)}",
                options,
                first_index("which", digit, options, 0),
                key="which",
                bind="query-params",
            )
        )
    place = int(places[which])
    code = f'image = wb.digits("test").images[{place}]\n'
    return Chosen(known.images[place], digit, f"held-out {place}", code)


def _upload() -> Chosen | None:
    """The uploaded picture; None where there is none that can be read, which is said."""
    file = st.file_uploader(
        "PNG",
        type=["png"],
        key="png",
        help="Converted to grey, cut to its ink and scaled to 8 by 8 pixels of 17 levels. Nothing "
        "is stored, and nothing leaves this machine.",
    )
    if file is None:
        note("Choose a PNG; until then the page shows a held-out digit.")
        return None
    try:
        content = b"" if file.size > LARGEST else file.getvalue()
        if not content:
            raise WorkbenchError(
                f"{file.name} has {file.size:,} bytes; a picture may have 1 to {LARGEST:,}."
            )
        picture = read_picture(content)
    except WorkbenchError as error:
        fault(f"{error} Until then the page shows a held-out digit.")
        return None
    st.caption(f"{file.name}: {picture.headline()}")
    code = f"import numpy as np\n\nimage = np.array({picture.image.tolist()})\n"
    digest = hashlib.sha256(picture.image.tobytes()).hexdigest()[:16]
    return Chosen(picture.image, None, f"upload {digest}", code)
