"""A stop at any moment is one line and exit code 130; a job's process-wide settings do not reach the next job."""

import signal
import subprocess
import sys
import warnings

import pytest
import torch

from bbbrun.runtime.device import process_settings

# A stop that a library turns into another error, as an interrupted import does; or swallows.
STOPPED = """
import os, signal, sys
import bbbrun.runner
from bbbrun.runtime import stops

def stopped(*_):
    try:
        os.kill(os.getpid(), {number})
        for _ in range(1000): pass
    except KeyboardInterrupt:
        raise ImportError("cut off") from None

bbbrun.runner.prepare = stopped
from bbbrun.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.parametrize(
    ("number", "sweep"),
    [
        (signal.SIGTERM, ["-m", "seed=1,2"]),
        pytest.param(signal.SIGINT, ["-m", "seed=1,2"], marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, [], marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, [], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_import_is_one_line_and_stops_the_sweep(tmp_path, number, sweep):
    words = [*sweep, "train.epochs=2", "network.hidden=[16]", "threads=1", "compile=false", "device=cpu"]
    code = STOPPED.format(number=int(number))
    result = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 130
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    remedy = "2 of 2 jobs are left; continue with: bbbrun resume=" if sweep else "nothing was begun"
    assert lines[0].startswith(f"interrupted; {remedy}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_once_all_is_done_changes_nothing(tmp_path, number):
    code = f"""if True:
        import atexit, os, signal, sys
        atexit.register(os.kill, os.getpid(), {int(number)})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from bbbrun.cli import main
        main()"""
    result = subprocess.run([sys.executable, "-c", code, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_a_job_sets_is_restored():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    filters = list(warnings.filters)
    with process_settings():
        torch.set_num_threads(threads + 1)
        torch.set_float32_matmul_precision("high")
        warnings.simplefilter("ignore")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, precision)
    assert warnings.filters == filters


@pytest.mark.parametrize(
    "how",
    [
        "2>&1 | true",
        *(pytest.param(how, marks=pytest.mark.slow) for how in ("2>&-", "1>&- 2>&-", "2>/dev/full", "0<&- 2>&-")),
    ],
)
def test_an_unwritable_stream_does_not_end_a_run(tmp_path, how):
    words = "train.epochs=2 network.hidden=[16] threads=1 compile=false device=cpu hydra.run.dir=run"
    command = f"{sys.executable} -m bbbrun '{words.replace(' ', chr(39) + ' ' + chr(39))}' {how}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "run" / "summary.json").exists()
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 3  # the header and two rows
