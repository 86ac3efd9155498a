"""The wheel, installed into a folder of its own: it contains the checkout's whole package, and it runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from importlib.metadata import distributions
from pathlib import Path

import pytest

import bbbrun as package

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel of the checkout is installed into."""
    # Not find_spec: a search for pip's module makes setuptools leave distutils to Python, whose import warns.
    if missing := {"pip", "setuptools"} - {versions.name for versions in distributions()}:
        pytest.skip(f"this environment lacks {' and '.join(sorted(missing))}")
    folder = tmp_path_factory.mktemp("installed")
    # A copy: building leaves files beside the sources, and takes what an earlier build left there.
    unwanted = shutil.ignore_patterns(".*", "results", "shared", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "source", ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for words in (
        ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder / "wheel"), "source"],
        ["install", "--no-deps", "--no-index", "--target", str(folder / "packages"), "wheel"],
    ):
        words[-1] = str(next((folder / "wheel").glob("*.whl")) if words[-1] == "wheel" else folder / "source")
        done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    return folder / "packages"


@pytest.fixture
def python(installed, tmp_path) -> Python:
    """Run Python with the installed package, away from the checkout."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("BBBRUN_DATA", "HYDRA_FULL_ERROR")}
    environment = inherited | {"PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": ""}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-P", *words]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done

    return run


def files(folder: Path) -> dict[str, bytes]:
    """The modules, YAML files and tables in and below a folder."""
    kinds = (".py", ".yaml", ".csv")
    paths = [path for path in folder.rglob("*") if path.suffix in kinds]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_all_of_the_package_is_in_the_wheel(installed):
    configs = files(Path(str(resources.files("bbbrun.configs"))))
    expected = files(Path(package.__file__).parent) | {f"configs/{name}": text for name, text in configs.items()}
    assert {"paper.csv", "cli.py", "configs/config.yaml", "configs/experiment/mnist.yaml"} <= {
        *expected,
        *(Path(name).name for name in expected),
    }
    assert files(installed / "bbbrun") == expected


def test_the_commands_are_those_of_the_installed_package(installed, python):
    code = (
        "from importlib.metadata import distribution\n"
        "for command in distribution('bbbrun').entry_points:\n"
        "    function = command.load()\n"
        "    print(command.name, function.__code__.co_filename)\n"
    )
    versions = dict(line.split(maxsplit=1) for line in python("-c", code).stdout.splitlines())
    assert sorted(versions) == ["bbbrun"]
    for path in versions.values():
        assert Path(path).is_relative_to(installed)


def test_the_installed_package_composes_what_the_checkout_does(python, bbbrun):
    words = ("--cfg", "job", "experiment=mnist")
    assert python("-m", "bbbrun", *words).stdout == bbbrun(*words).stdout


def test_the_installed_package_trains_and_records_no_commit(python, tmp_path):
    python("-m", "bbbrun", "train.epochs=1", "network.hidden=[4]", "compile=false", "threads=1")
    (summary,) = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["commit"] is None
