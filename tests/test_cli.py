"""The real command line in a fresh folder: the files it writes, and its errors on wrong input."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import types
import warnings
from importlib import metadata, resources
from pathlib import Path

import pytest

import bbbrun as api
from bbbrun import cli
from bbbrun.data.mnist import load_idx
from bbbrun.errors import UserError
from bbbrun.runtime import stops
from bbbrun.schema.config import OPTIONS
from bbbrun.verbs import VERBS

FAST = ("train.epochs=2", "network.hidden=[16]", "threads=1", "compile=false")


def only_run(folder: Path) -> Path:
    (run,) = folder.glob("results/runs/*/*/")
    return run


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def untimed(run: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(run)]


def test_a_run_leaves_what_it_promises(bbbrun, tmp_path):
    result = bbbrun(*FAST)
    assert result.returncode == 0, result.stderr
    run = only_run(tmp_path)
    assert run.parent == tmp_path / "results" / "runs" / "digits"
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert files == [
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "checkpoint.pt",
        "figures/learning_curve.png",
        "figures/learning_curve.svg",
        "metrics.csv",
        "predictions.csv",
        "summary.json",
    ]
    table = rows(run)
    assert ",".join(list(table[0])[:14]) == (
        "epoch,step,seconds,lr,nll,log_posterior,log_prior,complexity,free_energy,valid_error,"
        "test_error,test_error_mean,test_nll,test_ece"
    )
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert [row["step"] for row in table] == ["10", "20"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metrics"]["test_error"] == float(table[-1]["test_error"])
    assert summary["command"] == shlex.join(["bbbrun", *FAST])
    assert (summary["seed"], summary["threads"]) == (0, 1)
    assert summary["steps_per_second"] > 0
    assert "run folder" in result.stderr
    assert "at chance" not in result.stderr
    again = bbbrun(*FAST, f"resume={run}")
    assert (again.returncode, again.stderr.strip()) == (0, f"already finished: {run}")


def sweep(bbbrun, tmp_path, *words: str) -> list[list[dict[str, str]]]:
    """The tables of the jobs of a sweep, in order."""
    folder = tmp_path / f"sweep_{len(list(tmp_path.glob('sweep_*')))}"
    result = bbbrun("-m", *words, f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra.job.num}")
    assert result.returncode == 0, result.stderr
    return [untimed(path.parent) for path in sorted(folder.glob("*/metrics.csv"))]


def test_the_objective_adds_up_in_the_csv_under_both_weightings(bbbrun, tmp_path):
    temperature, examples = 0.5, 1237
    words = ("method.minibatch_weights=uniform,paper", f"method.temperature={temperature}")
    tables = sweep(bbbrun, tmp_path, *FAST, *words)
    assert len(tables) == 2
    assert tables[0] != tables[1]
    for row in [*tables[0], *tables[1]]:
        value = {key: float(number) for key, number in row.items() if number}
        assert value["complexity"] == value["log_posterior"] - value["log_prior"]
        expected = temperature * value["complexity"] + examples * value["nll"]
        assert value["free_energy"] == pytest.approx(expected, rel=1e-12)
        # 1,210 weights under rho = -5: log q is about 1210 * (5 - 1.4).
        assert 3000 < value["log_posterior"] < 6000
        assert 0 < value["nll"] < 10


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["scale_mixture", "gaussian"])
def test_every_estimator_trains_towards_the_same(bbbrun, tmp_path, prior):
    tables = sweep(bbbrun, tmp_path, *FAST, f"prior={prior}", "method.estimator=weights,local,flipout")
    last = [[float(table[-1][column]) for column in ("nll", "complexity")] for table in tables]
    assert len({tuple(row) for row in last}) == 3
    for row in last[1:]:
        assert row == pytest.approx(last[0], rel=0.02)


LOGGING = """
import logging
from bbbrun.cli import main
from bbbrun.tasks import kinds

original = kinds.classification_task

def logging_task(*words):
    logging.getLogger("some.library").info("of itself")
    logging.getLogger("some.library").warning("to be seen")
    return original(*words)

