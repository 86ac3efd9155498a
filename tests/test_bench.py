import json
import subprocess
import sys

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from bbbrun.bench.scaling import places
from bbbrun.bench.steps import mlp_of
from bbbrun.bench.variance import configuration, variance, variances
from bbbrun.errors import UserError
from bbbrun.runs.reader import finished_runs
from bbbrun.runtime.noise import standard_normal
from bbbrun.schema.config import composed, plain


def bench(*words: str, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bbbrun", "bench", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_bench_times_every_kind_and_writes_its_table(tmp_path):
    words = ("--batch", "4", "--rounds", "2", "--only", "m", "--threads", "1", "--output", "table.csv")
    # The names of the matrix products and the memory hold an m, as do those of the mixture's steps.
    result = bench("--network", "6-5-3", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "table.csv").set_index("name")
    assert {"sgd, PyTorch eager", "bbb scale_mixture flipout, bbbrun", "sampling", "memory"} <= set(table.index)
    assert set(table["kind"]) == {"step", "part", "floor"}
    assert (table["median_ms"] > 0).all()
    for column, name in (("to_eager_sgd", "sgd, PyTorch eager"), ("to_bbb", "bbb scale_mixture weights, bbbrun")):
        assert table[column].to_list() == pytest.approx((table["median_ms"] / table["median_ms"][name]).to_list())


@pytest.mark.slow
def test_a_machine_is_measured_by_parts_and_a_second_call_continues(tmp_path):
    words = ("--machine", "here", "--small", "--device", "cpu")
    first = bench(*words, "train.batch_size=200", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").glob("*/summary.json")}
    assert results
    record = json.loads((tmp_path / "here" / "machine.json").read_text())
    assert {row["network"] for row in record["steps"]} == {"64-8-8-10", "11-4-4-1"}
    wide, narrow = record["trainings"]
    assert (wide["replicas"], len(wide["test_errors"])) == (1, 1)
    assert (narrow["replicas"], len(narrow["test_errors"])) == (5, 5)
    assert "train.batch_size=200" in wide["command"]
    assert f"| wide | 1 | {wide['steps_per_second']:.0f} |" in first.stdout
    (tmp_path / "here" / "bandit.csv").unlink()
    second = bench(*words, "train.batch_size=200", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert [line.partition(":")[0] for line in second.stderr.splitlines()] == ["bandit"]
    assert {path: path.stat().st_mtime_ns for path in results} == results


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_the_cost_over_size_is_a_table_and_a_figure(tmp_path):
    result = bench("--scaling", "out", "--small", "--rounds", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "out" / "scaling.csv")
    assert set(table["axis"]) == {"weights"}
    ours = table[table["name"].str.startswith("bbb scale_mixture weights")]
    assert {"sgd, PyTorch eager", "dropout, PyTorch eager"} <= set(table["name"])
    assert (table["median_ms"] > 0).all()
    assert (table["memory_mib"] >= 0).all()
    assert ours["weights"].to_list() == pytest.approx([1e6], rel=0.05)
    assert (ours["memory_mib"] > 2 * ours["weights"] * 4 / 2**20).all()  # mu and rho at least, float32
    assert (tmp_path / "out" / "scaling.svg").stat().st_size > 10_000


def test_a_table_is_not_written_over_a_file_of_a_run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").touch()
    for name in ("metrics.csv", ".hydra/overrides.yaml"):
        result = bench("--output", name, cwd=tmp_path)
        assert result.returncode == 2
        assert f"--output {name} is a file of a run: name another" in result.stderr.splitlines()[-1]


def test_every_axis_of_the_cost_varies_one_number():
    found = list(places(6, small=False))
    middle = found[3]
    assert [(place.threads) for place in found if place.axis == "threads"] == [1, 2, 4, 6]
    for place in found:
        changed = [
            name for name in ("widths", "draws", "batch", "threads") if getattr(place, name) != getattr(middle, name)
        ]
        assert set(changed) <= {"widths" if place.axis == "weights" else place.axis}
    sizes = [mlp_of(place.widths).size for place in found if place.axis == "weights"]
    assert sizes == pytest.approx([1e3, 1e4, 1e5, 1e6, 1e7], rel=0.05)


def test_a_part_that_fails_is_named_with_its_log(tmp_path):
    (tmp_path / "here").mkdir()
    for name in ("steps-float32", "steps-bfloat16", "bandit"):
        (tmp_path / "here" / f"{name}.csv").write_text("name\n")
    result = bench("--machine", "here", "--small", "--device", "cpu", "train.epochs=0", cwd=tmp_path)
    assert result.returncode == 1
    assert "wide failed: here/wide.log ends with 'bbbrun: error: train.epochs must be" in result.stderr


@pytest.mark.slow
def test_the_variance_of_gradients_at_a_run(bbbrun, tmp_path):
    words = ("network.hidden=[8]", "train.epochs=1", "method.test_samples=1", "compile=false", "hydra.run.dir=run")
    assert bbbrun(*words).returncode == 0
    result = bench("--variance", "run", "--rounds", "20", "--output", "table.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "table.csv").set_index(["at", "estimator"])
    assert len(table) == 6
    for place in ("initialisation", "trained"):
        # Examples that share a draw of the weights vary together.
        for estimator in ("local", "flipout"):
            assert table["variance_mu"][place, estimator] < table["variance_mu"][place, "weights"]
    assert table["mu_cost"].to_list() == pytest.approx((table["variance_mu"] * table["step_ms"]).to_list())


def test_the_variance_is_that_of_the_draws():
    draws = torch.stack([3 * standard_normal(0, step, 0, 50) + 1e4 for step in range(40)])
    ours, none = variance(lambda step: [draws[step], torch.ones(3)], 40)
    assert ours == pytest.approx(draws.double().var(dim=0).sum().item(), rel=1e-9)
    assert none == 0


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("overrides.yaml", "{", "overrides.yaml does not hold the words of a run"),
        ("overrides.yaml", None, "overrides.yaml does not hold the words of a run"),
        ("overrides.yaml", "[1]", "overrides.yaml does not hold the words of a run"),
        ("overrides.yaml", "[experiment=gone]", "overrides.yaml does not hold the words of a run"),
        ("overrides.yaml", "['seed=${gone}']", "overrides.yaml holds 'seed=${gone}', which is not looked up"),
        ("overrides.yaml", "[train.epochs=3]", "or damaged: train.epochs differ by now"),
        ("config.yaml", "{", "the record of the run in"),
        ("config.yaml", None, "the record of the run in"),
    ],
)
def test_a_damaged_record_is_refused_before_its_variance_is_measured(tmp_path, name, content, expected):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(plain(composed(["train.epochs=2"]))), run / ".hydra" / "config.yaml")
    (run / ".hydra" / "overrides.yaml").write_text("[train.epochs=2]")
    (run / "metrics.csv").write_text("epoch\n2\n")
    summary = {"metrics": {"epoch": 2}, "seconds": 1.0, "versions": {}, "command": "", "commit": "", "device": ""}
    (run / "summary.json").write_text(json.dumps(summary))
    (whole,) = finished_runs([run])
    assert configuration(whole).train.epochs == 2
    path = run / ".hydra" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError) as error:
        variances(run, 2, lambda config, task, estimator: pytest.fail("it was measured"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ("--network", "784"),
        ("--network", "784-10", "a-b"),
        ("--network", "4-3-2", "--only", "nonsense"),
        ("--rounds", "1"),
        ("--draws", "1", "0"),
        ("--threads", "-1"),
        ("--variance", "nowhere"),
        ("--output", "nowhere/table.csv"),
        ("--output", "."),
    ],
)
def test_the_bench_refuses_wrong_words(bbbrun, words):
    result = bbbrun("bench", *words)
    # What the words alone do not show is an error like any other.
    assert result.returncode == (1 if words[-1] in ("nonsense", "nowhere") else 2)
    assert "bbbrun bench: error: " in result.stderr
    assert "error: --" in result.stderr or "error: nowhere" in result.stderr
    assert "Traceback" not in result.stderr
