"""bbbrun search: its ranges, several workers of one study, and no choice by the test set."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

optuna = pytest.importorskip("optuna")

from bbbrun.errors import UserError  # noqa: E402
from bbbrun.runs.sweep import read_sweep  # noqa: E402
from bbbrun.sweeps import search as searches  # noqa: E402
from bbbrun.sweeps.search import Search, best_of, read_search, study_of, work, write_search  # noqa: E402
from bbbrun.sweeps.space import examples, settings_of, space_of  # noqa: E402
from bbbrun.sweeps.study_page import write_study_page  # noqa: E402

FAST = ("train.epochs=2", "network.hidden=[4]", "threads=1", "compile=false", "device=cpu", "method=mle", "prior=none")


def test_ranges_are_read_as_they_are_meant():
    fixed, space = space_of(
        [
            "experiment=mnist",
            "optimizer.lr=log(1e-4,1e-2)",
            "prior.pi=interval(0.1,0.9)",
            "train.batch_size=interval(16,128)",
            "seed=range(0,3)",
            "prior=gaussian,laplace",
            "network.hidden=[4],[8,8]",
            "prior.sigma1=tag(log, interval(0.1, 2))",
        ]
    )
    assert fixed == ["experiment=mnist"]
    of = optuna.distributions
    assert space == {
        "optimizer.lr": of.FloatDistribution(1e-4, 1e-2, log=True),
        "prior.pi": of.FloatDistribution(0.1, 0.9),
        "train.batch_size": of.IntDistribution(16, 128),
        "seed": of.CategoricalDistribution([0, 1, 2]),
        "prior": of.CategoricalDistribution(["gaussian", "laplace"]),
        "network.hidden": of.CategoricalDistribution(["[4]", "[8,8]"]),
        "prior.sigma1": of.FloatDistribution(0.1, 2.0, log=True),
    }
    assert settings_of({"network.hidden": "[8,8]", "optimizer.lr": 2e-3}) == [
        "network.hidden=[8,8]",
        "optimizer.lr=0.002",
    ]
    for wrong in ("optimizer.lr=log(1)", "optimizer.lr=log(-1,2)", "x=interval(3,1)"):
        with pytest.raises(UserError, match=r"optimizer\.lr=log|x=interval"):
            space_of([wrong])


def test_an_objective_of_the_test_and_nothing_to_search_are_refused(bbbrun, tmp_path):
    result = bbbrun("search", *FAST, "optimizer.lr=log(1e-4,1e-2)", "--objective", "test_error")
    assert result.returncode == 2
    assert "never of the test" in result.stderr.splitlines()[-1]
    for words, expected in (
        ([*FAST], "nothing to search"),
        (["seed=1,2", "optimizer.lr=-1"], "optimizer.lr must be"),
        (["--resume", "nothing"], "nothing is not the folder of a search"),
        (["seed=1,2", "resume=here"], "a search is continued by bbbrun search --resume FOLDER"),
        (["optimizer.lrr=log(1e-4,1e-2)"], "unknown key 'optimizer.lrr'"),
        (["experiment=digits,nope"], "Could not find 'experiment/nope'"),
        (["seed=1,2", "nope=3"], "unknown key 'nope'"),
        (
            ["experiment=regression", "seed=1,2"],
            "nothing to choose settings by: dataset=regression_curve has no validation",
        ),
        (["experiment=uci", "seed=1,2"], "dataset=boston has no validation part: set dataset.valid_share"),
        (["experiment=mnist", "seed=1,2", "dataset.valid_size=0"], "has no validation part: set dataset.valid_size"),
        (["experiment=digits,regression"], "dataset=regression_curve has no validation part"),
        (["experiment=uci", "dataset.valid_share=0,0.1"], "set dataset.valid_share"),
        (["train.batch_size=interval(16.5,64)"], "train.batch_size=16.5: Value '16.5' of type 'float'"),
    ):
        result = bbbrun("search", *words)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
        assert expected in result.stderr
    assert not (tmp_path / "results").exists()


class Trained:
    """A run in place of a child process: its validation error is the distance of lr from 1e-3, in decades.

    metrics: those it has instead.
    """

    commands: ClassVar[list[list[str]]] = []
    metrics: ClassVar[dict[str, float]] = {}
    pid = returncode = 0

    def __init__(self, command, stderr, **_):
        self.commands.append(command)
        words = dict(text.partition("=")[::2] for text in command if "=" in text)
        folder = Path(words["hydra.sweep.dir"]) / words["hydra.sweep.subdir"].strip("'")
        error = abs(math.log10(float(words["optimizer.lr"])) + 3)
        time.sleep(0.02)
        if words["seed"] == "7":
            (folder / "error.txt").write_text("training diverged\n")
        else:
            metrics = self.metrics or {"valid_error": error, "test_error": 0.0}
            (folder / "summary.json").write_text(json.dumps({"metrics": metrics}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def poll(self):
        return 0


class Refused(Trained):
    """A run that ends before it has its folder, as by a configuration that does not compose."""

    returncode = 1

    def __init__(self, command, stderr, **_):
        stderr.write("bbbrun: warning: first\nbbbrun: error: the line that says why\n")


class Complaining(Trained):
    """A run that is finished, and then ends with an error."""

    returncode = 1

    def __init__(self, command, stderr, **words):
        super().__init__(command, stderr, **words)
        stderr.write("bbbrun: error: after the end\n")


@pytest.fixture
def search(tmp_path, monkeypatch) -> Search:
    monkeypatch.setattr(searches.subprocess, "Popen", Trained)
    monkeypatch.setattr(Trained, "commands", [])
    folder = tmp_path / "search_1"
    settings = [*FAST, "seed=0", "optimizer.lr=log(1e-4,1e-2)"]
    search = Search(folder, settings, "valid_error", 12, f"sqlite:///{folder / 'study.db'}", False)
    write_search(search)
    return search


def test_a_trial_without_a_log_has_failed_for_what_it_printed(search, monkeypatch, capsys):
    monkeypatch.setattr(searches.subprocess, "Popen", Refused)
    study = study_of(search)
    work(search._replace(trials=1), study)
    [trial] = study.get_trials()
    assert (trial.state.name, trial.user_attrs["why"]) == ("FAIL", "the line that says why")
    assert "bbbrun: error: the line that says why (trial 0" in capsys.readouterr().err


def test_a_finished_run_is_a_complete_trial_whatever_its_process_printed(search, monkeypatch):
    monkeypatch.setattr(searches.subprocess, "Popen", Complaining)
    study = study_of(search)
    work(search._replace(trials=1), study)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"valid_nll": 2.0, "test_rmse": 1.0}, ("valid_nll", 2.0)),
        ({"valid_nll": 2.0, "valid_error": 5.0}, ("valid_error", 5.0)),
        ({"cumulative_regret": 7.0}, ("cumulative_regret", 7.0)),
    ],
)
def test_an_objective_that_is_not_named_is_the_first_metric_of_validation_that_runs_have(
    search, monkeypatch, metrics, expected
):
    monkeypatch.setattr(Trained, "metrics", metrics)
    study = study_of(search)
    work(search._replace(objective=None, trials=1), study)
    [trial] = study.get_trials()
    assert (trial.user_attrs["objective"], trial.value) == expected


def test_what_is_composed_first_grows_with_the_options_and_not_with_the_values():
    _, space = space_of(["method=bbb,mle,dropout", "seed=range(0,200)", "optimizer.lr=log(1e-4,1e-2)"])
    assert list(examples(space)) == [
        {"method": "bbb", "seed": 0, "optimizer.lr": 1e-4},
        {"method": "mle", "seed": 199, "optimizer.lr": 1e-2},
        {"method": "dropout", "seed": 0, "optimizer.lr": 1e-4},
    ]


def test_two_workers_share_a_study_and_take_over_a_trial_whose_worker_has_gone(search):
    assert read_search(search.folder) == search
    study = study_of(search)
    # Asked for, and left: by a worker that was killed.
    left = study.ask(fixed_distributions=space_of(search.settings)[1])
    workers = [threading.Thread(target=work, args=(search, study_of(search))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = study.get_trials()
    assert len(trials) == 12
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert [trial.number for trial in trials] == list(range(12))
    assert trials[0].params == left.params
    assert len(Trained.commands) == 12
    jobs = {job.folder: job for job in read_sweep(search.folder).jobs}
    for trial in trials:
        assert trial.user_attrs["job"] == f"{trial.number:04d}"
        assert f"optimizer.lr={trial.params['optimizer.lr']}" in jobs[trial.user_attrs["job"]].words
        assert trial.value == pytest.approx(abs(math.log10(trial.params["optimizer.lr"]) + 3))
    best = best_of(study)
    assert best.value == min(trial.value for trial in trials)
    # A worker that comes late has nothing to do.
    work(search, study)
    assert len(Trained.commands) == 12


def test_a_failed_trial_is_told_and_the_study_goes_on(search, capfd):
    search = search._replace(settings=[*FAST, "optimizer.lr=1e-3", "seed=7,8"], trials=6)
    study = study_of(search)
    work(search, study)
    for trial in study.get_trials():
        failed = trial.params["seed"] == "7"
        assert trial.state.name == ("FAIL" if failed else "COMPLETE")
        assert not failed or trial.user_attrs["why"] == "training diverged"
    # The same settings are one run.
    assert len(read_sweep(search.folder).jobs) == len({trial.params["seed"] for trial in study.get_trials()})
    other = search._replace(objective="valid_nll", trials=20)
    with pytest.raises(UserError, match=r"must be valid_nll: the run in .* has valid_error, test_error"):
        work(other, study)


class Watched(Trained):
    """A run of three epochs, at which a worker looks after each; its validation error is the next of `errors`."""

    errors: ClassVar[list[int]] = []
    stopped: ClassVar[list[int]] = []

    def __init__(self, command, **_):
        words = dict(text.partition("=")[::2] for text in command if "=" in text)
        self.error = self.errors.pop(0)
        self.folder = Path(words["hydra.sweep.dir"]) / words["hydra.sweep.subdir"].strip("'")
        (self.folder / "metrics.csv").write_text("epoch,valid_error\n")
        self.epochs = 0

    def poll(self):
        if self.epochs == 3:
            metrics = {"valid_error": self.error}
            (self.folder / "summary.json").write_text(json.dumps({"metrics": metrics}))
            return 0
        self.epochs += 1
        with (self.folder / "metrics.csv").open("a") as file:
            file.write(f"{self.epochs},{self.error}\n")
        return None

    def terminate(self):
        self.stopped.append(self.epochs)

    def wait(self):
        return -15


def test_pruning_stops_a_trial_that_is_worse_than_most(search, monkeypatch, capfd):
    monkeypatch.setattr(searches.subprocess, "Popen", Watched)
    monkeypatch.setattr(Watched, "errors", [1, 2, 3, 4, 5, 9])
    monkeypatch.setattr(Watched, "stopped", [])
    monkeypatch.setattr(searches, "_ROUND", 0.001)
    search = search._replace(trials=6, prune=True)
    study = study_of(search)
    work(search, study)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert Watched.stopped == [1]
    assert study.get_trials()[-1].intermediate_values == {1: 9.0}
    assert "trial 5: stopped early" in capfd.readouterr().err
    assert best_of(study).value == 1


def test_the_report_shows_trials_and_optunas_plots(search, tmp_path):
    study = study_of(search)
    work(search, study)
    write_study_page(study, tmp_path / "report", ["best: it"], "valid_error")
    text = (tmp_path / "report" / "REPORT.md").read_text()
    assert "best: it" in text
    for name in ("history", "importance", "slices"):
        assert f"{name}/{name}.png" in text or name == "importance"
    assert (tmp_path / "report" / "history" / "history.svg").exists()
    assert (tmp_path / "report" / "trials" / "trials.csv").read_text().count("\n") == 13


def test_where_no_importance_can_be_told_an_earlier_one_goes_and_other_errors_are_told(search, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("all values are equal")

    study = study_of(search)
    work(search, study)
    plots, report = optuna.visualization.matplotlib, tmp_path / "report"
    write_study_page(study, report, ["best: it"], "valid_error")
    (report / "importance" / "importance.png").write_bytes(b"of an earlier time")
    monkeypatch.setattr(plots, "plot_param_importances", fail)
    write_study_page(study, report, ["best: it"], "valid_error")
    assert not list((report / "importance").iterdir())
    assert "importance.png" not in (report / "REPORT.md").read_text()
    monkeypatch.setattr(plots, "plot_optimization_history", fail)
    with pytest.raises(ValueError, match="all values are equal"):
        write_study_page(study, report, ["best: it"], "valid_error")


@pytest.mark.slow
def test_a_trial_of_replicas_is_judged_by_their_mean_and_fails_where_one_diverges(bbbrun, tmp_path):
    words = [*FAST, "optimizer=sgd", "train.batch_size=16,32", "--trials", "1"]
    result = bbbrun("search", *words, "replicas={optimizer.lr:[0.01,0.03]}")
    assert result.returncode == 0, result.stderr
    (best,) = tmp_path.rglob("best.json")
    errors = [json.loads(path.read_text())["metrics"]["valid_error"] for path in best.parent.rglob("summary.json")]
    assert len(set(errors)) == 2
    assert json.loads(best.read_text())["value"] == pytest.approx(sum(errors) / 2)
    result = bbbrun("search", *words, "replicas={optimizer.lr:[0.01,1e30]}")
    assert "1 of 2 replicas diverged (trial 0, " in result.stderr


@pytest.mark.slow
def test_a_killed_workers_trial_goes_on_in_its_folder(tmp_path):
    words = [*FAST[1:], "train.epochs=150", "optimizer.lr=log(1e-4,1e-2)", "--trials", "4"]
    command = [sys.executable, "-m", "bbbrun", "search", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as worker:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("0000/writer.json")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(worker.pid, signal.SIGKILL)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (best,) = tmp_path.rglob("best.json")
    about = json.loads(best.read_text())
    summary = json.loads((Path(about["folder"]) / "summary.json").read_text())
    assert summary["metrics"]["valid_error"] == about["value"]
    values = [json.loads(path.read_text())["metrics"]["valid_error"] for path in best.parent.glob("*/summary.json")]
    assert len(values) == 4
    assert about["value"] == min(values)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--config-dir", "hydra.searchpath"])
def test_an_experiment_of_the_users_own_is_searched_and_named_in_the_best_command(bbbrun, tmp_path, flag):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    own = "# @package _global_\ndefaults: [digits, _self_]\nname: mine\nnetwork:\n  hidden: [3]\n"
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(own)
    place = f"hydra.searchpath=['file://{tmp_path / 'own'}']"
    words = [word for word in FAST if not word.startswith("network")]
    flags = ["--config-dir", "own"] if flag == "--config-dir" else [place]
    result = bbbrun("search", *flags, "experiment=mine", *words, "seed=1,2", "--trials", "1")
    assert result.returncode == 0, result.stderr
    (best,) = tmp_path.rglob("best.json")
    command = shlex.split(json.loads(best.read_text())["command"])
    assert command[:2] == ["bbbrun", place]
    again = bbbrun(*command[1:], "hydra.run.dir=again")
    assert again.returncode == 0, again.stderr
    metrics = [json.loads(path.read_text())["metrics"] for path in tmp_path.rglob("summary.json")]
    assert metrics[0] == metrics[1]


OWN = "# @package _global_\ndefaults: [digits, _self_]\nname: mine\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("mine", "a: [", "mine.yaml is not YAML in line"),
        ("mine", OWN.replace("# @package _global_", ""), "mine.yaml is an experiment without the first line"),
        ("mnist", OWN, "mnist.yaml has the name of a configuration of bbbrun itself"),
    ],
)
def test_a_wrong_file_of_the_users_own_is_told_before_any_trial(bbbrun, tmp_path, name, content, expected):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / f"{name}.yaml").write_text(content)
    result = bbbrun("search", "--config-dir", "own", f"experiment={name}", "seed=1,2", "--trials", "1")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert expected in line
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config-dir", "none"], "--config-dir none: there is no such folder"),
        (["--config-dir", ".", "hydra.searchpath=[file:///tmp]"], "--config-dir and hydra.searchpath"),
        (["--config-dir", ".", "--resume", "folder"], "--resume continues with the settings of the search"),
    ],
)
def test_a_folder_of_configurations_that_cannot_be_meant_is_refused(bbbrun, tmp_path, words, expected):
    settings = [] if "--resume" in words else ["seed=1,2"]
    result = bbbrun("search", *settings, *words)
    assert result.returncode == 2
    assert expected in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
