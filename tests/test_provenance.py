"""The commit that a run records: that of the repository which tracks the package, and no other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bbbrun
from bbbrun.runs.provenance import commit


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Run git in a fresh repository, tmp_path/repository, with no settings but these."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # as of a hook that runs the tests
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        line = ["git", "-C", str(tmp_path / "repository"), *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "repository").mkdir()
    run("init", "--quiet")
    run("commit", "--quiet", "--allow-empty", "-m", "first")
    return run


def package(folder: Path) -> Path:
    """A package in `folder`, as far as git sees."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "module.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("place", ["bbbrun", "src/bbbrun"])
def test_the_head_of_the_repository_that_keeps_the_package(git, tmp_path, place):
    copy = package(tmp_path / "repository" / place)
    git("add", ".")
    git("commit", "--quiet", "-m", "the package")
    head = git("rev-parse", "HEAD")
    assert commit(copy) == head
    (copy / "module.py").write_text("x = 2\n")
    assert commit(copy) == head + "+changes"
    git("commit", "--quiet", "-am", "another")
    assert commit(copy) == git("rev-parse", "HEAD") != head
    (tmp_path / "link").symlink_to(copy)
    assert commit(tmp_path / "link") == git("rev-parse", "HEAD")


def test_none_of_a_repository_that_does_not_keep_the_package(git, tmp_path):
    (tmp_path / "repository" / ".gitignore").write_text(".venv/\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "somebody's")
    for place in (".venv/lib/site-packages/bbbrun", "untracked/bbbrun"):
        assert commit(package(tmp_path / "repository" / place)) is None


def test_none_without_a_repository_or_git(git, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    copy = package(tmp_path / "elsewhere" / "bbbrun")
    assert commit(copy) is None
    monkeypatch.setenv("PATH", "")
    assert commit(copy) is None


def test_the_package_that_runs_is_the_one_asked_for(git, tmp_path):
    source = Path(bbbrun.__file__).parent
    shutil.copytree(source, tmp_path / "repository" / "bbbrun", ignore=shutil.ignore_patterns("__pycache__"))
    git("add", ".")
    git("commit", "--quiet", "-m", "the package")
    code = "from bbbrun.runs.provenance import commit; print(commit())"
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "repository")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == git("rev-parse", "HEAD")
