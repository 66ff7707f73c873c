"""Ways to reach a person: e-mail addresses and telephone numbers."""

import re

from workbench.privacy.kind import DIGITS, HIDDEN, Kind, digits, hidden, near

REGIONS = (
    *("US", "GB", "DE", "FR", "IT", "ES", "NL", "BE", "CH", "AT", "SE", "NO", "DK"),
    *("FI", "PL", "CZ", "HU", "PT", "IE", "AU", "NZ", "IN", "BR", "MX", "JP", "ZA"),
)
"""Countries in whose national form a number without its country's code is read."""
PHONE_WORDS = re.compile(
    r"(?<!\[)\b(?:tele)?phones?\b|\btel\b|\bcall(?:s|ed|ing)?\b|\bmobile\b|\bcell(?:phone)?\b|\bfax\b"
    r"|\bdial\b|\bring\b|\bwhatsapp\b|\bsms\b|\bmessages? (?:to|on)\b|\breach\b|\banswer"
    r"|\bhotline\b|\b(?:my|his|her|their|your|our|contact) numbers?\b",
    re.IGNORECASE,
)
"""Words before a number that make it a telephone's; a placeholder is none."""
AMERICAN = re.compile(r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}")
"""The form that is a telephone number in North America and little else anywhere."""
DATE = re.compile(
    r"(?:1[5-9]|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:1[5-9]|20)[0-9]{2}"
)


def _is_email(match: re.Match[str]) -> bool:
    local, _, domain = match[0].partition("@")
    return ".." not in local and not local.endswith(".") and len(domain) <= 253


def _hidden_email(value: str) -> str:
    local, _, domain = value.partition("@")
    name, _, ending = domain.rpartition(".")
    first = local[0] if len(local) > 2 else HIDDEN
    return f"{first}{hidden(local[1:])}@{hidden(name)}.{ending}"


EMAIL = Kind(
    "email",
    "e-mail address",
    re.compile(
        r"(?<![\w.+%-])\w[\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
    ),
    (re.compile(rb"@[0af?]"),),
    _is_email,
    _hidden_email,
)


def _is_phone(match: re.Match[str]) -> bool:
    """Valid by its country's code; or in one of `REGIONS`, and by form or context a telephone's."""
    number = match[0].strip()
    n = len(digits(number))
    if not 7 <= n <= 15 or DATE.match(number.lstrip("(")):
        return False
    if number.startswith(("+", "00")):
        return _valid("+" + digits(number).removeprefix("00"), None)
    if "(" in number[1:] and number[0] != "1":  # a note's number and a year in brackets
        return False
    body = number.split("x")[0].split("e")[0].strip()
    if AMERICAN.fullmatch(body):
        return _valid(number, "US")
    # A national number in another form: its trunk code and groups, or a word, have to say so.
    grouped = number.startswith(("0", "(0")) and n >= 9 and not body.isdigit()
    if not (grouped or near(match, PHONE_WORDS)):
        return False
    return any(_valid(number, region) for region in REGIONS)


def _valid(number: str, region: str | None) -> bool:
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
        # Each gap can be read in one way only, so that no run of digits is tried twice.
        r"[0-9](?:(?:[ ]?[.\-/\n][ ]?|[ ]|[ .\-]?[()][ .\-]?)?[0-9]){6,15}"
        r"(?:,? ?(?:x|ext\.?) ?[0-9]{1,5})?(?![\w]|[-/:][0-9])"
    ),
    (DIGITS,),
    _is_phone,
    lambda value: hidden(value, last=2),
    before=8,
    after=16,
)
