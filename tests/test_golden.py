"""Numbers recorded in golden.json, so that a change which moves them unintentionally is noticed.

After an intended change `python tests/test_golden.py` records them anew, with BBBRUN_DATA set.
"""

import csv
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from forked import Forks

from bbbrun.runtime.noise import Stream, integers, permutation, signs, standard_normal, uniform

GOLDEN = Path(__file__).with_name("golden.json")

_OBJECTIVE = ["nll", "log_posterior", "log_prior", "complexity"]
_TRAINING = ["epoch", "step", "seconds", "lr", *_OBJECTIVE, "free_energy"]
_REWARDS = ["reward", "regret", "cumulative_regret", "cumulative_expected_regret", "eaten_edible", "eaten_poisonous"]
_SHARES = ["best_action_share", "top_action_share"]
_BANDIT = ["step", "seconds", *_REWARDS, *_SHARES, *_OBJECTIVE]
# The columns of metrics.csv, in order.
COLUMNS = {
    "digits": [
        *_TRAINING,
        *("valid_error", "test_error", "test_error_mean", "test_nll", "test_ece", "valid_error_mean", "valid_nll"),
    ],
    "regression": [*_TRAINING, "test_rmse", "test_nll", "coverage_50"],
    "wheel": _BANDIT,
    "bandit_cold": _BANDIT,
}

_SHORT = {
    "digits": "train.epochs=3 network.hidden=[16]",
    "regression": "train.epochs=4 train.evaluate_every=2",
    "wheel": "agent.steps=200 agent.updates=1 network.hidden=[16]",
    "bandit_cold": "agent.steps=200 agent.updates=1 network.hidden=[16]",
}
_STEPS = "optimizer.schedule=step optimizer.decay_epochs=1"
_FIRST = "agent.cold_start=true method.rho_init=[-5,-5] optimizer.lr=3e-4"  # the wheel's earlier settings
# experiment -> words
CASES = {
    "digits": [
        "",
        "method=mle",
        "method=dropout",
        "method=mc_dropout",
        "method.estimator=local",
        "method.estimator=flipout",
        "method.minibatch_weights=uniform",
        "prior=gaussian",
        "prior=gaussian method.estimator=flipout method.train_samples=2 method.temperature=0.5 seed=1",
        f"optimizer=sgd optimizer.momentum=0.9 optimizer.lr=1e-4 {_STEPS} method.rho_init=[-6,-3] network.init=uniform "
        "network.init_scale=0.1",
    ],
    "regression": ["", "method=mle"],
    "wheel": ["", _FIRST, "method=mle agent.epsilon=0.1"],
    "bandit_cold": ["", "method=mle agent.epsilon=0.1"],
}
NAMES = [(experiment, words) for experiment, several in CASES.items() for words in several]

# Percent: an example or two may fall on the other side of an edge on another processor.
_EXAMPLES = {
    name: 2 * 100 / (200 if name.startswith("valid") else 360)
    for name in COLUMNS["digits"]
    if name.endswith(("error", "error_mean", "ece"))
}


def command(experiment: str, words: str) -> list[str]:
    """The words after `bbbrun` of a short run."""
    return [f"experiment={experiment}", *_SHORT[experiment].split(), *words.split(), "compile=false", "threads=1"]


def table(folder: Path) -> tuple[list[str], dict[str, list[float | None]]]:
    """The header of the only run's metrics.csv in or below `folder`, and its columns without `seconds`."""
    (path,) = folder.rglob("metrics.csv")
    with path.open() as file:
        header, *rows = csv.reader(file)
    columns = zip(*rows, strict=True)
    values = {
        name: [float(value) if value else None for value in column]
        for name, column in zip(header, columns, strict=True)
    }
    del values["seconds"]
    return header, values


def noise() -> dict[str, list[float]]:
    """Some values of each function of the noise."""
    several = torch.tensor([[0], [9]], dtype=torch.int32)
    values = {
        "standard_normal": standard_normal(1, 2, Stream.TRAIN, 7),
        "standard_normal of a large step": standard_normal(2**31 - 1, 123456, Stream.EVALUATE + 3, 5),
        "uniform": uniform(1, 2, Stream.DROPOUT, 7),
        "signs": signs(1, 2, Stream.SIGN, [70])[0],
        "integers": integers(1, 2, Stream.VISITS, 7, 8124),
        "integers of several steps": integers(1, several, Stream.SHUFFLE, 3, several + 100).flatten(),
        "permutation": permutation(1, 2, 12),
    }
    return {name: value.tolist() for name, value in values.items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, dict[str, list[float | None]]]]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(("experiment", "words"), NAMES, ids=[" ".join(name).strip() for name in NAMES])
def test_a_short_run_gives_the_numbers_it_gave(bbbrun, tmp_path, golden, experiment, words, request):
    environment = {}
    if experiment == "bandit_cold":
        environment["BBBRUN_DATA"] = str(request.getfixturevalue("data_root"))
    result = bbbrun(*command(experiment, words), **environment)
    assert result.returncode == 0, result.stderr
    header, columns = table(tmp_path)
    assert header == COLUMNS[experiment]
    expected = golden[experiment][words]
    assert list(columns) == list(expected)
    for name, values in columns.items():
        if None in expected[name]:
            assert values == expected[name], name
            continue
        # A difference of two log densities is as exact as they are.
        scale = max(map(abs, expected["log_posterior"])) if name == "complexity" else 0.0
        atol = _EXAMPLES.get(name, 1e-6 + 1e-5 * scale)
        assert values == pytest.approx(expected[name], rel=1e-5, abs=atol), name


def test_the_noise_has_the_values_it_had(golden):
    for name, values in noise().items():
        assert values == pytest.approx(golden["noise"]["values"][name], rel=1e-6, abs=1e-6), name


def test_the_streams_lie_where_they_lay(golden):
    assert {stream.name: int(stream) for stream in Stream} == golden["noise"]["streams"]


def _write() -> None:
    numbers = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    numbers["noise"] = {"streams": {stream.name: int(stream) for stream in Stream}, "values": noise()}
    forks = Forks(Path(tempfile.mkdtemp()))
    for experiment, several in CASES.items():
        if experiment == "bandit_cold" and "BBBRUN_DATA" not in os.environ:
            print("BBBRUN_DATA is not set: the numbers of experiment=bandit_cold stay as they are", file=sys.stderr)
            continue
        numbers[experiment] = {}
        for words in several:
            with tempfile.TemporaryDirectory() as folder:
                done = forks.run(command(experiment, words), Path(folder), os.environ | {"CUDA_VISIBLE_DEVICES": ""})
                assert done.returncode == 0, done.stderr
                numbers[experiment][words] = table(Path(folder))[1]
    forks.close()
    GOLDEN.write_text(_text(numbers) + "\n")


def _text(value: object, depth: int = 0) -> str:
    """JSON with a line for each list, of numbers to 8 digits: a change of one column then shows as that."""
    if isinstance(value, dict):
        lines = [f"{' ' * (depth + 1)}{json.dumps(key)}: {_text(part, depth + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    return json.dumps(json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.8g}")))


if __name__ == "__main__":
    _write()
