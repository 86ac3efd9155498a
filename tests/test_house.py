"""The house: which room a line of code lives in, and what a room may know."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "bbbrun"
MODULES = sorted(ROOT.rglob("*.py"))
# Imports go up this list and never down it: a room knows those before it.
ORDER = (
    "errors",
    "schema",
    "runtime",
    "runs",
    "data",
    "bayes",
    "training",
    "tasks",
    "report",
    "trackers",
    "bench",
    "runner",
    "api",
    "sweeps",
    "verbs",
    "cli",
    "__main__",
)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a module imports from, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bbbrun":
            assert node.module is not None
            parts = node.module.split(".")[1:]
            rooms |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bbbrun.")}
    return rooms - {"configs", "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_run_back(path):
    # The package's own __init__ is the public API, which knows everything, lazily.
    if path == ROOT / "__init__.py":
        return
    own = ORDER.index(room(path))
    later = {name for name in imported(path) if ORDER.index(name) > own}
    assert not later, f"{room(path)} must not know {', '.join(sorted(later))}"


def test_nothing_imports_the_bench_but_its_verb():
    knowing = {str(path.relative_to(ROOT)) for path in MODULES if "bench" in imported(path)}
    assert {name for name in knowing if not name.startswith("bench/")} == {"verbs/bench.py"}


def test_rooms_and_modules_are_small():
    for folder in {path.parent for path in MODULES}:
        files = [path.name for path in folder.iterdir() if path.is_file()]
        assert len(files) <= 16, f"{folder.name} has {len(files)} files"
    for path in MODULES:
        lines = len(path.read_text().splitlines())
        assert lines <= 250, f"{path.name} has {lines} lines"


def test_every_room_says_its_idea():
    for path in ROOT.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
        if path.parent.name not in ("items", "verbs"):
            assert (path.parent / "README.md").is_file(), path.parent


# The contract of a method is in bayes/methods.py.
METHOD_TESTS = re.compile(
    r"isinstance\([^)]*(BayesByBackpropConfig|MaximumLikelihoodConfig|DropoutConfig|MethodConfig)"
    r"|len\(parameters\)|\"bbb\"|'bbb'"
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_contract_asks_which_method_it_is(path):
    if room(path) != "schema" and path != ROOT / "bayes" / "methods.py":
        assert not METHOD_TESTS.findall(path.read_text())


# Names that torch does not promise to keep.
PRIVATE = re.compile(r"torch\._|\bnn\.(\w+\.)+_(?!_)\w+|inductor_prims|skip_all_guards_unsafe|_linear_pointwise")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_of_torch_are_the_runtimes(path):
    if room(path) != "runtime":
        assert not PRIVATE.findall(path.read_text())
