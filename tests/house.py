"""The picture of the house, drawn from the imports: `python -m tests.house` writes
`docs/figures/house.svg`.

A room stands above every room that it imports. An arrow is left out where a longer way leads to the
same room.
"""

import ast
from html import escape

from tests.test_layers import PAGES, ROOT, imports

PICTURE = ROOT.parent / "docs" / "figures" / "house.svg"
WIDTH = 1080
BOX = (176, 52)
ROW = 104
MARGIN = 16
"""Pixels: the picture's width, a room's box, the distance of two rows, and what is left free
around.
"""
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'font-family="sans-serif">\n'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto">\n'
    '<path d="M0 0 L8 4 L0 8 z" fill="#7a8aa0"/></marker></defs>\n'
    '<rect width="{width}" height="{height}" fill="#ffffff"/>'
)


def rooms() -> dict[str, str]:
    """Every room of the package and what its docstring says that it is, the shelf of pages among
    them.
    """
    inside = {path.parent.name: path for path in sorted(ROOT.glob("*/__init__.py"))}
    words = {
        name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        for name, path in inside.items()
    }
    return {
        **{name: str(text).splitlines()[0] for name, text in words.items()},
        "pages": "One Streamlit script a page.",
    }


def used_rooms() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    names = set(rooms())
    folders = {name: ROOT / name for name in names - {"pages"}} | {"pages": PAGES}
    used = {}
    for name, folder in folders.items():
        imported = set().union(*(imports(path) for path in folder.rglob("*.py")))
        used[name] = (imported & names) - {name}
    return used


def heights(used: dict[str, set[str]]) -> dict[str, int]:
    """How many rooms lie below each room, one upon the other."""
    known: dict[str, int] = {}
    while len(known) < len(used):
        for name, below in used.items():
            if name not in known and below <= known.keys():
                known[name] = 1 + max((known[other] for other in below), default=-1)
    return known


def direct(used: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no longer way makes needless."""

    def reach(name: str) -> set[str]:
        return used[name].union(*(reach(other) for other in used[name]))

    return {
        name: below - set().union(*(reach(other) for other in below))
        for name, below in used.items()
    }


def places(height: dict[str, int], used: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Where the middle of each room's box is: the lowest rooms at the bottom, each below those that
    use it.
    """
    at: dict[str, tuple[float, float]] = {}

    def middle_above(name: str) -> float:
        above = [at[other][0] for other, below in used.items() if name in below and other in at]
        return sum(above) / len(above) if above else WIDTH / 2

    top = max(height.values())
    for row in range(top + 1):
        names = sorted(
            (name for name in height if height[name] == top - row),
            key=lambda name: (middle_above(name), name),
        )
        for i, name in enumerate(names):
            at[name] = ((i + 0.5) * WIDTH / len(names), MARGIN + BOX[1] / 2 + row * ROW)
    return at


def lines_of(text: str, width: int = 29) -> list[str]:
    """What a docstring says of its room, in at most two lines."""
    name, _, more = text.replace("`", "").partition(":")
    clause = (
        (more if more and len(name.split()) <= 2 else name)
        .split(";")[0]
        .split(". ")[0]
        .strip()
        .rstrip(".")
    )
    clause = clause[:1].upper() + clause[1:]
    lines = [""]
    for word in clause.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines if len(lines) <= 2 else [lines[0], f"{lines[1]} …"]


def picture() -> str:
    """The SVG."""
    words = rooms()
    used = used_rooms()
    height = heights(used)
    at = places(height, direct(used))
    parts = [HEAD.format(width=WIDTH, height=2 * MARGIN + BOX[1] + max(height.values()) * ROW)]
    for name, below in sorted(direct(used).items()):
        for other in sorted(below):
            x0, y0 = at[name]
            x1, y1 = at[other]
            y0 += BOX[1] / 2
            y1 -= BOX[1] / 2 + 2
            middle = (y0 + y1) / 2
            path = (
                f"M{x0:.0f} {y0:.0f} C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
            )
            parts.append(
                f'<path d="{path}" fill="none" stroke="#b4c0d0" stroke-width="1.4" '
                'marker-end="url(#tip)"/>'
            )
    for name, (x, y) in at.items():
        left = x - BOX[0] / 2
        top = y - BOX[1] / 2
        parts.append(
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX[0]}" height="{BOX[1]}" '
            'rx="7" fill="#eef3fb" stroke="#5b7bb2"/>'
        )
        parts.append(
            f'<text x="{x:.0f}" y="{top + 17:.0f}" text-anchor="middle" '
            f'font-weight="bold">{name}</text>'
        )
        for i, line in enumerate(lines_of(words[name])):
            parts.append(
                f'<text x="{x:.0f}" y="{top + 31 + 12 * i:.0f}" text-anchor="middle" '
                f'font-size="10.5" fill="#445">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
