"""Network addresses that can lead to a person, and URLs that contain a password."""

import ipaddress
import re

from workbench.privacy.kind import HIDDEN, Kind, hidden, near

VERSIONS = re.compile(r"(?:\bversions?|\bver\.?|\brelease|\bsection|§)\s*$", re.IGNORECASE)
"""Words after which four numbers with dots are a version or a section, and no address."""
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_V4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"


def _is_ip(match: re.Match[str]) -> bool:
    """Whether it is the address of one host, and not loopback, unspecified or multicast."""
    text = match[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    if address.version == 4:
        return text != "255.255.255.255" and not near(match, VERSIONS, 16)
    # In programs, "1::2" is a slice and "a::b" a name more often than an address.
    return max(len(group) for group in re.split(r"[:.]", text)) >= 3


IP = Kind(
    "ip",
    "IP address",
    re.compile(
        rf"(?<![\w.]){_V4}(?!\w|\.[0-9])"
        r"|(?<![\w.:])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){0,3}(?![\w:]|\.[0-9])"
    ),
    (re.compile(rb"0\.0{1,3}\.0{1,3}\.0"), re.compile(rb":[0f]{0,4}:[0f]")),
    _is_ip,
    lambda value: hidden(value, first=len(re.split(r"[.:]", value)[0])),
    before=48,
    after=48,
)


def _is_mac(match: re.Match[str]) -> bool:
    """Whether not all its digits are the same, as in 00:00:00:00:00:00."""
    return len(set(re.sub(r"[^0-9a-f]", "", match[0].lower()))) > 1


_PAIR = "[0-9A-Fa-f]{2}"
MAC = Kind(
    "mac",
    "MAC address",
    re.compile(
        rf"(?<![\w.-])(?<!\b[0-9A-Fa-f]{{2}}:)(?:{_PAIR}(?::{_PAIR}){{5}}|{_PAIR}(?:-{_PAIR}){{5}}"
        rf"|[0-9A-Fa-f]{{4}}(?:\.[0-9A-Fa-f]{{4}}){{2}})(?![\w:-]|\.[0-9A-Fa-f])"
    ),
    tuple(map(re.compile, (rb":[0f]{2}:[0f]{2}:", rb"-[0f]{2}-[0f]{2}-", rb"\.[0f]{4}\."))),
    _is_mac,
    lambda value: hidden(value, first=6),
    before=24,
    after=24,
)


def _hidden_credentials(value: str) -> str:
    """The URL with its scheme shown and all else hidden."""
    scheme, _, rest = value.partition("://")
    return f"{scheme}://{HIDDEN * 4}:{HIDDEN * 4}@{hidden(rest.rpartition('@')[2])}"


URL_CREDENTIALS = Kind(
    "url_credentials",
    "URL with a user's name and password",
    re.compile(
        r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]{1,15}://"
        r"[^\s/@:?#\[\]<>\"'`\0]{0,64}:[^\s/@\[\]<>\"'`\0]{1,128}@"
        r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?"
    ),
    ("://",),
    lambda match: True,
    _hidden_credentials,
    before=24,
    after=480,
)