kinds.classification_task = logging_task
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", ["WARNING", "INFO"])
def test_what_libraries_log_of_themselves_is_not_for_the_user(tmp_path, level):
    # The default is the level WARNING of Hydra's own key; another shows that the key is what decides.
    words = [*FAST] if level == "WARNING" else [*FAST, f"hydra.job_logging.root.level={level}"]
    command = [sys.executable, "-c", LOGGING, *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    shown = result.stdout + result.stderr
    assert "to be seen" in shown
    assert ("of itself" in shown) == (level == "INFO")


@pytest.mark.parametrize("level", ["WARNING", "INFO"])
def test_what_hydra_logs_of_a_sweep_is_not_for_the_user(bbbrun, level):
    words = [] if level == "WARNING" else [f"hydra.hydra_logging.root.level={level}"]
    result = bbbrun("-m", *FAST, "seed=3", *words)
    assert result.returncode == 0, result.stderr
    assert ("[HYDRA]" in result.stdout + result.stderr) == (level == "INFO")


def test_the_last_evaluation_takes_its_own_number_of_draws(bbbrun, tmp_path):
    words = [*FAST, "train.epochs=2", "method.rho_init=[0,0]"]
    few, mixed, many, _ = sweep(bbbrun, tmp_path, *words, "method.test_samples=1,7", "method.final_samples=null,7")
    assert mixed == [few[0], many[1]]
    assert few != many


def test_a_complexity_that_leaves_only_chance_is_told_once(bbbrun, tmp_path):
    warning = "the error stands at chance, as where the complexity outweighs the likelihood: lower method.temperature"
    result = bbbrun(*FAST, "train.epochs=12", "method.temperature=1000")
    assert result.returncode == 0
    assert result.stderr.count(warning) == 1
    assert "after epoch 10 " in result.stderr


def test_baselines_leave_empty_what_they_do_not_have(bbbrun, tmp_path):
    for table in sweep(bbbrun, tmp_path, *FAST, "method=mle,dropout"):
        for row in table:
            empty = {key for key, value in row.items() if value == ""}
            objective = {"log_posterior", "log_prior", "complexity", "free_energy"}
            assert empty == objective | {"test_error_mean", "valid_error_mean"}


def test_the_same_seed_gives_the_same_csv_and_another_another(bbbrun, tmp_path):
    one, other = sweep(bbbrun, tmp_path, *FAST, "seed=1,2")
    assert bbbrun(*FAST, "seed=1").returncode == 0
    assert untimed(only_run(tmp_path)) == one
    assert one != other


def test_one_and_four_threads_agree(bbbrun, tmp_path):
    tables = sweep(bbbrun, tmp_path, "train.epochs=3", "threads=1,4")
    for one, four in zip(*tables, strict=True):
        for key in one:
            assert float(one[key]) == pytest.approx(float(four[key]), rel=1e-3, abs=1e-3), key


@pytest.mark.slow
def test_the_runs_of_a_sweep_side_by_side_are_those_one_after_the_other(bbbrun, tmp_path):
    words = (*FAST, "seed=0,1", "method=mle")
    beside = sweep(bbbrun, tmp_path, *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert len(beside) == 2
    assert beside == sweep(bbbrun, tmp_path, *words)


def test_a_failing_job_of_a_sweep_does_not_stop_the_others(bbbrun, tmp_path):
    result = bbbrun("-m", *FAST, "dataset.valid_size=5000,100")
    assert result.returncode == 1
    assert "bbbrun: error: dataset.valid_size must be below" in result.stderr
    assert "Traceback" not in result.stderr
    (summary,) = tmp_path.rglob("summary.json")
    assert summary.parent.name == "0001"


def test_help_and_configuration_load_no_torch(bbbrun, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for words in (("--help",), ("--cfg", "job"), ("--cfg", "job", "experiment=mnist"), ("seed=-1",)):
        result = bbbrun(*words, PYTHONPATH=str(tmp_path))
        assert "torch was imported" not in result.stderr
    shown = bbbrun("--help", "experiment=mnist", "method=dropout").stdout
    assert f"method: {', '.join(sorted(OPTIONS['method']))}\n" in shown
    folder = resources.files("bbbrun.configs") / "experiment"
    experiments = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())
    assert f"experiment: {', '.join(experiments)}\n" in shown
    assert "  input_rate: 0.2\n" in shown
    wrong = bbbrun("--help", "sed=1")
    assert (wrong.returncode, wrong.stdout, len(wrong.stderr.splitlines())) == (1, "", 1)


def test_help_lists_the_verbs_first_and_version_is_ours(bbbrun):
    lines = [line.strip() for line in bbbrun("--help").stdout.splitlines()]
    places = [next(n for n, line in enumerate(lines) if line == f"bbbrun {verb:9}  {VERBS[verb]}") for verb in VERBS]
    assert places == sorted(places)
    assert places[-1] < lines.index("bbbrun experiment=mnist                 the paper's best cell, 600 epochs")
    assert bbbrun("-h").stdout == bbbrun("--help").stdout
    shown = bbbrun("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"bbbrun {metadata.version('bbbrun')}\n", "")


@pytest.mark.parametrize("verb", ["reproduce", "bench"])
def test_a_verbs_help_loads_no_torch(bbbrun, tmp_path, verb):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for words in ((verb, "--help"), ("--help", verb)):
        result = bbbrun(*words, PYTHONPATH=str(tmp_path))
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"usage: bbbrun {verb} ")


def verb(monkeypatch, capfd, body) -> tuple[int, str]:
    """Call a verb `mine` whose main is `body` through the command line; its exit code, and what it prints as errors."""
    module = types.ModuleType("bbbrun.verbs.mine")
    module.main = body
    monkeypatch.setitem(sys.modules, "bbbrun.verbs.mine", module)
    monkeypatch.setitem(VERBS, "mine", "of this test")
    monkeypatch.setattr(sys, "argv", ["bbbrun", "mine", "word", "--flag", "key=value"])
    # What the command line sets for its whole process is not to outlive the test.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(stops, "install", lambda: None)
    monkeypatch.setattr(stops._Stop, "shown", False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, capfd.readouterr().err


def test_a_verb_gets_the_words_after_it(monkeypatch, capfd):
    calls = []
    assert verb(monkeypatch, capfd, calls.append) == (0, "")
    assert calls == [["word", "--flag", "key=value"]]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("one\nline"), (1, "bbbrun mine: error: one line\n")),
        (FileNotFoundError(2, "No such file", "x.csv"), (1, "bbbrun mine: error: x.csv: No such file\n")),
        (KeyboardInterrupt(), (130, "interrupted; give the same command again\n")),
        (SystemExit(3), (3, "")),
    ],
)
def test_a_verbs_error_is_one_line(monkeypatch, capfd, error, expected):
    def fail(words):
        raise error

    assert verb(monkeypatch, capfd, fail) == expected


