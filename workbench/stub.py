"""Writes the package's stub from its list of public names: `python -m workbench.stub`."""

from pathlib import Path

import workbench

PATH = Path(workbench.__file__).with_suffix(".pyi")
HOMES: dict[str, str] = vars(workbench)["_HOMES"]  # not in the stub that type checkers read
HEAD = '"""Written by `python -m workbench.stub`, from `_HOMES` in `__init__.py`."""'


def stub() -> str:
    """The text of `__init__.pyi`: every public name imported from its module, and `__all__`."""
    homes = sorted(HOMES.items(), key=lambda item: (item[1], *_order(item[0])))
    lines = [f"from {home} import {name} as {name}" for name, home in homes]
    names = [f'    "{name}",' for name in sorted(HOMES, key=_order)]
    return "\n".join([HEAD, "", *lines, "", "__all__ = [", *names, "]", ""])


def _order(name: str) -> tuple[int, str]:
    """Sort key for constants, then classes, then functions, as import sorters have it."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
