"""Replicas: each ends with the result that it would have alone, whatever the others are."""

import json
import shlex
import shutil

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.networks import mlp
from bbbrun.data.images import Split
from bbbrun.errors import UserError
from bbbrun.runs.standing import Standing, standing
from bbbrun.schema.config import composed, plain
from bbbrun.schema.replicas import replicas_of, require_replicas
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Trainer

CPU = torch.device("cpu")
SMALL = ("network.hidden=[6]", "train.batch_size=8", "train.epochs=3", "optimizer.lr=0.01")


def data(seed: int) -> Split:
    """Points of four classes: 21 fill two minibatches of 8 and a part of a third."""
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.rand(21, 5, generator=generator), torch.randint(4, (21,), generator=generator))


def problem(split: Split) -> Problem:
    return Problem(*split, mlp(5, [6], 4), categorical)


def trained(configs, splits, compile_it="false", device=CPU, epochs=range(3), saved=None) -> Trainer:
    problems = [problem(split.to(device)) for split in splits]
    for config in configs:
        config.compile = compile_it
    trainer = Trainer.of(configs, problems, device, 3)
    if saved:
        trainer.load(saved)
    for epoch in epochs:
        trainer.begin_epoch(epoch)
        trainer.steps(trainer.minibatches)
    return trainer


def asked_for(*words: str):
    config = composed([*SMALL, *words])
    return [OmegaConf.to_object(replica.composed) for replica in replicas_of(config, plain(config)["replicas"])]


def assert_each_as_alone(together: Trainer, configs, splits) -> None:
    ends = []
    for number, (config, split) in enumerate(zip(configs, splits, strict=True)):
        alone = trained([config], [split])
        for ours, expected in zip(together.parameters(number), alone.state.parameters, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert together.objective(number) == pytest.approx(alone.objective(), rel=1e-4, abs=1e-4)
        ends.append(alone.state.parameters[0])
    # Else the comparison could not tell one replica from another.
    assert all(not torch.allclose(ends[0], end, rtol=1e-3) for end in ends[1:])


METHODS = [
    ("method=mle",),
    ("method=mle", "optimizer.momentum=0.9"),
    ("method=dropout",),
    *[(f"method.estimator={kind}",) for kind in ("weights", "local", "flipout")],
    *[(f"method.estimator={kind}", "prior=gaussian", "method.train_samples=2") for kind in ("weights", "local")],
    ("method.train_samples=6",),
]


@pytest.mark.parametrize("words", [*METHODS, ("method=ensemble", "method.members=2"), ("replicas=2",)], ids=" ".join)
def test_bfloat16_rounds_the_factors_of_products_and_nothing_else(words):
    ends = {}
    for precision in ("float32", "bfloat16"):
        trainer = trained(asked_for(f"precision={precision}", *words), [data(0)] * (2 if "replicas=2" in words else 1))
        assert all(tensor.dtype != torch.bfloat16 for tensor in (*trainer.saved(), *trainer.parameters()))
        ends[precision] = trainer.parameters()[0]
    assert not torch.equal(*ends.values())
    # Eight bits of mantissa: three steps of 0.01 a coordinate differ by a fraction of a step.
    torch.testing.assert_close(ends["bfloat16"], ends["float32"], rtol=0, atol=0.03)
    # The weights themselves are not rounded.
    assert (ends["bfloat16"] == ends["bfloat16"].bfloat16()).float().mean() < 0.1


@pytest.mark.parametrize("words", METHODS, ids=" ".join)
def test_seeds_trained_at_once_end_as_each_alone(words):
    configs = asked_for("replicas=3", "seed=4", *words)
    assert [config.seed for config in configs] == [4, 5, 6]
    splits = [data(0)] * 3
    assert_each_as_alone(trained(configs, splits), configs, splits)


def test_replicas_may_have_data_of_their_own():
    configs, splits = asked_for("replicas=2"), [data(0), data(1)]
    assert_each_as_alone(trained(configs, splits), configs, splits)


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("prior.pi", [0.1, 0.9], ["method.temperature=5"]),
        ("prior.sigma1", [0.5, 2.0], ["method.temperature=5"]),
        ("prior.sigma2", [0.01, 0.1], ["method.temperature=5"]),
        ("prior.sigma", [0.1, 1.0], ["prior=gaussian", "method.temperature=5"]),
        ("method.temperature", [0.1, 10], []),
        ("network.init_scale", [0.5, 1], []),
        ("optimizer.lr", [0.01, 0.002, 0.05], []),
        ("optimizer.decay_factor", [0.1, 0.5], ["optimizer.schedule=step", "optimizer.decay_epochs=1"]),
    ],
)
def test_values_of_a_number_trained_at_once_end_as_each_alone(key, values, words):
    configs = asked_for(f"replicas={{{key}:{values}}}", *words)
    group, name = key.split(".")
    assert [getattr(getattr(config, group), name) for config in configs] == values
    splits = [data(0)] * len(values)
    assert_each_as_alone(trained(configs, splits), configs, splits)