def test_flags_may_stand_between_settings(bbbrun, tmp_path):
    settings = ("hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}")
    result = bbbrun(*FAST, "train.epochs=1", "-m", "seed=0,1", *settings)
    assert result.returncode == 0, result.stderr
    summaries = [json.loads((tmp_path / "sweep" / job / "summary.json").read_text()) for job in ("0", "1")]
    assert [summary["seed"] for summary in summaries] == [0, 1]
    assert bbbrun("seed=3", "--cfg", "job", "threads=2").stdout == bbbrun("--cfg", "job", "seed=3", "threads=2").stdout


def completed(line: str, tmp_path: Path) -> list[str]:
    """What a bash that has installed our completion offers for a line, with the cursor at its end."""
    name = tmp_path / "bin" / "bbbrun"
    name.parent.mkdir(exist_ok=True)
    name.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bbbrun "$@"\n')
    name.chmod(0o755)
    script = (
        'eval "$(bbbrun -sc install=bash)"; complete -p bbbrun >/dev/null || exit 3; COMP_LINE=$1; COMP_POINT=${#1}; '
        'read -ra typed <<<"$1"; COMP_CWORD=$(( ${#typed[@]} - 1 )); [[ $1 == *" " ]] && (( COMP_CWORD += 1 )); '
        'hydra_bash_completion; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{name.parent}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", script, "bash", line]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bbbrun re", ["report", "reproduce", "replicas=", "resume="]),
        ("bbbrun ex", ["export", "experiment="]),
        ("bbbrun seed=1 re", ["replicas=", "resume="]),
        ("bbbrun experiment=mnist -m prior=", sorted(f"prior={name}" for name in OPTIONS["prior"])),
        ("bbbrun 'network.hidden=[3,3]' prior=gaussian prior.", ["prior.name=", "prior.sigma="]),
        ("bbbrun --config-dir own experiment=mi", ["experiment=mine"]),
        ("bbbrun nonsense=1 --wrong pri", []),
        ("bbbrun bench --var", []),
    ],
)
def test_the_shell_completes(tmp_path, line, expected):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    assert completed(line, tmp_path) == expected


