"""The shape of the product: what may import what, what stands where, and that every file says what it is for."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "policies", "storage")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TEXTS = sorted(
    path
    for package in (*PACKAGES, "config")
    for path in (ROOT / package).rglob("*")
    if path.suffix in (".py", ".lua", ".sql", ".toml", ".md", ".html", ".conf", ".yaml", ".yml", ".json", ".sh")
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_import_contracts_hold() -> None:
    """gateway, then storage, then policies; and policies do no I/O (pyproject.toml, [tool.importlinter])."""
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", ran.stdout), ran.stdout


def test_no_file_imports_one_that_imports_it() -> None:
    """Not even for its types alone: what both need is a third thing, with a file or a Protocol of its own."""
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}
    assert list(TopologicalSorter(imports).static_order())  # CycleError names the circle


def test_dependencies_are_not_older_than_their_known_faults() -> None:
    """G-03: below these versions there are advisories, or behaviour that this code does not expect."""
    floors = {"aiohttp": (3, 14, 3), "pyjwt": (2, 15), "redis": (5,), "bcrypt": (5,)}
    wanted = "\n".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    for package, floor in floors.items():
        for text in (re.search(rf"^{package}>=([0-9.]+)", wanted, re.MULTILINE)[1], version(package)):
            assert tuple(map(int, re.findall(r"\d+", text)[:3])) >= floor, (package, text)


def test_config_holds_data_only() -> None:
    """A module called config would be imported by accident, and by others (it is a common stray name)."""
    assert [name(path) for path in (ROOT / "config").rglob("*.py")] == []


def test_tests_are_packages_so_that_none_hides_a_package_of_the_product() -> None:
    """With tests/policies on the path, ``import policies`` would find the tests."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [name(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Line one, for whoever opens the file."""
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said
    assert said.splitlines()[0].strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_lists_files_that_are_there(package: str) -> None:
    """The package's docstring is its map."""
    said = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    listed = re.findall(r"^([a-z_]+)  +\S", said, re.MULTILINE)
    assert [entry for entry in listed if not list((ROOT / package).glob(f"{entry}*"))] == []


@pytest.mark.parametrize("face", [path for path in SOURCES if path.name == "__init__.py"], ids=name)
def test_every_file_of_a_room_stands_in_its_face(face: Path) -> None:
    """Of rooms with more than a few files: who looks for one looks there."""
    said = ast.get_docstring(ast.parse(face.read_text())) or ""
    there = sorted(path.stem for path in face.parent.glob("*.py") if not path.stem.startswith("__"))
    if len(there) > 7:
        assert [file for file in there if not re.search(rf"(?<![a-z_]){file}(?![a-z_])", said)] == []


def test_nothing_names_the_place_where_it_was_written() -> None:
    """A path of somebody's machine means nothing on another one."""
    places = [re.escape(str(ROOT)) + r"(?![\w.-])"] if len(ROOT.parts) > 2 else []
    machine = re.compile("|".join([*places, r"/home/(?!\{)\w+/", r"/Users/\w+/", r"[A-Z]:\\Users\\"]))
    assert [name(path) for path in TEXTS if machine.search(path.read_text(errors="replace"))] == []
