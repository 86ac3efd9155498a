"""Folders of caches and downloads without a home folder: users of containers have only an id."""

import os
import pwd
import warnings
from pathlib import Path

import pytest

from bbbrun.data.download import data_root
from bbbrun.runtime import places

NAMES = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "BBBRUN_DATA")


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No variable that names a place, and a temporary folder of the test's own."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # restored afterwards, also what `settle` sets
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"bbbrun-{os.getuid()}"


def no_home(monkeypatch, kind: str, tmp_path: Path) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    if kind == "unknown user":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)
    elif kind == "no such folder":
        monkeypatch.setenv("HOME", "/dev/null/none")
    elif kind == "not writable":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: "home" not in str(path) and real(path, mode))
        (tmp_path / "home").mkdir()
    else:
        (tmp_path / "home").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("kind", ["unknown user", "no such folder", "not writable", "a file"])
def test_without_a_home_all_caches_lie_in_one_temporary_folder(monkeypatch, tmp_path, bare, kind):
    no_home(monkeypatch, kind, tmp_path)
    assert data_root(None, "MNIST/raw").path == bare / "bbbrun"
    with pytest.warns(UserWarning, match=f"caches and downloads go to {bare}") as caught:
        places.settle()
    assert len(caught) == 1
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR"):
        assert Path(os.environ[name]).parent == bare
    assert Path(os.environ["MPLCONFIGDIR"]).is_dir()


def test_what_the_user_named_stays(monkeypatch, tmp_path, bare):
    no_home(monkeypatch, "unknown user", tmp_path)
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    with pytest.warns(UserWarning, match="go to"):
        places.settle()
    assert os.environ["MPLCONFIGDIR"] == "mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert data_root(None, "MNIST/raw").path == tmp_path / "mine" / "bbbrun"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        places.settle()


def test_with_a_home_nothing_changes(monkeypatch, tmp_path, bare):
    monkeypatch.setenv("HOME", str(tmp_path))
    places.settle()
    assert not set(NAMES) & os.environ.keys()
    assert data_root(None, "MNIST/raw").path == tmp_path / ".cache" / "bbbrun"


@pytest.mark.parametrize("wrong", ["a file", "below a file"])
def test_a_cache_that_is_no_folder_goes_elsewhere(monkeypatch, tmp_path, bare, wrong):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    named = tmp_path / "file" / ("" if wrong == "a file" else "cache")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(named))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "new"))
    with pytest.warns(UserWarning, match=f"TORCHINDUCTOR_CACHE_DIR={named} is no folder .* goes to {bare}") as caught:
        places.settle()
    assert len(caught) == 1
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(bare / "torchinductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "new")
    assert "MPLCONFIGDIR" not in os.environ
