"""Payment card and bank account numbers."""

import re

from workbench.privacy.kind import DIGITS, Kind, digits, hidden

ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    # Mastercard
    r"|(?:5[1-5][0-9]{2}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720))[0-9]{12}"
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11,16}"  # Diners Club
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}|(?:1800|2131)[0-9]{11}"  # JCB
    r"|62[0-9]{14,17}|(?:5[0678]|6[0-9])[0-9]{10,17}"  # UnionPay, Maestro
)
"""Leading digits and lengths of the cards that each network issues (ISO/IEC 7812)."""


def _is_card(match: re.Match[str]) -> bool:
    """Whether a network issues such numbers, and the check digit is right."""
    from stdnum import luhn

    number = digits(match[0])
    issued = ISSUERS.fullmatch(number) is not None
    return issued and len(set(number)) > 1 and luhn.is_valid(number)


_GAP = r"(?:[ -]|[ ]?\n)"
CARD = Kind(
    "card",
    "payment card number",
    re.compile(
        rf"(?<![\w.+-])(?:[0-9]{{12,19}}|[0-9]{{4}}(?:{_GAP}[0-9]{{4}}){{3}}(?:{_GAP}[0-9]{{1,3}})?"
        rf"|[0-9]{{4}}{_GAP}[0-9]{{6}}{_GAP}[0-9]{{4,5}})(?![\w]|[.,-][0-9])"
    ),
    (DIGITS,),
    _is_card,
    lambda value: hidden(value, last=4),
    before=8,
    after=32,
)


def _is_iban(match: re.Match[str]) -> bool:
    """Whether its letters are of one case, and its check digits and country's form are right."""
    from stdnum import iban

    value = re.sub(r"\s", "", match[0])
    one_case = value.upper() == value or value.lower() == value
    return one_case and iban.is_valid(value, check_country=False)


IBAN = Kind(
    "iban",
    "bank account number (IBAN)",
    re.compile(
        r"(?<![\w-])[A-Za-z]{2}[0-9]{2}"
        r"(?:[A-Za-z0-9]{11,30}|(?:[ \n][A-Za-z0-9]{4}){2,7}(?:[ \n][A-Za-z0-9]{1,3})?)(?![\w])"
    ),
    (DIGITS,),
    _is_iban,
    lambda value: hidden(value, first=2, last=2),
    before=36,
    after=36,
)