def test_all_that_the_shell_offers_first_can_be_said(tmp_path):
    offered = set(completed("bbbrun ", tmp_path))
    assert offered >= {*VERBS, "experiment=", "method=", "prior.", "seed=", "train."}
    assert not any(word.startswith(("schema", "experiment_for")) for word in offered)


@pytest.mark.parametrize(("script", "verb"), [("reproduce", "reproduce"), ("bench", "bench"), ("run", "bench")])
def test_the_scripts_call_the_verbs(tmp_path, script, verb):
    root = Path(__file__).parent.parent
    for name in ("setup", "requirements.txt", script):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(root / "scripts" / name, tmp_path / "scripts")
    shutil.copy(root / "pyproject.toml", tmp_path)
    # An environment that is ready, in which `bbbrun` shows its words.
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stand_in = tmp_path / ".venv" / "bin" / "bbbrun"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    sums = subprocess.run("cat scripts/requirements.txt pyproject.toml | cksum", shell=True, cwd=tmp_path, stdout=-1)
    (tmp_path / ".venv" / ".ready").write_bytes(sums.stdout)
    words = ["bench"] if script == "run" else []
    shown = subprocess.run([tmp_path / "scripts" / script, *words, "--only", "a b"], capture_output=True, text=True)
    assert (shown.stdout, shown.stderr) == (f"{verb} --only a b\n", "")


NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")