def test_combinations_of_settings_trained_at_once_end_as_each_alone():
    configs = asked_for("replicas={method.minibatch_weights:[paper,uniform],optimizer.lr:[0.01,0.05]}", "seed=3")
    each = [(config.method.minibatch_weights.name, config.optimizer.lr, config.seed) for config in configs]
    assert each == [("paper", 0.01, 3), ("paper", 0.05, 3), ("uniform", 0.01, 3), ("uniform", 0.05, 3)]
    splits = [data(0)] * 4
    assert_each_as_alone(trained(configs, splits), configs, splits)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("method.estimator=weights",), ("method=dropout",)], ids=" ".join)
def test_compiled_replicas_end_as_eager_ones(words):
    configs, splits = asked_for("replicas=2", *words), [data(0)] * 2
    eager = trained(configs, splits).state.parameters
    together = trained(configs, splits, "true")
    assert together.compiled
    for ours, expected in zip(together.state.parameters, eager, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


FAST = ("train.epochs=2", "network.hidden=[16]", "threads=1", "compile=false")


@pytest.mark.parametrize(
    ("words", "asked", "alone"),
    [
        (FAST, "replicas={optimizer.lr:[0.001,0.003]}", "optimizer.lr=0.003"),
        (
            FAST,
            "replicas={method.minibatch_weights:[uniform],optimizer.lr:[0.001,0.003]}",
            "method.minibatch_weights=uniform optimizer.lr=0.003",
        ),
        pytest.param(FAST, "replicas=2", "seed=1", marks=pytest.mark.slow),
        pytest.param(
            ("experiment=regression", "train.epochs=2", "network.hidden=[8]"),
            "replicas=2",
            "seed=1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_replica_leaves_what_its_own_run_would(bbbrun, tmp_path, words, asked, alone):
    together = bbbrun(*words, asked, "hydra.run.dir=together")
    assert together.returncode == 0, together.stderr
    single = bbbrun(*words, *alone.split(), "hydra.run.dir=alone")
    assert single.returncode == 0, single.stderr
    ours, expected = tmp_path / "together" / alone.replace("=", "-").replace(" ", "_"), tmp_path / "alone"
    files = [sorted(str(path.relative_to(place)) for path in place.rglob("*.*")) for place in (ours, expected)]
    assert files[0] == files[1]
    for name in ("metrics.csv", "predictions.csv"):
        if (expected / name).exists():
            tables = [pd.read_csv(place / name).drop(columns="seconds", errors="ignore") for place in (ours, expected)]
            pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-5)
    configs = [OmegaConf.load(place / ".hydra" / "config.yaml") for place in (ours, expected)]
    assert configs[0] == configs[1]
    again = composed(OmegaConf.to_container(OmegaConf.load(ours / ".hydra" / "overrides.yaml")))
    assert plain(again) == plain(configs[1])
    summary = json.loads((ours / "summary.json").read_text())
    assert summary["command"] == shlex.join(["bbbrun", *words, asked])
    assert (summary["replicas"], json.loads((expected / "summary.json").read_text())["replicas"]) == (2, 1)
    states = [torch.load(place / "checkpoint.pt", weights_only=True) for place in (ours, expected)]
    assert states[0].keys() == states[1].keys()
    assert states[0]["metrics"] == [pytest.approx(states[1]["metrics"][0], rel=1e-3, abs=1e-3)]
    assert states[0]["metrics"] == [summary["metrics"]]
    for one, other in zip(states[0]["tensors"], states[1]["tensors"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert not (tmp_path / "together" / "checkpoint.pt").exists()
    again = bbbrun(*words, asked, "resume=together")
    assert (again.returncode, "already finished" in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("replicas", "says"),
    [
        (0, "whole number of at least 1"),
        (2.5, "how many seeds, or {key: [values]}"),
        (True, "how many seeds"),
        ("many", "how many seeds"),
        ({}, "{key: [values], ...}"),
        ({"prior.pi": [0.5], "train.epochs": [1, 2]}, "sweep others with -m"),
        (
            {"seed": list(range(40)), "optimizer.lr": list(range(1, 27))},
            "at most 1000 combinations of values, not 1040",
        ),
        ({"train.epochs": [1, 2]}, "sweep others with -m"),
        ({"prior.pi": []}, "numbers or words that differ"),
        ({"prior.pi": [0.5, 0.5]}, "numbers or words that differ"),
        ({"prior.pi": [[0.5]]}, "numbers or words that differ"),
        ({"prior.pi": 0.5}, "numbers or words that differ"),
    ],
)
def test_what_replicas_may_not_be(replicas, says):
    with pytest.raises(UserError, match=r"^replicas must be ") as caught:
        require_replicas(replicas)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replicas={prior.pi:[0.5,1.5]}"], "prior.pi must be from 1e-6"),
        (["replicas={prior.sigma:[0.5,1.5]}"], "unknown key 'prior.sigma'"),
        (["replicas={seed:[0,0.5]}"], "replicas: seed=0.5 does not fit this configuration: Value '0.5' of type"),
        (["replicas={prior.pi:[x]}"], "replicas: prior.pi=x does not fit this configuration: Value 'x' of type"),
        (
            ["replicas={seed:[0,1],method.minibatch_weights:[uniform,even]}"],
            "replicas: method.minibatch_weights=even does not fit this configuration",
        ),
        (["replicas={optimizer.lr:[0.01,'1e-2']}"], "replicas must be values that differ, not optimizer.lr-0.01 twice"),
        (["replicas={seed:[0,1],prior.name:[gaussian]}"], "(sweep others with -m), not 'prior.name'"),
        (
            [
                "replicas={network.init_scale:[0.123456789012345],optimizer.lr:[0.123456789012345],"
                "method.temperature:[0.123456789012345],prior.pi:[0.123456789012345],prior.sigma1:[0.123456789012345],"
                "prior.sigma2:[0.0123456789012345],optimizer.decay_factor:[0.123456789012345],seed:[2147483646],method.minibatch_weights:[uniform]}"
            ],
            "replicas must be folder names of at most 255 characters, not 'network.init_scale-0.123456789012345_",
        ),
        (["method=mle", "replicas={method.minibatch_weights:[paper,uniform]}"], "'method.minibatch_weights'"),
        (
            ["replicas={optimizer.lr:[1e29,1e30]}", *FAST],
            "diverged: nll of optimizer.lr-1e+30 is nan in epoch 1; lower",
        ),
        (["seed=2147483647", "replicas=2"], "seed must be from 0 to 2147483647"),
        (["experiment=wheel", "replicas=2"], "replicas must be 1 where an agent acts"),
    ],
)
def test_replicas_that_do_not_fit_are_one_line_and_leave_nothing(bbbrun, tmp_path, words, says):
    result = bbbrun(*words)
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert says in lines[-1]
    if "diverged" not in says:
        assert len(lines) == 1
        assert not list(tmp_path.rglob("metrics.csv"))


def test_the_others_go_on_without_a_replica_that_diverged(bbbrun, tmp_path):
    words = (*FAST, "train.epochs=4", "train.evaluate_every=2")
    asked = "replicas={optimizer.lr:[0.01,1e30,0.02]}"
    result = bbbrun(*words, asked, "hydra.run.dir=group")
    lost = "optimizer.lr-1e+30"
    lines = result.stderr.splitlines()
    assert result.returncode == 1
    assert [line for line in lines if "go on" in line] == [
        f"training diverged: nll of {lost} is nan in epoch 1; lower optimizer.lr, or network.init_scale; "
        "the other replicas go on"
    ]
    assert lines[-1] == f"bbbrun: error: 1 of 3 replicas diverged, the others are finished: {lost}"
    for lr in ("0.01", "0.02"):
        assert bbbrun(*words, f"optimizer.lr={lr}", f"hydra.run.dir=alone{lr}").returncode == 0
        folders = tmp_path / "group" / f"optimizer.lr-{lr}", tmp_path / f"alone{lr}"
        tables = [pd.read_csv(folder / "metrics.csv").drop(columns="seconds") for folder in folders]
        pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-3)
        assert (folders[0] / "checkpoint.pt").exists()
    rows = pd.read_csv(tmp_path / "group" / lost / "metrics.csv")
    assert rows["epoch"].tolist() == [2, 4]
    assert rows[["nll", "valid_error", "test_error"]].isna().all(axis=None)
    assert (tmp_path / "group" / lost / "error.txt").read_text().startswith(f"training diverged: nll of {lost}")
    assert not list((tmp_path / "group" / lost).glob("[sc][uh]*"))  # neither summary nor checkpoint
    again = bbbrun(*words, asked, "resume=group")
    assert (again.returncode, "already finished" in again.stderr) == (0, True)
    status = bbbrun("status", "group")
    assert "1 of 3 replicas diverged" in status.stdout
    assert "1 finished" in status.stdout
    assert bbbrun("status", "--watch", "group").returncode == 0
    report = bbbrun("report", "group", "-o", "out", "--by", "optimizer.lr")
    assert report.returncode == 0, report.stderr
    assert pd.read_csv(tmp_path / "out" / "by" / "by.csv")["optimizer.lr"].sort_values().tolist() == [0.01, 0.02]


def test_replicas_of_which_none_is_left_are_waited_for_no_longer(bbbrun, tmp_path):
    words = (*FAST, "method=mle", "optimizer.lr=1e20", "replicas=2")
    result = bbbrun(*words, "hydra.run.dir=group")
    line = result.stderr.splitlines()[-1].removeprefix("bbbrun: error: ")
    assert (result.returncode, line.startswith("all 2 replicas diverged: training diverged: nll of seed-")) == (1, True)
    assert (tmp_path / "group" / "error.txt").read_text() == f"{line}\n"
    for folder in (tmp_path / "group", tmp_path / "group" / "seed-0"):
        assert standing(folder) == Standing("failed", detail=line)
    again = bbbrun(*words, "resume=group")
    assert (again.returncode, again.stderr.splitlines()[-1]) == (1, f"bbbrun: error: {line}")


@pytest.mark.slow
def test_the_folder_of_replicas_is_nobody_elses(bbbrun, tmp_path):
    words = (*FAST, "train.epochs=1")
    assert bbbrun(*words, "replicas=2", "hydra.run.dir=group").returncode == 0
    again = bbbrun(*words, "seed=5", "replicas=2", "hydra.run.dir=group")
    assert (again.returncode, "group holds another run (.hydra/config.yaml)" in again.stderr) == (1, True)
    before = (tmp_path / "group" / "seed-0" / "metrics.csv").read_text()
    (tmp_path / "mine" / "seed-1").mkdir(parents=True)
    (tmp_path / "mine" / "seed-1" / "metrics.csv").write_text("my notes")
    refused = bbbrun(*words, "replicas=2", "hydra.run.dir=mine")
    assert (refused.returncode, "mine/seed-1 holds metrics.csv, where a run writes" in refused.stderr) == (1, True)
    assert (tmp_path / "mine" / "seed-1" / "metrics.csv").read_text() == "my notes"
    shutil.rmtree(tmp_path / "group" / "seed-1")
    lacking = bbbrun(*words, "replicas=2", "resume=group")
    assert (lacking.returncode, "one has gone: run seed=1 by itself" in lacking.stderr) == (1, True)
    assert (tmp_path / "group" / "seed-0" / "metrics.csv").read_text() == before
    # As a group leaves it that was killed while it trained.
    (tmp_path / "group" / "seed-0" / "summary.json").unlink()
    alone = bbbrun(*words, "seed=0", "resume=group/seed-0")
    assert (alone.returncode, "is one of several replicas, which continue together" in alone.stderr) == (1, True)
    assert (tmp_path / "group" / "seed-0" / "metrics.csv").read_text() == before
