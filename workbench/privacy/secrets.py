"""Keys, tokens and passwords, known by an issuer's prefix, by their form, or as random characters
that are assigned to a name such as "password".
"""

import math
import re
from collections import Counter

from workbench.privacy.kind import HIDDEN, Kind

RANDOM = 3.0
"""The least entropy, in bits a character, at which a token with a known prefix counts as random.
English words of twenty letters seldom have more; sixteen hexadecimal digits have about 3.3.
"""
ASSIGNED = 3.3
"""The least entropy of a token without a known prefix."""
LONG = 16
"""The fewest characters of a token without a known prefix."""
PASSWORD = 2.5
"""The least entropy of a password, which may be shorter than a token."""

TOKENS = {
    "AWS": r"(?:AKIA|ASIA)[A-Z2-7]{16}",
    "GitHub": r"gh[opsur]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    "GitLab": r"gl(?:pat|dt|rt|soat)-[A-Za-z0-9_-]{20,64}",
    "Google": r"AIza[A-Za-z0-9_-]{35}",
    "Slack": r"xox[abeoprs]-[A-Za-z0-9-]{10,200}",
    "OpenAI, Anthropic": r"sk-(?:[a-z0-9]{2,8}-)?[A-Za-z0-9_-]{20,200}",
    "Hugging Face": r"hf_[A-Za-z0-9]{34,40}",
    "Stripe": r"[rs]k_(?:live|test)_[A-Za-z0-9]{24,120}",
    "npm": r"npm_[A-Za-z0-9]{36}",
    "PyPI": r"pypi-[A-Za-z0-9_-]{50,250}",
    "SendGrid": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
}
"""The pattern of each issuer's tokens. Issuers publish it so that leaked tokens can be found."""


def entropy(token: str) -> float:
    """Shannon's entropy of a token's characters, in bits per character."""
    n = len(token)
    return -sum(count / n * math.log2(count / n) for count in Counter(token).values())


def _hidden_token(value: str) -> str:
    """The prefix that names the issuer, and the token's length; the rest is hidden."""
    prefix = re.match(
        r"(?:github_pat_|[A-Za-z]{2,5}[-_](?:(?:live|test)_)?|AIza|A[A-Z]{3}|SG\.)?", value
    )
    issuer = prefix[0] if prefix else ""
    return f"{issuer}{HIDDEN * 4} ({len(value)} characters)"


API_KEY = Kind(
    "api_key",
    "key or token with its issuer's prefix",
    re.compile(rf"(?<![\w-])(?:{'|'.join(TOKENS.values())})(?![\w-])"),
    (
        *map(re.compile, (rb"_[0af]{16}", rb"-[0af_][0af_-]{9}")),
        *("AKIA", "ASIA", "AIza", "SG."),
    ),
    lambda match: entropy(match[0]) >= RANDOM and any(c.isdigit() for c in match[0]),
    _hidden_token,
    before=32,
)

PRIVATE_KEY = Kind(
    "private_key",
    "private key in PEM form",
    re.compile(
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[A-Za-z0-9+/=\s:,.()]|-(?!----)){0,8000}"
        r"-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
    ),
    ("-----BEGIN ",),
    lambda match: True,
    lambda value: f"-----BEGIN {HIDDEN * 4} ({len(value)} characters)",
    before=0,
    after=8200,
)

JWT = Kind(
    "jwt",
    "JSON web token",
    re.compile(
        r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}"
        r"\.[A-Za-z0-9_-]{8,1000}(?![\w-])"
    ),
    ("eyJ",),
    lambda match: True,
    lambda value: f"eyJ{HIDDEN * 4} ({len(value)} characters)",
    before=0,
    after=7100,
)


def _is_secret(match: re.Match[str]) -> bool:
    """Whether the value mixes digits with letters or signs, and its entropy is that of a secret."""
    value = match["value"]
    word = match["word"].lower()
    if not re.search(r"[0-9]", value) or not re.search(r"[A-Za-z!$%^&*+/~]", value):
        return False
    if word.startswith("p"):  # password, passphrase or pwd
        return entropy(value) >= PASSWORD
    return len(value) >= LONG and entropy(value) >= ASSIGNED


SECRET = Kind(
    "secret",
    "password or key that is assigned to a name",
    re.compile(
        r"(?P<word>key|token|secret|passw(?:or)?d|passphrase|pwd)[\"'`]?"
        r"[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}"
        r"[\"'`]?(?P<value>[A-Za-z0-9+/_.~!$%^&*=-]{8,256})(?![\w(+/~!$%^&*=-])",
        re.IGNORECASE,
    ),
    (re.compile(rb":>?[ \t]{0,3}[\"'`]?[0af+/_.~!$%^&*:-]{8}"),),
    _is_secret,
    lambda value: f"{HIDDEN * 4} ({len(value)} characters)",
    before=32,
)
