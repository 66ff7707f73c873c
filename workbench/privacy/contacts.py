"""Ways to reach a person: e-mail addresses and telephone numbers."""

import re

from workbench.privacy.kind import DIGITS, HIDDEN, Kind, digits, hidden, near

REGIONS = (
    *("US", "GB", "DE", "FR", "IT", "ES", "NL", "BE", "CH", "AT", "SE", "NO", "DK"),
    *("FI", "PL", "CZ", "HU", "PT", "IE", "AU", "NZ", "IN", "BR", "MX", "JP", "ZA"),
)
"""Countries whose national forms are tried on a number without a country code."""
PHONE_WORDS = re.compile(
    r"(?<!\[)\b(?:tele)?phones?\b|\btel\b|\bcall(?:s|ed|ing)?\b|\bmobile\b|\bcell(?:phone)?\b"
    r"|\bfax\b|\bdial\b|\bring\b|\bwhatsapp\b|\bsms\b|\bmessages? (?:to|on)\b|\breach\b|\banswer"
    r"|\bhotline\b|\b(?:my|his|her|their|your|our|contact) numbers?\b",
    re.IGNORECASE,
)
"""Words before a number that mark it as a telephone number; the placeholder [PHONE] does not."""
AMERICAN = re.compile(r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}")
"""A form that is a telephone number in North America and rarely anything else."""
DATE = re.compile(
    r"(?:1[5-9]|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]{1,2}"
    r"|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:1[5-9]|20)[0-9]{2}"
)
"""A date of the years 1500 to 2099 in digits, year first or last; it is no telephone number."""


def _is_email(match: re.Match[str]) -> bool:
    """Whether the dots before the @ stand in allowed places and the domain is not too long."""
    local, _, domain = match[0].partition("@")
    return ".." not in local and not local.endswith(".") and len(domain) <= 253


def _hidden_email(value: str) -> str:
    """The address with its first letter, its @ and its top-level domain shown, the rest hidden."""
    local, _, domain = value.partition("@")
    name, _, ending = domain.rpartition(".")
    first = local[0] if len(local) > 2 else HIDDEN
    return f"{first}{hidden(local[1:])}@{hidden(name)}.{ending}"


EMAIL = Kind(
    "email",
    "e-mail address",
    re.compile(
        r"(?<![\w.+%-])\w[\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
        r"[^\W\d_]{2,24}(?![\w-])"
    ),
    (re.compile(rb"@[0af?]"),),
    _is_email,
    _hidden_email,
)


def _is_phone(match: re.Match[str]) -> bool:
    """Whether a number is a valid telephone number.

    With a country code it has to be valid in that country. Without one it has to be valid in one
    of `REGIONS`, and its form or the words before it have to mark it as a telephone number.
    """
    number = match[0].strip()
    n = len(digits(number))
    if not 7 <= n <= 15 or DATE.match(number.lstrip("(")):
        return False
    if number.startswith(("+", "00")):
        return _valid("+" + digits(number).removeprefix("00"), None)
    if "(" in number[1:] and number[0] != "1":  # such as "12 (1998)": a footnote and a year
        return False
    body = number.split("x")[0].split("e")[0].strip()
    if AMERICAN.fullmatch(body):
        return _valid(number, "US")
    # In any other national form, a leading 0 with groups of digits or a word before it is needed.
    grouped = number.startswith(("0", "(0")) and n >= 9 and not body.isdigit()
    if not (grouped or near(match, PHONE_WORDS)):
        return False
    return any(_valid(number, region) for region in REGIONS)


def _valid(number: str, region: str | None) -> bool:
    """Whether a number is valid in a region; for None it has to begin with + and a country code."""
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


PHONE = Kind(
    "phone",
    "telephone number",
    re.compile(
        r"(?<![\w.+/-])(?<![0-9][ ])(?:\+|00)?(?:\((?=[0-9]{1,5}\)))?"
        # Each gap matches in one way only, so that a run of digits is never tried twice.
        r"[0-9](?:(?:[ ]?[.\-/\n][ ]?|[ ]|[ .\-]?[()][ .\-]?)?[0-9]){6,15}"
        r"(?:,? ?(?:x|ext\.?) ?[0-9]{1,5})?(?![\w]|[-/:][0-9])"
    ),
    (DIGITS,),
    _is_phone,
    lambda value: hidden(value, last=2),
    before=8,
    after=16,
)
