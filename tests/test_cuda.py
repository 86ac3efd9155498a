"""On CUDA a run equals that on the CPU, to rounding, and a step is one launch that nothing waits for."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from test_agents import WHEEL
from test_replicas import METHODS, asked_for, data, trained

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.methods import BayesByBackprop, drawn
from bbbrun.bayes.networks import Init, initial_weights, mlp
from bbbrun.bayes.predictive import posterior_predictive
from bbbrun.bench.steps import bayes_by_backprop
from bbbrun.runtime.device import set_products
from bbbrun.runtime.noise import permutation, random_words, standard_normal
from bbbrun.schema.methods import Estimator, Precision
from bbbrun.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CUDA = torch.device("cuda")
VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES", "0")


def test_the_noise_is_that_of_the_cpu():
    bits = random_words(3, 5, 1, 1000, "cuda")
    assert all(torch.equal(a.cpu(), b) for a, b in zip(bits, random_words(3, 5, 1, 1000), strict=True))
    assert torch.equal(permutation(3, 5, 50_000, "cuda").cpu(), permutation(3, 5, 50_000))
    there, here = (standard_normal(3, 5, 1, 1_000_000, device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=5e-6)


def assert_as_on_the_cpu(configs, compile_it: str) -> Trainer:
    splits = [data(0)] * len(configs)
    there, here = trained(configs, splits, compile_it, CUDA), trained(configs, splits)
    for ours, expected in zip(there.saved(), here.saved(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    for replica in range(len(configs)):
        assert there.objective(replica) == pytest.approx(here.objective(replica), rel=1e-3, abs=1e-3)
    return there


def replayed(trainer: Trainer) -> bool:
    return all(recorded.call for recorded, _ in trainer._steps.parts)


@pytest.mark.parametrize("compile_it", ["false", "true"])
@pytest.mark.parametrize("words", METHODS, ids=" ".join)
def test_a_training_ends_as_on_the_cpu_and_its_step_is_a_graph(words, compile_it):
    trainer = assert_as_on_the_cpu(asked_for(*words), compile_it)
    assert trainer.compiled is (compile_it == "true")
    assert replayed(trainer)


@pytest.mark.parametrize("compile_it", ["false", "true"])
@pytest.mark.parametrize(
    "asked", ["replicas=3", "replicas={prior.pi:[0.1,0.9]}", "replicas={optimizer.lr:[0.01,0.05]}"]
)
def test_replicas_end_as_on_the_cpu(asked, compile_it):
    assert replayed(assert_as_on_the_cpu(asked_for(asked), compile_it))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("compile_it", ["false", "true"])
def test_nothing_waits_for_the_device_within_an_epoch(compile_it):
    trainer = trained(asked_for(), [data(0)], compile_it, CUDA)
    trainer.begin_epoch(2)
    try:
        torch.cuda.set_sync_debug_mode("error")
        trainer._steps.parts[0][0]._step()  # what was captured, not the graph, which cannot wait
        trainer.steps(trainer.minibatches - 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_predictive_is_that_of_the_cpu():
    network, inputs = mlp(5, [6], 4), data(0).inputs
    mu = initial_weights(network, Init.he, 1.0, 0)
    method = BayesByBackprop(bayes_by_backprop(1, Estimator.weights))
    there, here = (
        posterior_predictive(
            network,
            drawn(method, network, [mu.to(device), torch.full_like(mu, -2.0).to(device)], Draws(3, 5, 7)),
            inputs.to(device),
        )
        for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="no TensorFloat-32 here"
)
def test_products_are_in_tensorfloat_32_where_that_is_asked_for_alone():
    a, b = (standard_normal(0, 0, draw, 512 * 512, "cuda").view(512, 512) for draw in (0, 1))
    exact = a.double() @ b.double()

    def error(precision: Precision) -> float:
        set_products(precision, CUDA)
        return ((a @ b).double() - exact).abs().max().item()

    try:
        assert error(Precision.tf32) > 5e-3
        assert error(Precision.float32) < 5e-4
    finally:
        set_products(Precision.float32, CUDA)


@pytest.mark.parametrize(
    "words",
    [
        ("network.hidden=[16]", "train.epochs=2", "compile=true"),
        ("network.hidden=[16]", "train.epochs=2", "compile=false", "method=dropout"),
        ("experiment=regression", "network.hidden=[8]", "train.epochs=3", "compile=false"),
        WHEEL,
    ],
    ids=" ".join,
)
def test_a_run_leaves_what_it_leaves_on_the_cpu(bbbrun, tmp_path, words):
    tables = []
    for device in ("cuda", "cpu"):
        result = bbbrun(*words, f"device={device}", f"hydra.run.dir={device}", CUDA_VISIBLE_DEVICES=VISIBLE)
        assert result.returncode == 0, result.stderr
        summary = json.loads((tmp_path / device / "summary.json").read_text())
        assert summary["device"].startswith("cpu") is (device == "cpu")
        tables.append(pd.read_csv(tmp_path / device / "metrics.csv").drop(columns="seconds"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("places", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_checkpoint_is_of_no_device(places):
    configs, splits = asked_for(), [data(0)]
    first, second = map(torch.device, places)
    saved = trained(configs, splits, device=first, epochs=range(1)).saved()
    ours = trained(configs, splits, device=second, epochs=range(1, 3), saved=saved).saved()
    for tensor, expected in zip(ours, trained(configs, splits).saved(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("more", [(), ("--precision", "tf32"), ("--precision", "bfloat16")])
def test_the_bench_times_steps(tmp_path, more):
    command = [sys.executable, "-m", "bbbrun", "bench", "--network", "6-5-4-3", "--batch", "4", "--rounds", "4"]
    command += ["--device", "cuda", "--only", "weights", "--output", "table.csv", *more]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["device"]) == {"cuda"}
    assert (table["median_ms"] > 0).all()
