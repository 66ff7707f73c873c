"""What a page may be told by a link or a box: names of registered things; files are for the command
line.
"""

import os

from workbench.errors import WorkbenchError

ENDINGS = (".yaml", ".yml", ".toml", ".json", ".py")
KNOWN_PREFIXES = ("probe:", "harness:")


def registered(name: str, what: str = "task") -> str:
    """The name of a task, a suite, a probe or a recipe, where it is no file's.

    Raises:
        WorkbenchError: it is a path. A link may come from anywhere, and a page does not open the
            files that it names.
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
            f"{name!r} is a file, and a page takes only names of registered {what}s. Put the file into the folder "
            f"{what}s of WORKBENCH_HOME and choose its name here, or name the file on the command line."
        )
    return name
