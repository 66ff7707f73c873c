"""Damaged copies of a file, each drawn by a seed: flipped, cut, swapped, huge, of another type,
deeply nested.

A mutant is a pure function of the file, its form, a seed and a number, so that a failure can be
looked at again.
"""

import copy
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

LONG = "x" * 5000
"""Longer than any name and any sentence."""
DEEP = "@deep@"
"""Stands for a value that is nested deeper than any parser follows, until the text is written."""
NESTED = {
    "json": "[" * 100_000 + "]" * 100_000,
    "yaml": "[" * 20_000 + "]" * 20_000,
    "toml": "[" * 5000 + "]" * 5000,
}
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        2,
        3,
        7,
        0.5,
        -0.5,
        1_000_000,
        10**9,
        2**31,
        2**63,
        10**30,
        -(10**30),
    ),
    *(
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "5",
        "-1",
        LONG,
        "../../x",
        "a\x00b",
        "\u202e\U0001f600",
        "[1]",
    ),
    *([], {}, [1, 2, 3], ["a"], [None], [[]], {"a": 1}, {"": None}, [[[[]]]], DEEP),
)
"""What takes the place of a value."""
WHOLE = (
    0,
    1,
    2,
    3,
    8,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
)
"""Numbers that a header may claim."""
INSERTED = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b",",
    b'"',
    b"{",
    b"}",
    b"[",
    b"'",
    b"\t",
    b"\r",
    b":",
    b"\\u",
    b"\\",
    b"#",
)


def mutant(content: bytes, form: str, seed: int, number: int) -> bytes:
    """A damaged copy of a file.

    Args:
        content: The whole file.
        form: One of `FORMS`.
        seed: Of all mutants of a file.
        number: Which of them.
    """
    rng = random.Random(f"{form} {seed} {number}")
    damaged = content
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        damaged = rng.choice(FORMS[form])(damaged, rng)
    return damaged


# -- bytes -----------------------------------------------------------------------------------------


