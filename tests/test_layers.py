"""Who may import whom: the layers of the house, held over the syntax tree."""

import ast
from pathlib import Path

import pytest

import workbench

ROOT = Path(workbench.__file__).parent
ALLOWED = {
    "subjects": {"store"},  # a run is a source of weights
    "training": {"subjects", "store"},
    "interp": {"subjects", "figures"},  # an attention record writes its own page
    "benchmarks": {"subjects", "store", "interp", "figures"},  # heads as tasks; results write their own report
    "comparison": {  # what a fine-tune was trained for is a measure; a comparison writes its own report
        *("subjects", "training", "interp", "benchmarks", "store", "figures"),
    },
    "store": set(),
    "figures": set(),
}
ROOMS = {  # of interp; what stands beside them (weights, families, block, texts) is for all
    "patterns": set(),
    "causal": set(),
    "lenses": {"causal"},
    "decoding": {"patterns", "causal"},
    "position": {"patterns", "decoding"},
    "anatomy": {"position"},
}
COMMON = {"data", "errors", "jsonable", "modes", "paths", "provenance", "public", "records", "statistics"}


def imports(path: Path) -> set[str]:
    """The first part below `workbench` of everything a file imports, and the top of everything else."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "workbench" else [f"workbench.{a.name}" for a in node.names]
        for name in names:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "workbench" and len(parts) > 1 else f"/{parts[0]}")
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_lies_below_it(folder):
    for path in (ROOT / folder).rglob("*.py"):
        ours = {name for name in imports(path) if not name.startswith("/")}
        assert ours <= ALLOWED[folder] | COMMON | {folder}, path


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_interp_imports_only_what_lies_below_it(room):
    for path in (ROOT / "interp" / room).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used = {name.split(".")[2] for name in modules if name.startswith("workbench.interp.") and name.count(".") == 3}
        assert used <= ROOMS[room] | {room}, path


def test_streamlit_is_imported_only_by_the_ui_and_the_pages():
    for path in ROOT.rglob("*.py"):
        if "ui" not in path.relative_to(ROOT).parts:
            assert "/streamlit" not in imports(path), path


@pytest.mark.parametrize("folder", ["store", "figures"])
def test_store_and_figures_know_no_model(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not imports(path) & {"/torch", "/transformers", "/transformer_lens"}, path


def test_nothing_imports_the_command_line_or_the_pages():
    for path in ROOT.rglob("*.py"):
        if path.name != "__main__.py":
            assert not imports(path) & {"cli", "pages"}, path


def test_no_file_is_longer_than_four_hundred_lines():
    for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "pages").glob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_public_names_are_sorted_and_all_there():
    assert workbench.__all__ == sorted(workbench.__all__)
    for name in workbench.__all__:
        found = getattr(workbench, name)
        assert callable(found) or (name.isupper() and isinstance(found, dict | tuple)), name
