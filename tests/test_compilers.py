"""A compiler that exists and does not work: every kind of run continues uncompiled, with one warning."""

import csv
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import bbbrun as api
from bbbrun.runtime.compile import index_table, reason_of

KINDS = {
    "digits": ["experiment=digits", "train.epochs=2", "network.hidden=[4]"],
    "regression": ["experiment=regression", "train.epochs=2", "network.hidden=[4]"],
    "bandit": ["experiment=wheel", "agent.steps=4", "agent.updates=3", "network.hidden=[4]", "train.evaluate_every=2"],
}
FAILURES = {
    "a full folder for temporary files": OSError(28, "No space left on device"),
    "a cache that is a file": FileExistsError(17, "File exists", "/cache"),
    "a folder that forbids programs": ImportError("failed to map segment from shared object"),
    "a user without a name": KeyError("getpwuid(): uid not found: 12345"),
}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("kind", "failure", "moment"),
    [("bandit", failure, "at the first call") for failure in FAILURES]
    + [("bandit", "a cache that is a file", "at once")]
    + [(kind, "a cache that is a file", "at the first call") for kind in ("digits", "regression")],
)
def test_what_fails_to_compile_trains_as_if_uncompiled_with_one_warning(monkeypatch, tmp_path, kind, failure, moment):
    def broken(function):
        def call(*_):
            raise FAILURES[failure]

        if moment == "at once":
            call()
        return call

    words = [*KINDS[kind], "threads=1", "device=cpu"]
    monkeypatch.setattr("bbbrun.report.plots.draw_metrics", lambda *_: None)
    monkeypatch.setattr("bbbrun.report.plots.predictive_band", lambda *_: None)
    api.run(api.compose(*words, "compile=false"), tmp_path / "eager")
    monkeypatch.setattr("bbbrun.training.trainer.compiled", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        api.run(api.compose(*words, "compile=true"), tmp_path / "broken")
    messages = [str(one.message) for one in caught if "compile" in str(one.message)]
    assert len(messages) == 1
    assert messages[0].startswith("torch.compile failed (")
    assert rows(tmp_path / "broken") == rows(tmp_path / "eager") != []


def test_an_error_of_an_uncompiled_step_is_its_own(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("bbbrun.training.trainer.Steps.__call__", fail)
    with pytest.raises(OSError, match="Input/output error"):
        api.run(api.compose(*KINDS["digits"], "threads=1", "device=cpu", "compile=false"), tmp_path / "run")


def test_the_reason_is_the_line_that_says_most():
    error = RuntimeError("backend='inductor' raised:\nCppCompileError: C++ compile error\n\nCommand: ...")
    assert reason_of(error) == "CppCompileError: C++ compile error"
    assert reason_of(OSError()) == "OSError"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "bandit"])
def test_a_real_broken_compiler(bbbrun, tmp_path, kind):
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    words = [*KINDS[kind], "threads=1", "device=cpu"]
    environment = {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "new")}
    result = bbbrun(*words, "compile=true", "hydra.run.dir=broken", **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("torch.compile failed (") == 1
    assert "Traceback" not in result.stderr
    assert bbbrun(*words, "compile=false", "hydra.run.dir=eager").returncode == 0
    assert rows(tmp_path / "broken") == rows(tmp_path / "eager") != []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "bandit"])
def test_a_cache_that_is_a_file(bbbrun, tmp_path, kind):
    """It is torch that would fail, and as soon as it is imported."""
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    words = [*KINDS[kind], "method=mle", "threads=1", "device=cpu", "compile=true"]  # without noise: compiled sooner
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    result = bbbrun(*words, "hydra.run.dir=elsewhere", **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("bbbrun: warning: ") == 1
    assert f"TORCHINDUCTOR_CACHE_DIR={tmp_path}/file is no folder that can be written" in result.stderr
    assert list((tmp_path / "temporary").rglob("*.so"))
    assert bbbrun(*words, "hydra.run.dir=usual").returncode == 0
    assert rows(tmp_path / "elsewhere") == rows(tmp_path / "usual") != []


# 1001 numbers are no whole number of vectors of either width, so code for the wide ones writes past the array's end.
VECTORS = """
import torch
from bbbrun.runtime.compile import compiled
numbers, total = torch.arange(1.0, 1002.0), torch.zeros(1001)
compiled(lambda: total.add_(2 * numbers + 1))()
assert torch.equal(total, 2 * numbers + 1), f"{int((total != 2 * numbers + 1).sum())} of 1001 numbers are wrong"
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="this processor has no AVX-512")
@pytest.mark.parametrize("widths", [("avx512", "avx2"), ("avx2", "avx512")])
def test_code_cached_for_vectors_of_another_width_is_not_used(tmp_path, widths):
    for width in widths:
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "ATEN_CPU_CAPABILITY": width, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", VECTORS]
        result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr


def test_an_index_table_has_no_adjacent_numbers_where_the_compiler_would_transpose_them(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    new = index_table(2, 3, 4, device=torch.device("cpu"))
    assert new.is_contiguous()
    monkeypatch.setattr(torch, "__version__", "2.12.1")
    old = index_table(2, 3, 4, device=torch.device("cpu"))
    assert (old.shape, old.dtype, old.stride(-1)) == (new.shape, new.dtype, 2)
    # What an epoch's order is written through.
    old[1].view(-1)[:5] = torch.arange(1, 6)
    assert old[1].flatten().tolist() == [1, 2, 3, 4, 5, *[0] * 7]
    assert not old[0].any()