# (words, what the one line must name). Words split at spaces; a file `occupied` stands in the folder.
WRONG = [
    ("sede=1", "unknown key 'sede': bbbrun takes agent, compile, dataset, device, experiment,"),
    ("+typo=1", "unknown key 'typo': bbbrun takes"),
    ("+network.typo=1", "unknown key 'network.typo': the network chosen takes hidden, init, init_scale"),
    ("network.hiden=[3]", "unknown key 'network.hiden': the network chosen takes hidden, init, init_scale"),
    ("method=mle method.temperature=1", "unknown key 'method.temperature'"),
    ("~seed", "seed"),
    ("seed", f"unknown verb 'seed': choose from {', '.join(VERBS)}, or give settings as key=value"),
    ("threads=1 seed", "'seed' is not a setting: write key=value"),
    ("threads=1 -m report", "'report' is not a setting: a verb comes first"),
    ("threads=1 +typo", "missing EQUAL"),
    ("--help seed", "'seed' is not a setting: write key=value"),
    ("threads=1 --nonsense", "unrecognized arguments: --nonsense; flags are listed by bbbrun --hydra-help"),
    ("--cfg nonsense", "invalid choice: 'nonsense'"),
    ("seed=", "seed"),
    ("seed=???", "missing mandatory value: seed"),
    ("seed=one", "seed=one: Value 'one' of type 'str' could not be converted to Integer"),
    ("seed=-1", "seed must be from 0 to 2147483647, not -1"),
    ("seed=2147483648", "seed must be from 0 to 2147483647"),
    ("threads=0", "threads must be a whole number from 1 to 4096, not 0"),
    ("name=a/b", "name must be a plain folder name"),
    ("compile=maybe", "compile must be auto, true or false, not maybe"),
    ("device=gpu", "device must be auto, cpu, cuda, or cuda:N with the number of a GPU, not 'gpu'"),
    ("device=cuda:x", "device must be auto, cpu, cuda, or cuda:N with the number of a GPU, not 'cuda:x'"),
    ("device=cuda:1", "device=cuda:1: this machine has no CUDA device"),
    ("resume=", "resume must be the folder of an interrupted run, or null, not an empty word"),
    ("resume=~/x", "resume must be a folder, not ~/x: no shell expands ~ there, write $HOME"),
    ("dataset.path=~/x.csv", "dataset.path must be a file, not ~/x.csv: no shell expands ~ there, write $HOME"),
    (
        "experiment=table dataset.path=a=b.csv",
        "'dataset.path=a=b.csv' is no setting that can be read (mismatched input '=' expecting <EOF>); "
        "a text with such signs stands in quotes, \"dataset.path='a=b.csv'\"",
    ),
    ("network.hidden=[4,4", "'network.hidden=[4,4' is no setting that can be read (no viable alternative"),
    ("experiment=table dataset.target=größe", "stands in quotes, \"dataset.target='größe'\""),
    ("experiment=table dataset.ignore=a", "str is no list, which is written [a,b]. (key dataset.ignore)"),
    ("hydra.run.dir=", "hydra.run.dir must be a folder, not an empty word"),
    ("hydra.run.dir=''", "hydra.run.dir must be a folder, not an empty word"),
    ("-m seed=1,2 hydra.sweep.dir=", "hydra.sweep.dir must be a folder, not an empty word"),
    ("hydra.run.dir=~/x", "hydra.run.dir must be a folder, not ~/x: no shell expands ~"),
    ("hydra.output_subdir=.hydra", "hydra.output_subdir must be null, not .hydra"),
    (f"seed={2**63}", f"seed must be from 0 to 2147483647, not {2**63}"),
    ("replicas=1000000000000", "replicas must be a whole number from 1 to 1000, not 1000000000000"),
    ("experiment=wheel agent.steps=100000000", "agent.updates must be at most 21 with agent.steps=100000000"),
    (
        "experiment=wheel agent.updates=2 agent.steps=100 train.batch_size=99999999",
        "train.batch_size must be a whole number from 1 to 50000000, not 99999999, which would need at least 1 GiB",
    ),
    ("precision=half", "expected one of [float32, tf32, bfloat16]"),
    (
        "precision=tf32",
        "precision=tf32: TensorFloat-32 is for matrix products on CUDA, and these would be on the CPU: "
        "say precision=float32",
    ),
    ("experiment=cifar", "Could not find 'experiment/cifar'"),
    ("method=mcmc", "Available options in 'method': " + " ".join(sorted(OPTIONS["method"]))),
    ("prior=null", "Config group override must be a string"),
    ("network.hidden=5", "network.hidden=5"),
    ("network.hidden=[10,0]", "network.hidden must be a list of whole numbers of at least 1"),
    ("network.hidden=[10,-3]", "network.hidden must be a list of whole numbers of at least 1"),
    ("network.init=xavier", "expected one of [he, uniform]"),
    ("network.init_scale=0", "network.init_scale must be a positive finite number, not 0.0"),
    ("train.epochs=0", "train.epochs must be a whole number of at least 1, not 0"),
    ("train.epochs=2.5", "train.epochs=2.5"),
    ("train.batch_size=-1", "train.batch_size must be a whole number of at least 1, not -1"),
    ("train.evaluate_every=0", "train.evaluate_every must be"),
    ("train.checkpoint_seconds=-1", "train.checkpoint_seconds must be 0 or more"),
    ("dataset.valid_size=-1", "dataset.valid_size must be a whole number of at least 0, not -1"),
    ("dataset.valid_size=1437", "dataset.valid_size must be below the 1437 training images"),
    ("dataset.pixel_divisor=0", "dataset.pixel_divisor must be a positive finite number"),
    ("method.train_samples=0", "method.train_samples must be"),
    ("method.test_samples=0", "method.test_samples must be"),
    ("method.final_samples=0", "method.final_samples must be"),
    ("experiment=wheel method.final_samples=5", "method.final_samples must be null where an agent acts, not 5"),
    ("method.temperature=0", "method.temperature must be a positive finite number"),
    ("method.estimator=best", "expected one of [weights, local, flipout]"),
    ("method.minibatch_weights=geometric", "expected one of [uniform, paper]"),
    ("method.rho_init=[-1,-2]", "method.rho_init must be [lowest, highest]"),
    ("method.rho_init=[-90,0]", "method.rho_init must be [lowest, highest]"),
    ("method=dropout method.hidden_rate=1", "method.hidden_rate must be at least 0 and below 1, not 1.0"),
    ("method=mc_dropout method.test_samples=0", "method.test_samples must be a whole number of at least 1, not 0"),
    ("method=mc_dropout method.input_rate=1", "method.input_rate must be at least 0 and below 1, not 1.0"),
    ("method=mle prior=gaussian", "prior=gaussian has no effect with method=mle"),
    ("method=dropout prior=scale_mixture", "prior=scale_mixture has no effect with method=dropout"),
    ("prior=none", "prior must be " + " or ".join(name for name in OPTIONS["prior"] if name != "none")),
    ("prior.pi=1.5", "prior.pi must be from 1e-6 to 1 - 1e-6, not 1.5"),
    ("prior.sigma1=nan", "prior.sigma1 must be from 1e-15 to 1e15, not nan"),
    ("prior.sigma2=2", "prior.sigma1 must be above prior.sigma2 = 2.0, not 1.0"),
    ("prior=gaussian prior.sigma=-1", "prior.sigma must be from 1e-15 to 1e15, not -1.0"),
    ("optimizer.lr=0", "optimizer.lr must be a positive finite number, not 0.0"),
    ("optimizer.schedule=linear", "expected one of [constant, step, inverse, cosine]"),
    ("optimizer.beta1=1", "optimizer.beta1 must be at least 0 and below 1, not 1.0"),
    ("optimizer=sgd optimizer.momentum=1", "optimizer.momentum must be at least 0 and below 1"),
    ("resume=nowhere", "nowhere is not the folder of a run"),
    ("resume=occupied", "occupied is not the folder of a run"),
    ("hydra.run.dir=occupied/run", "occupied/run: Not a directory"),
    ("experiment=mnist dataset.root=nowhere", "dataset.root: there is no folder nowhere"),
    (
        "experiment=mnist dataset.root=.",
        "train-images-idx3-ubyte.gz is missing, and nothing is downloaded into a",
    ),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_gets_one_line(bbbrun, tmp_path, words, expected):
    (tmp_path / "occupied").write_text("")
    result = bbbrun(*words.split(), **NO_NETWORK)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bbbrun: error: ")
    assert expected in line
    assert ("in quotes" in line) == ("in quotes" in expected)
    assert not list(tmp_path.glob("**/.hydra")), "a folder was left behind"
    assert (tmp_path / "occupied").exists()


def test_a_refused_run_takes_nothing_of_the_users_away(bbbrun, tmp_path):
    (tmp_path / "kept").write_text("")
    assert bbbrun("hydra.run.dir=.", "seed=-1").returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_refused_run_leaves_no_folder(bbbrun, tmp_path):
    assert bbbrun("seed=-1").returncode == 1
    assert not list(tmp_path.iterdir())
    (tmp_path / "results" / "mine").mkdir(parents=True)
    assert bbbrun("seed=-1").returncode == 1
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["mine"]


def test_a_sweep_that_does_not_compose_leaves_no_folder(bbbrun, tmp_path):
    result = bbbrun("-m", "experiment=digits,nonsense")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "Could not find 'experiment/nonsense'" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_a_network_beyond_memory_is_one_line(tmp_path):
    # 2 GiB more than it takes to start, where the weights alone are 6.
    limited = """if True:
        import re, resource, torch
        import bbbrun.runner
        start = 1024 * int(re.search("VmSize: *(.*) kB", open("/proc/self/status").read())[1])
        resource.setrlimit(resource.RLIMIT_AS, (start + (2 << 30), resource.RLIM_INFINITY))
        from bbbrun.cli import main
        main()"""
    words = ["network.hidden=[40000,40000]", *FAST[2:]]
    result = subprocess.run([sys.executable, "-c", limited, *words], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "out of memory: make network.hidden" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("where", ["bbbrun.runner.prepare", "bbbrun.runner.RunFolder"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["experiment=regression", "dataset.grid_points=4000"],
            "network.hidden ([50, 50]), train.batch_size (1000), dataset.train_points (12000), dataset.test_points "
            "(1000) or dataset.grid_points (4000) smaller",
        ),
        (["experiment=wheel", "agent.steps=70"], "agent.steps (70), agent.buffer_size (4096) or agent.updates (64)"),
        ([], "network.hidden ([100, 100]) or train.batch_size (128) smaller"),
        (["method=ensemble", "method.members=7"], "method.members (7) or train.batch_size (128) smaller"),
    ],
)
def test_memory_that_ends_anywhere_names_the_keys(monkeypatch, tmp_path, where, error, words, expected):
    def fail(*_):
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(UserError) as refusal:
        api.run(api.compose(*words, "device=cpu"), tmp_path / "run")
    assert str(refusal.value).startswith("out of memory: make network.hidden")
    assert expected in str(refusal.value)


def test_epochs_whose_steps_the_noise_cannot_count_are_refused(tmp_path):
    words = ["train.epochs=2147483647", "device=cpu", "threads=1"]
    with pytest.raises(UserError, match=r"train\.epochs must be at most 214748364, as an epoch has 10 steps"):
        api.run(api.compose(*words), tmp_path / "run")


def test_an_empty_record_cannot_be_read(bbbrun, tmp_path):
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    for name, content in (("config.yaml", ""), ("overrides.yaml", "[]")):
        (tmp_path / "run" / ".hydra" / name).write_text(content)
    result = bbbrun("resume=run")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "the record in" in result.stderr
    assert "cannot be read" in result.stderr


def test_the_folder_after_by_is_not_a_key(bbbrun, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "more").mkdir()
    messages = [
        bbbrun("report", *words).stderr
        for words in (["runs", "more", "--by", "seed"], ["--by", "seed", "runs", "more"])
    ]
    assert messages[0] == messages[1]
    assert "usage" not in messages[0]
    for words, expected in ((["--by", "seed"], "name the folders"), (["--by", "runs"], "--by takes keys")):
        result = bbbrun("report", *words)
        assert result.returncode == 2
        assert expected in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_locale_without_letters_reads_what_another_wrote(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = "josé"
    for words, environment in (([*FAST, f"hydra.run.dir='{folder}'"], {}), (["report", folder, "--by", "seed"], plain)):
        result = subprocess.run(
            [sys.executable, "-m", "bbbrun", *words], cwd=tmp_path, env=os.environ | environment, capture_output=True
        )
        assert result.returncode == 0, result.stderr
    (table,) = (tmp_path / "results" / "report").rglob("by.md")
    assert b"seed" in table.read_bytes()


def test_no_cuda_where_there_is_none(bbbrun):
    result = bbbrun("device=cuda")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "device=cuda: this machine has no CUDA device" in result.stderr


def test_results_folder_that_cannot_be_written(bbbrun, tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    result = bbbrun(*FAST)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "results" in result.stderr


@pytest.mark.parametrize("words", ["seed=-1", "check nowhere", "report nowhere"])
def test_a_full_traceback_on_request(bbbrun, words):
    result = bbbrun(*words.split(), HYDRA_FULL_ERROR="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    "name", ["metrics.csv", "predictions.csv", "inputs.json", "writer.json", "figures/learning_curve.png", "error.txt"]
)
def test_a_new_run_replaces_no_file_of_the_users(bbbrun, tmp_path, name):
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    result = bbbrun(*FAST, "hydra.run.dir=mine")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"mine holds {name.partition('/')[0]}, where a run writes: move it, or name another folder" in line
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


def test_an_error_file_to_which_a_shell_writes_is_not_taken(bbbrun, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "error.txt").touch()
    result = bbbrun(*FAST, "hydra.run.dir=mine")
    assert (result.returncode, "holds error.txt, where a run writes" in result.stderr) == (1, True)
    assert (tmp_path / "mine" / "error.txt").exists()


def test_training_that_diverges_says_so_and_is_waited_for_no_longer(bbbrun, tmp_path):
    words = (*FAST, "method=mle", "optimizer.lr=1e20")
    result = bbbrun(*words, "hydra.run.dir=lost")
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1].removeprefix("bbbrun: error: ")
    assert line.startswith("training diverged")
    assert "Traceback" not in result.stderr
    assert (tmp_path / "lost" / "error.txt").read_text() == f"{line}\n"
    watched = bbbrun("status", "lost", "--watch")
    assert (watched.returncode, "failed" in watched.stdout, line in watched.stdout) == (0, True, True)
    # The error of an earlier call goes once training goes on.
    (tmp_path / "lost" / "error.txt").write_text("old\n")
    assert bbbrun(*words, "resume=lost").returncode == 1
    assert (tmp_path / "lost" / "error.txt").read_text() == f"{line}\n"


def test_corrupt_and_truncated_mnist(bbbrun, data_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_root / "MNIST" / "raw", raw)
    file = raw / "t10k-images-idx3-ubyte.gz"
    content = file.read_bytes()
    for wrong in (content[:-100], b""):
        file.write_bytes(wrong)
        with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is not the published file of this name"):
            load_idx("mnist", str(tmp_path))
    file.write_bytes(content[:5000] + b"x" + content[5001:])
    result = bbbrun("experiment=mnist", "dataset.root=.", **NO_NETWORK)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "t10k-images-idx3-ubyte.gz is not the published file of this name" in line
    assert "delete" not in line
    assert "name another folder" in line


@pytest.mark.slow
def test_without_a_compiler_there_is_one_warning_and_the_same_training(bbbrun, tmp_path):
    words = [
        "-m",
        *FAST[:-1],
        "compile=true,false",
        "hydra.sweep.dir=sweep",
        "hydra.sweep.subdir=${hydra.job.num}",
    ]
    result = bbbrun(*words, PATH="/nonexistent", CXX="nothing")
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "no compiler found" in warnings[0]
    assert untimed(tmp_path / "sweep" / "0") == untimed(tmp_path / "sweep" / "1")
