"""The trainer's tables and objective against hand-made ones, and whole trainings on learnable problems."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

import bbbrun as api
from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.networks import mlp
from bbbrun.bayes.objective import minibatch_weights
from bbbrun.bayes.priors import Prior
from bbbrun.data.images import load_images
from bbbrun.runtime.noise import Stream, permutation, standard_normal
from bbbrun.schema.config import Config, composed
from bbbrun.schema.methods import MinibatchWeights
from bbbrun.tasks.classification import classification_task
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Trainer

CPU = torch.device("cpu")
INPUTS = torch.rand(21, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(21) % 3
NETWORK = mlp(4, [5], 3)


def configured(*words: str) -> Config:
    config = OmegaConf.to_object(composed(["compile=false", *words]))
    assert isinstance(config, Config)
    return config


def small_trainer(*words: str) -> Trainer:
    problem = Problem(INPUTS, LABELS, NETWORK, categorical)
    return Trainer.of([configured("train.batch_size=8", "train.epochs=3", "seed=7", *words)], [problem], CPU, 3)


def prior_of(trainer: Trainer) -> Prior:
    return trainer._plans[0].prior


def test_an_epoch_visits_every_example_once_in_the_seeds_order():
    trainer = small_trainer("optimizer=sgd")
    for epoch in range(2):
        [rates] = trainer.begin_epoch(epoch)
        order, present = trainer.epoch.order, trainer.epoch.present
        assert order.shape == (3, 8)
        assert torch.equal(order[present == 1], permutation(7, epoch, 21))
        assert present.view(-1).tolist() == [1.0] * 21 + [0.0] * 3
        torch.testing.assert_close(trainer.epoch.numbers[:, 1], rates.float())


@pytest.mark.parametrize("compile_it", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_averages_of_a_gradient_that_has_become_0_do_not_linger_as_subnormal_numbers(compile_it):
    # The third input, and so the gradient of its weights, is 0.
    problem = Problem(INPUTS * torch.tensor([1.0, 1, 0, 1]), LABELS, NETWORK, categorical)
    config = configured("method=mle", "optimizer=adam", "train.batch_size=8", f"compile={compile_it}")
    trainer = Trainer.of([config], [problem], CPU, 1)
    for slot in trainer.state.slots[0]:
        slot.fill_(2.0**-140)
    trainer.begin_epoch(0)
    trainer.steps(3)
    for slot in trainer.state.slots[0]:
        of_first_layer = slot[:20].view(5, 4)
        assert (of_first_layer[:, 2] == 0).all()
        assert of_first_layer[:, :2].abs().max() > 1e-30


OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("kind", list(MinibatchWeights))
@pytest.mark.parametrize("prior", ["scale_mixture", "gaussian"])
def test_two_epochs_descend_equation_8_minibatch_by_minibatch(kind, prior, optimizer):
    words = (f"method.minibatch_weights={kind.value}", f"prior={prior}", "method.temperature=0.3")
    trainer = small_trainer(*words, f"optimizer={optimizer}", "optimizer.lr=1e-3")
    mu, rho = theta = [tensor.double().requires_grad_() for tensor in trainer.state.parameters]
    reference = OPTIMIZERS[optimizer](theta, lr=1e-3)
    shares, step = minibatch_weights(kind, 3), 0
    for epoch in range(2):
        trainer.begin_epoch(epoch)
        total = 0.0
        for number, rows in enumerate(permutation(7, epoch, 21).split(8)):
            trainer.steps(1)
            posterior = torch.distributions.Normal(mu, F.softplus(rho))
            w = mu + F.softplus(rho) * standard_normal(7, step, Stream.TRAIN, NETWORK.size).double()
            nll = F.cross_entropy(NETWORK(w, INPUTS[rows].double()), LABELS[rows], reduction="sum")
            complexity = (posterior.log_prob(w) - prior_of(trainer).log_prob(w)).sum()
            reference.zero_grad()
            (shares[number] * 0.3 * complexity + nll).backward()
            # The cosine over all 9 steps of the 3 epochs.
            reference.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / 9))
            reference.step()
            total += nll.item()
            step += 1
        assert trainer.mean_nll() == pytest.approx(total / 21, rel=1e-4)
    for ours, expected in zip(trainer.state.parameters, theta, strict=True):
        torch.testing.assert_close(ours.double(), expected.detach(), rtol=2e-3, atol=2e-5)
    mu, rho = mu.detach(), rho.detach()
    assert trainer.state.step.item() == 6

    row = trainer.objective()
    posterior = torch.distributions.Normal(mu, F.softplus(rho))
    w = mu + F.softplus(rho) * standard_normal(7, 6, Stream.EVALUATE, NETWORK.size).double()
    log_posterior, log_prior = (p.log_prob(w).sum().item() for p in (posterior, prior_of(trainer)))
    assert row["log_posterior"] == pytest.approx(log_posterior, rel=1e-3)
    assert row["log_prior"] == pytest.approx(log_prior, rel=1e-3)
    assert row["free_energy"] == pytest.approx(0.3 * (log_posterior - log_prior) + total, rel=2e-3)


def test_rho_starts_in_its_range_and_mu_does_not_depend_on_it():
    narrow, wide = small_trainer(), small_trainer("method.rho_init=[-4,-2]")
    assert (narrow.state.parameters[1] == -5).all()
    rho = wide.state.parameters[1]
    assert -4 <= rho.min() < -3.5
    assert -2.5 < rho.max() <= -2
    assert torch.equal(narrow.state.parameters[0], wide.state.parameters[0])


def test_validation_and_test_are_judged_on_their_own_images():
    config = configured("method=mle", "network.hidden=[30]")
    images = load_images(config.dataset, CPU)
    task = classification_task(config, images)
    weights = torch.randn(task.problem.network.size, generator=torch.Generator().manual_seed(1)) * 0.2
    row = task.evaluate([weights], Draws(0, 0, 1)).row
    for name, split in (("valid", images.valid), ("test", images.test)):
        logits = task.problem.network(weights, split.inputs)
        wrong = (logits.argmax(dim=1) != split.labels).double().mean().item()
        assert row[f"{name}_error"] == pytest.approx(100 * wrong)
        assert row[f"{name}_nll"] == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)


def test_what_is_kept_of_each_test_image_gives_the_row():
    config = configured("network.hidden=[30]")
    images = load_images(config.dataset, CPU)
    task = classification_task(config, images)
    mu = torch.randn(task.problem.network.size, generator=torch.Generator().manual_seed(1)) * 0.2
    judgement = task.evaluate([mu, torch.full_like(mu, -2.0)], Draws(0, 0, 3))
    table = judgement.predictions().table
    assert table["label"].tolist() == images.test.labels.tolist()
    assert 100 * (table["label"] != table["class"]).mean() == pytest.approx(judgement.row["test_error"])
    assert -np.log(table["probability"].astype(float)).mean() == pytest.approx(judgement.row["test_nll"], rel=1e-3)


def test_predictive_and_mean_errors_are_not_confused():
    config = configured("network.hidden=[30]")
    task = classification_task(config, load_images(config.dataset, CPU))
    mu = torch.randn(task.problem.network.size, generator=torch.Generator().manual_seed(1)) * 0.2
    row = task.evaluate([mu, torch.full_like(mu, 2.0)], Draws(0, 0, 3)).row
    sharp = task.evaluate([mu, torch.full_like(mu, -40.0)], Draws(0, 0, 3)).row
    assert row["test_error_mean"] == sharp["test_error_mean"] == sharp["test_error"]
    assert row["test_error"] != row["test_error_mean"]
    assert sharp["valid_error"] == sharp["valid_error_mean"]


def test_an_evaluation_shows_its_draws(tmp_path, monkeypatch, capsys):
    from bbbrun.training import progress

    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    words = ("network.hidden=[4]", "train.epochs=1", "method.final_samples=3", "compile=false")
    for resume in ([], [f"resume={tmp_path / 'run'}"]):
        api.run(api.compose(*words, *resume), tmp_path / "run")
        lines = [line for line in capsys.readouterr().err.splitlines() if "evaluation, " in line]
        assert lines == [f"digits: evaluation, draw {draw} of 3" for draw in (1, 2, 3)]
        (tmp_path / "run" / "summary.json").unlink()  # as of a run stopped after its last row


def test_without_a_validation_set_its_columns_are_left_out():
    config = configured("dataset.valid_size=0", "method=mle", "network.hidden=[4]")
    task = classification_task(config, load_images(config.dataset, CPU))
    row = task.evaluate([torch.zeros(task.problem.network.size)], Draws(0, 0, 1)).row
    assert set(row) == {"test_error", "test_nll", "test_ece"}
    assert row["test_nll"] == pytest.approx(torch.tensor(10.0).log().item(), rel=1e-6)


def test_without_the_test_set_a_run_is_judged_by_validation_alone(bbbrun, tmp_path):
    words = ("method=mle", "network.hidden=[4]", "train.epochs=2", "compile=false", "threads=1")
    for name, word in (("both", "dataset.test=true"), ("valid", "dataset.test=false")):
        result = bbbrun(*words, word, f"hydra.run.dir={name}")
        assert result.returncode == 0, result.stderr
    both, valid = (pd.read_csv(tmp_path / name / "metrics.csv").drop(columns="seconds") for name in ("both", "valid"))
    judged = valid.dropna(axis="columns", how="all").columns
    assert set(both.dropna(axis="columns", how="all")) - set(judged) == {"test_error", "test_nll", "test_ece"}
    assert "valid_error" in judged
    pd.testing.assert_frame_equal(valid[judged], both[judged])
    assert (tmp_path / "both" / "predictions.csv").exists()
    assert not (tmp_path / "valid" / "predictions.csv").exists()
    neither = bbbrun(*words, "dataset.test=false", "dataset.valid_size=0")
    assert neither.returncode == 1
    assert (
        neither.stderr.strip() == "bbbrun: error: dataset.valid_size must be at least 1 with dataset.test=false, not 0"
    )


@pytest.mark.slow
def test_the_embedded_default_learns_the_digits(bbbrun, tmp_path):
    result = bbbrun("threads=1", "train.evaluate_every=50", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    assert metrics["test_error"] <= 4
    assert metrics["test_error_mean"] <= 4
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_ten_epochs_of_the_real_mnist(bbbrun, tmp_path, data_root):
    words = ("experiment=mnist", "network.hidden=[400,400]", "train.epochs=10", "hydra.run.dir=run")
    result = bbbrun(*words, BBBRUN_DATA=str(data_root))
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    assert metrics["test_error"] <= 2.2
    assert metrics["valid_error"] <= 2.2