def _place(content: bytes, rng: random.Random) -> int:
    """A place in a file, half of the time near one of its ends, where headers and footers lie."""
    if not content or rng.random() < 0.4:
        return rng.randrange(len(content) + 1)
    near = min(len(content), rng.choice((16, 64, 512, 4096)))
    at = rng.randrange(near + 1)
    return at if rng.random() < 0.7 else len(content) - at


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[min(_place(content, rng), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return rng.choice(
        (content[:at], content[at:], content[:at] + content[at + rng.randrange(1, 64) :])
    )


def inserted(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    more = rng.choice((*INSERTED, rng.randbytes(rng.choice((1, 4, 100))), LONG.encode()))
    return content[:at] + more + content[at:]


def repeated(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    piece = content[at : at + rng.choice((1, 8, 100, 1000))]
    return content[:at] + piece * rng.choice((2, 3, 50)) + content[at:]


def numbered(content: bytes, rng: random.Random) -> bytes:
    """A binary number somewhere takes another value."""
    at = _place(content, rng)
    size, code = rng.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
    value = rng.choice(WHOLE) % 2 ** (8 * size)
    return content[:at] + struct.pack(f"<{code}", value) + content[at + size :]


def after_a_name(content: bytes, rng: random.Random) -> bytes:
    """A binary number that follows a name, as in headers of names and values."""
    ends = [match.end() for match in re.finditer(rb"[a-z][a-z0-9_.]{5,}", content[:100_000])]
    if not ends:
        return numbered(content, rng)
    at = rng.choice(ends) + rng.choice((0, 4, 8, 12))
    size, code = rng.choice(((4, "I"), (8, "Q")))
    return (
        content[:at]
        + struct.pack(f"<{code}", rng.choice(WHOLE) % 2 ** (8 * size))
        + content[at + size :]
    )


def emptied(content: bytes, rng: random.Random) -> bytes:
    return (
        b""
        if rng.random() < 0.2
        else bytes(len(content))
        if rng.random() < 0.2
        else content[: rng.randrange(20)]
    )


# -- text ------------------------------------------------------------------------------------------


def other_number(content: bytes, rng: random.Random) -> bytes:
    """A number written in the text takes another value."""
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not numbers:
        return inserted(content, rng)
    match = rng.choice(numbers)
    value = rng.choice((*WHOLE, -1, 0.5, 10**30, "1e999", "NaN", "x", LONG, ""))
    return content[: match.start()] + str(value).encode() + content[match.end() :]


def lines(content: bytes, rng: random.Random) -> bytes:
    """Lines lost, doubled, swapped, indented or joined."""
    rows = content.split(b"\n")
    i = rng.randrange(len(rows))
    j = rng.randrange(len(rows))
    match rng.randrange(5):
        case 0:
            del rows[i]
        case 1:
            rows.insert(j, rows[i])
        case 2:
            rows[i], rows[j] = rows[j], rows[i]
        case 3:
            rows[i] = rng.choice((b" ", b"  ", b"\t", b"- ")) + rows[i]
        case _:
            rows[i : i + 2] = [b"".join(rows[i : i + 2])]
    return b"\n".join(rows)


def words(content: bytes, rng: random.Random) -> bytes:
    """Two words swapped, or one replaced."""
    matches = list(re.finditer(rb"\w+", content))
    if len(matches) < 2:
        return inserted(content, rng)
    one = rng.choice(matches)
    other = rng.choice(
        (
            rng.choice(matches)[0],
            b"null",
            b"true",
            LONG.encode(),
            b"",
            "é漢\U0001f600".encode(),
            b"\xe9",
        )
    )
    return content[: one.start()] + other + content[one.end() :]


# -- trees -----------------------------------------------------------------------------------------


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every container in a tree with each of its keys, each container once."""
    nodes = []
    waiting = [tree]
    seen = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        keys = (
            list(node)
            if isinstance(node, dict)
            else list(range(len(node)))
            if isinstance(node, list)
            else []
        )
        nodes += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return nodes


def _chosen(nodes: list[tuple[Any, Any]], rng: random.Random) -> tuple[Any, Any]:
    """One of the nodes.

    Records are preferred to the entries of long lists, which are mostly alike.
    """
    named = [node for node in nodes if isinstance(node[0], dict) and len(node[0]) < 100]
    return rng.choice(named if named and rng.random() < 0.8 else nodes)


def changed(tree: Any, rng: random.Random) -> Any:
    """A tree with a value replaced, lost, wrapped, added or called otherwise; the tree given stays
    as it is.
    """
    if rng.random() < 0.02:
        return rng.choice(VALUES)
    tree = copy.deepcopy(tree)
    nodes = _nodes(tree)
    if not nodes:
        return rng.choice(VALUES)
    holder, key = _chosen(nodes, rng)
    match rng.choice(
        (
            "value",
            "value",
            "value",
            "value",
            "lost",
            "lost",
            "wrapped",
            "added",
            "renamed",
            "sibling",
        )
    ):
        case "value":
            holder[key] = rng.choice(VALUES)
        case "lost":
            del holder[key]
        case "wrapped":
            holder[key] = rng.choice(
                ([holder[key]], {"x": holder[key]}, [holder[key]] * 3, str(holder[key]))
            )
        case "added":
            if isinstance(holder, dict):
                holder[rng.choice(("extra", "", LONG, str(key) + "s"))] = rng.choice(VALUES)
            else:
                holder.insert(key, rng.choice(VALUES))
        case "renamed":
            holder[rng.choice(("x", str(key).upper())) if isinstance(holder, dict) else key] = (
                copy.deepcopy(holder[key])
            )
        case _:
            holder[key] = copy.deepcopy(rng.choice(nodes)[0])
    return tree


def _json(content: bytes, rng: random.Random) -> bytes:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return lines(content, rng)
    return json.dumps(changed(tree, rng)).replace(f'"{DEEP}"', NESTED["json"]).encode()


def _json_line(content: bytes, rng: random.Random) -> bytes:
    rows = content.split(b"\n")
    i = rng.randrange(len(rows))
    rows[i] = _json(rows[i], rng)
    return b"\n".join(rows)


def _yaml(content: bytes, rng: random.Random) -> bytes:
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes texts that hold a function's name as they were."""

    # A billion entries, by `_aliases`: opened here they would take this process down.
    if b"&a0" in content:
        return lines(content, rng)
    try:
        tree = yaml.safe_load(content)
        text = yaml.dump(changed(tree, rng), Dumper=Plain, sort_keys=False)
    except Exception:  # what an earlier mutation left is no YAML any more
        return lines(content, rng)
    return text.replace(f"'{DEEP}'", NESTED["yaml"]).encode()


def _aliases(content: bytes, rng: random.Random) -> bytes:
    """A file of a few lines whose references to one another hold a billion entries."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return (
        content + b"\n" + "\n".join(rows).encode() + b"\ndescription: *a9\n"
        if rng.random() < 0.3
        else lines(content, rng)
    )


def _toml(content: bytes, rng: random.Random) -> bytes:
    import tomllib

    try:
        tree = changed(tomllib.loads(content.decode()), rng)
    except (ValueError, RecursionError):
        return lines(content, rng)
    text = toml(tree) if isinstance(tree, dict) else str(tree)
    return text.replace(f'"{DEEP}"', NESTED["toml"]).encode()


def toml(tree: dict[str, Any]) -> str:
    """A table as TOML, what is inside it in line."""
    return (
        "\n".join(f"{json.dumps(key)} = {_toml_value(value)}" for key, value in tree.items()) + "\n"
    )


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return json.dumps(str(value) if isinstance(value, str) else value if value is not None else "")


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header as a tree, its length put right."""
    size = struct.unpack("<Q", content[:8].ljust(8, b"\0"))[0]
    if size > len(content) - 8:
        return numbered(content, rng)
    header = _json(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


BINARY: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    cut,
    inserted,
    repeated,
    numbered,
    emptied,
)
TEXT = (flipped, cut, inserted, repeated, emptied, other_number, other_number, lines, words)
FORMS: dict[str, tuple[Callable[[bytes, random.Random], bytes], ...]] = {
    "binary": BINARY,
    "named binary": (*BINARY, *[after_a_name] * 6),
    "safetensors": (*BINARY, *[_safetensors] * 5),
    "text": TEXT,
    "json": (*TEXT, *[_json] * 14),
    "jsonl": (*TEXT, *[_json_line] * 9),
    "yaml": (*TEXT, *[_yaml] * 12, _aliases),
    "toml": (*TEXT, *[_toml] * 12),
}
"""How a file of each form is damaged; an entry that stands more often is taken more often."""
