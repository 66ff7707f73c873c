"""Who may import whom: the layers of the house, held over the syntax tree."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import workbench

pytestmark = pytest.mark.quick

ROOT = Path(workbench.__file__).parent
PAGES = ROOT.parent / "pages"
ALLOWED = {
    "data": set(),
    "statistics": set(),
    "store": set(),
    "figures": set(),
    "subjects": {"store"},  # a run is a source of weights
    "generation": {"subjects"},
    "training": {"subjects", "store", "generation"},
    "interp": {"subjects", "figures", "generation"},  # an attention record writes its own page
    "benchmarks": {  # heads as tasks; results write their own report
        *("subjects", "store", "interp", "figures", "generation"),
    },
    "comparison": {  # what a fine-tune was trained for is a measure; writes its own report
        *("subjects", "training", "interp", "benchmarks", "store", "figures", "generation"),
    },
    "serving": {"subjects", "generation", "interp", "comparison", "benchmarks", "store"},
    "encoders": {"subjects", "interp", "pictures", "figures"},
    "pictures": {"subjects", "generation", "interp", "training", "store"},
    "privacy": {  # scans what training reads; finds the heads that hold what was learned by heart
        *("subjects", "training", "store", "generation", "interp"),
    },
    "sweeps": {"training", "benchmarks", "store"},
    "bias": {"subjects", "interp", "benchmarks"},  # finds the heads that carry a suite's pairs
    "budget": {"subjects", "training", "interp", "benchmarks", "store", "sweeps"},
    "speed": {
        "budget",
        "subjects",
        "training",
        "interp",
        "benchmarks",
        "figures",
        "generation",
        "serving",
    },
}
ROOMS = {  # rooms of a room; what stands beside them in its folder is for all of them
    "interp": {
        "stacks": set(),
        "prompts": set(),
        "engine": {"prompts"},
        "patching": {"engine", "prompts", "stacks"},
        "circuits": {"patching", "engine", "prompts"},
        "interventions": {"engine", "prompts"},
        "patterns": {"stacks"},
        "linear": {"patterns"},
        "lenses": {"patching", "engine", "prompts", "stacks"},
        "position": {"patterns", "linear"},
        "anatomy": {"position", "stacks"},
    },
    "benchmarks": {"documents": set(), "engine": set(), "results": {"tasks"}},
    "comparison": {
        "location": {"matching", "measures"},
        "report": {"location", "compare", "layers", "lineage", "measures", "text"},
    },
    "ui": {"parts": set(), "views": {"parts"}},
}
NESTED = [(outer, inner) for outer, rooms in ROOMS.items() for inner in rooms]
COMMON = {
    *(
        "allocator",
        "data",
        "doors",
        "errors",
        "jsonable",
        "memory",
        "modes",
        "paths",
        "progress",
        "provenance",
        "public",
        "records",
        "remote",
        "statistics",
        "storages",
        "threads",
    ),
}


@cache
def imports(path: Path) -> frozenset[str]:
    """What a file imports: of ours the first part below `workbench`, of the rest the top."""
    names_imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module]
                if node.module != "workbench"
                else [f"workbench.{a.name}" for a in node.names]
            )
        for name in names:
            parts = name.split(".")
            names_imported.add(
                parts[1] if parts[0] == "workbench" and len(parts) > 1 else f"/{parts[0]}"
            )
    return frozenset(names_imported)


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_lies_below_it(folder):
    for path in (ROOT / folder).rglob("*.py"):
        ours = {name for name in imports(path) if not name.startswith("/")}
        assert ours <= ALLOWED[folder] | COMMON | {folder}, path


@pytest.mark.parametrize(("outer", "inner"), NESTED)
def test_a_room_in_a_room_imports_only_what_lies_below_it(outer, inner):
    beside = {path.stem for path in (ROOT / outer).glob("*.py")} if outer == "interp" else set()
    for path in (ROOT / outer / inner).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used = {name.split(".")[2] for name in modules if name.startswith(f"workbench.{outer}.")}
        assert used <= ROOMS[outer][inner] | {inner} | beside, path


def test_rooms_import_in_one_direction():
    """No circle: leaving out rooms that import nothing but what was left out before ends with no
    room.
    """
    for rooms in (ALLOWED, *ROOMS.values()):
        left = {room: used & set(rooms) for room, used in rooms.items()}
        while left:
            free = {room for room, used in left.items() if not used & set(left)}
            assert free, f"a circle among {sorted(left)}"
            left = {room: used for room, used in left.items() if room not in free}


def test_no_file_repeats_the_name_of_its_folder():
    for path in ROOT.rglob("*.py"):
        folder = path.parent.name
        assert path.stem != folder and not path.stem.startswith(f"{folder}_"), path


def test_a_view_bears_the_name_of_its_page():
    pages = {path.stem for path in PAGES.glob("*.py")}
    views = {path.stem for path in (ROOT / "ui" / "views").glob("*.py")} - {"__init__"}
    assert {view.split("_")[0] for view in views} <= pages


def test_streamlit_is_imported_only_by_the_ui_and_the_pages():
    for path in ROOT.rglob("*.py"):
        if "ui" not in path.relative_to(ROOT).parts:
            assert "/streamlit" not in imports(path), path


@pytest.mark.parametrize("folder", ["store", "figures"])
def test_store_and_figures_know_no_model(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not imports(path) & {"/torch", "/transformers", "/transformer_lens"}, path


@pytest.mark.parametrize(
    "module", ["workbench", "workbench.store", "workbench.training", "workbench.cli.app"]
)
def test_what_only_lists_or_starts_work_does_not_wait_for_torch(module):
    lines = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0


def test_a_page_shows_no_string_by_accident():
    """Streamlit writes a bare string onto the page, such as one that explains a constant."""
    for path in PAGES.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body[1:]:
            bare = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert not bare, (path, node.lineno)


def test_nothing_imports_the_command_line_or_the_pages():
    for path in ROOT.rglob("*.py"):
        if path.name != "__main__.py" and path.parent.name != "cli":
            assert not imports(path) & {"cli", "pages"}, path


def test_no_file_is_longer_than_four_hundred_lines():
    for path in [*ROOT.rglob("*.py"), *PAGES.glob("*.py")]:
        # The model is read as a whole, and a good part of its file is what teaches.
        most = 500 if path == ROOT / "subjects" / "gpt.py" else 400
        assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path


def test_public_names_are_sorted_and_all_there():
    assert workbench.__all__ == sorted(workbench.__all__)
    for name in workbench.__all__:
        value = getattr(workbench, name)
        assert callable(value) or (name.isupper() and isinstance(value, dict | tuple)), name
