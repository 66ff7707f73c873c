"""What an encoder is shown on the Pictures page: a held-out digit, a file, or a generated tone."""

from typing import NamedTuple

import numpy as np
import streamlit as st

from workbench.data.digits import digits
from workbench.data.tones import tone
from workbench.encoders.hearing import RATE, rate_of
from workbench.encoders.reading import read_signal
from workbench.encoders.signals import Signal
from workbench.errors import WorkbenchError
from workbench.pictures.files import LARGEST
from workbench.subjects.encoder import Encoder
from workbench.ui.parts.history import first_index
from workbench.ui.parts.notices import fault, note
from workbench.ui.views.pictures_choice import DIGITS, pick_picture

TONE = "a tone"
UPLOAD = "a WAV of your own"
PITCHES = (110, 2_600)
"""Lowest and highest pitch of a tone, in hertz."""
OTHER_DIGIT = "8"
"""The other digit of a first visit, in which a 3 hides."""


class Shown(NamedTuple):
    """What the model reads.

    - `label`: its class; None where nobody said
    - `code`: the Python that makes `source`
    """

    signal: Signal
    label: str | None
    code: str


def pick_input(encoder: Encoder) -> Shown | None:
    """What the controls choose; None where a file must be chosen first."""
    if encoder.reads_digits:
        chosen = pick_picture()
        label = None if chosen.label is None else str(chosen.label)
        code = chosen.code.replace("image = ", "source = ")
        return Shown(read_signal(encoder, chosen.image), label, code)
    if encoder.modality == "picture":
        return _upload(encoder, "png", ("png", "jpg", "jpeg"))
    kind = st.selectbox("Sound", [TONE, UPLOAD], key="sound", bind="query-params")
    if kind == UPLOAD:
        return _upload(encoder, "wav", ("wav",))
    return _tone(encoder, "pitch", 440)


def pick_other(encoder: Encoder) -> Shown | None:
    """The input that patching compares with; None where a file must be chosen first."""
    if encoder.reads_digits:
        return _other_digit(encoder)
    if encoder.modality == "picture":
        return _upload(encoder, "other_png", ("png", "jpg", "jpeg"), "Other picture")
    if st.session_state.get("sound") == UPLOAD:
        return _upload(encoder, "other_wav", ("wav",), "Other sound")
    return _tone(encoder, "other_pitch", 880)


def _other_digit(encoder: Encoder) -> Shown:
    known = digits("test")
    of_digit, of_which = st.columns(2)
    with of_digit:
        start = DIGITS.index(OTHER_DIGIT) if "other" not in st.session_state else 0
        digit = int(
            str(st.selectbox("Other digit", DIGITS, start, key="other", bind="query-params"))
        )
    places = np.flatnonzero(known.labels == digit)
    options = list(range(len(places)))
    with of_which:
        first = first_index("other_which", digit, options, 0)
        which = int(
            st.selectbox(
                f"Which of its {len(places)}",
                options,
                first,
                key="other_which",
                bind="query-params",
            )
        )
    place = int(places[which])
    signal = read_signal(encoder, known.images[place])
    return Shown(signal, str(digit), f'source = wb.digits("test").images[{place}]\n')


def _tone(encoder: Encoder, key: str, start: int) -> Shown:
    rate = rate_of(encoder)
    words = "Pitch, hertz" if key == "pitch" else "Pitch of the other sound, hertz"
    pitch = st.slider(words, *PITCHES, start, 10, key=key, bind="query-params")
    samples = tone(pitch, rate=rate)
    more = "" if rate == RATE else f", rate={rate}"
    return Shown(read_signal(encoder, samples), None, f"source = wb.tone({pitch}{more})\n")


def _upload(encoder: Encoder, key: str, kinds: tuple[str, ...], words: str = "") -> Shown | None:
    """The uploaded file; None where there is none that can be read, which is said."""
    name = words or f"A {encoder.modality} of your own"
    file = st.file_uploader(
        name,
        type=list(kinds),
        key=key,
        help="Nothing is stored, and nothing leaves this machine.",
    )
    if file is None:
        note(f"Choose a file ({', '.join(kinds)}).")
        return None
    try:
        if not 0 < file.size <= 4 * LARGEST:
            raise WorkbenchError(
                f"{file.name} has {file.size:,} bytes; a file may have 1 to {4 * LARGEST:,}."
            )
        signal = read_signal(encoder, file.getvalue())
    except WorkbenchError as error:
        fault(error)
        return None
    if signal.remarks:
        st.caption(f"{file.name}: {' '.join(signal.remarks)}")
    return Shown(signal, None, f"source = {file.name!r}\n")
