"""National identity numbers: a shape for each country, and its checksum."""

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from workbench.privacy.kind import DIGITS, Kind, hidden, near


@dataclass(frozen=True)
class Form:
    """One national number: its shape, its checksum, and words that have to stand before it.

    - `module`: the module of python-stdnum that checks it; "" where there is no checksum
    - `shape`: a pattern of the whole number
    - `words`: a pattern of words, one of which has to stand before the number; "" where shape and
      checksum are proof enough
    """

    module: str
    shape: str
    words: str = ""

    def fits(self, match: re.Match[str]) -> bool:
        """Whether a match has the shape, the words before it and a valid checksum."""
        if not re.fullmatch(self.shape, match[0]):
            return False
        if self.words and not near(match, re.compile(self.words, re.IGNORECASE)):
            return False
        if not self.module:
            return True
        checksum: Any = import_module(f"stdnum.{self.module}")
        return checksum.is_valid(match[0])


FORMS = (
    Form("us.ssn", r"[0-8][0-9]{2}([- ])[0-9]{2}\1[0-9]{4}"),
    Form("us.itin", r"9[0-9]{2}([- ])[0-9]{2}\1[0-9]{4}"),
    Form("ca.sin", r"[0-9]{3}([- ])[0-9]{3}\1[0-9]{3}", r"\bSIN\b|social insurance"),
    # The United Kingdom's insurance number has no check digit, but few letters are allowed.
    Form(
        "", r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?[0-9]{2}){3} ?[A-D]"
    ),
    Form("gb.nhs", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}", r"\bNHS\b"),
    Form("es.dni", r"[0-9]{8}-?[A-HJ-NP-TV-Z]"),
    Form("es.nie", r"[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]"),
    Form(
        "fr.nir",
        r"[12][ .]?[0-9]{2}[ .]?[0-9]{2}[ .]?[0-9][0-9AB][ .]?[0-9]{3}[ .]?[0-9]{3}[ .]?[0-9]{2}",
    ),
    Form("it.codicefiscale", r"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]"),
    Form("de.idnr", r"[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}", r"steuer|\bid-?nr\b|\btax id\b"),
    Form("pl.pesel", r"[0-9]{11}", r"\bpesel\b"),
    Form("nl.bsn", r"[0-9]{9}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}", r"\bbsn\b|burgerservice"),
    Form("be.nn", r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}"),
    Form("ch.ssn", r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}"),
    Form("se.personnummer", r"[0-9]{6}(?:[0-9]{2})?[-+][0-9]{4}"),
    Form("fi.hetu", r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]"),
    Form("dk.cpr", r"[0-9]{6}-?[0-9]{4}", r"\bcpr\b"),
    Form("no.fodselsnummer", r"[0-9]{6} ?[0-9]{5}", r"f[øo]dselsnummer|personnummer|national id"),
    Form("br.cpf", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"),
    Form("in_.aadhaar", r"[0-9]{4}([ -]?)[0-9]{4}\1[0-9]{4}", r"aadhaar|aadhar|\buidai\b"),
    Form("cn.ric", r"[1-9][0-9]{16}[0-9X]"),
    Form("kr.rrn", r"[0-9]{6}-[0-9]{7}"),
    Form("mx.curp", r"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9]"),
)
"""The national numbers that are looked for."""


def _without_back_reference(shape: str) -> str:
    """The shape with its back reference written out, so that it can be joined with others."""
    return shape.replace("([- ])", "[- ]").replace("([ -]?)", "[ -]?").replace(r"\1", "[- ]?")


_SHAPES = "|".join(
    f"(?:{_without_back_reference(form.shape)})(?![-./ ]?[0-9]|[A-Za-z])" for form in FORMS
)
NATIONAL_ID = Kind(
    "national_id",
    "national identity number",
    re.compile(rf"(?<![\w+-])(?<![0-9][ .])(?:{_SHAPES})(?![\w])"),
    (DIGITS, re.compile(rb"00[af]00[af]000[af]")),
    lambda match: any(form.fits(match) for form in FORMS),
    hidden,
    before=16,
    after=32,
)
