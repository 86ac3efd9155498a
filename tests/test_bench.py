import subprocess
import sys

import pandas as pd
import pytest


@pytest.mark.slow
def test_the_bench_times_every_step_and_writes_its_table(tmp_path):
    words = ["--network", "6-5-4-3", "--batch", "4", "--rounds", "2", "--draws", "2", "--output", "table.csv"]
    subprocess.run([sys.executable, "-m", "bbbrun.bench", *words], cwd=tmp_path, check=True)
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 6
    assert (table["median_ms"] > 0).all()
    assert table["ratio_to_eager_sgd"][0] == 1


@pytest.mark.parametrize("words", [["--network", "784"], ["--network", "a-b"], ["--rounds", "0"]])
def test_the_bench_refuses_wrong_numbers(words):
    result = subprocess.run([sys.executable, "-m", "bbbrun.bench", *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "error:" in result.stderr
    assert "Traceback" not in result.stderr
