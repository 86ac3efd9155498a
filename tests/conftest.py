"""Fixtures of several tests: the real command line in a fresh folder, and the real data where available."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import Forks

Command = Callable[..., subprocess.CompletedProcess[str]]

# What a test starts runs beside another test, and by several threads each would wait for the other: ten epochs of MNIST
# take five times the processors' time.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest file first, lest a worker of `--dist loadfile` begin it last; xdist keeps this order."""
    items.sort(key=lambda item: item.path.name != "test_slurm.py")


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of all later collections: it stays, and visiting it takes a third of a second."""
    gc.collect()
    gc.freeze()


# What is read as Python or torch start, so that a fork of a process that has started would not heed it.
_READ_AT_START = {"PYTHONPATH", "CUDA_VISIBLE_DEVICES", "CXX", "TORCHINDUCTOR_CACHE_DIR"}


@pytest.fixture(scope="session")
def _forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks | None]:
    """None where forking a process with threads in it is not safe."""
    if sys.platform != "linux":
        yield None
        return
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def run_in(_forks: Forks | None) -> Command:
    """Run `python -m bbbrun WORDS` in a folder, away from the user's data and settings."""

    def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("BBBRUN_DATA", "HYDRA_FULL_ERROR")}
        inherited["CUDA_VISIBLE_DEVICES"] = ""  # what CUDA does differently is test_cuda's
        if _forks and not environment.keys() & _READ_AT_START:
            return _forks.run(list(words), folder, inherited | environment)
        return subprocess.run(
            [sys.executable, "-m", "bbbrun", *words],
            cwd=folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture
def bbbrun(tmp_path: Path, run_in: Command) -> Command:
    """Run `python -m bbbrun WORDS` in tmp_path."""
    return partial(run_in, tmp_path)


@pytest.fixture
def data_root() -> Path:
    """The folder of the real data, from BBBRUN_DATA."""
    root = os.environ.get("BBBRUN_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("BBBRUN_DATA does not name a folder that holds MNIST/raw")
    return Path(root)


@pytest.fixture(autouse=True)
def _one_thread_per_worker() -> None:
    """Test processes that run side by side must not wait for each other's threads; OMP_NUM_THREADS says the rest."""
    torch.set_num_threads(1)


@pytest.fixture
def fast_onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Large products are oneDNN's on every processor that has AVX-512, whoever made it."""
    from bbbrun.runtime import matmul

    monkeypatch.setattr(matmul, "_is_zen5", lambda: True)
    large_product = matmul.large_product
    large_product.cache_clear()
    yield
    large_product.cache_clear()
