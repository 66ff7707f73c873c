"""Pages take only names of registered tasks, suites, probes and recipes, never file paths."""

import os

from workbench.errors import WorkbenchError

ENDINGS = (".yaml", ".yml", ".toml", ".json", ".py")
KNOWN_PREFIXES = ("probe:", "harness:")


def registered(name: str, what: str = "task") -> str:
    """The name, checked to be that of a registered task, suite, probe or recipe and not a path.

    Raises:
        WorkbenchError: It is a path. Links come from anywhere, so a page must not open the files
            that they name.
    """
    bare = name.strip()
    for prefix in KNOWN_PREFIXES:
        bare = bare.removeprefix(prefix)
    if (
        "/" in bare
        or os.sep in bare
        or "\\" in bare
        or bare.startswith(("~", "."))
        or bare.lower().endswith(ENDINGS)
    ):
        raise WorkbenchError(
            f"{name!r} is a file, and a page takes only names of registered {what}s. Put the file "
            f"into the folder {what}s of WORKBENCH_HOME and choose its name here, or use the "
            "command line."
        )
    return name
