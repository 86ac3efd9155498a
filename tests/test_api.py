"""bbbrun from Python: the same numbers as the command line, and nothing loaded before it is used."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import nn

import bbbrun
from bbbrun.bayes.networks import initial_weights, mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.data.images import load_images
from bbbrun.errors import UserError
from bbbrun.schema.config import composed, plain, validated
from bbbrun.schema.methods import Init
from bbbrun.schema.quoting import quoted, words_of

FAST = ("train.epochs=3", "network.hidden=[16]", "threads=1", "compile=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return bbbrun.run(bbbrun.compose(*FAST, "seed=4"), tmp_path_factory.mktemp("api") / "run")


def test_importing_loads_nothing_heavy():
    script = "import bbbrun, sys; sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_public_name_is_there():
    for name in bbbrun.__all__:
        assert getattr(bbbrun, name) is not None
    assert bbbrun.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bbbrun.nothing


def test_a_run_from_python_is_that_of_the_command_line(bbbrun, trained, tmp_path):
    assert bbbrun(*FAST, "seed=4", "hydra.run.dir=run").returncode == 0
    lines = [(folder / "metrics.csv").read_text().splitlines() for folder in (tmp_path / "run", trained.folder)]
    ours, theirs = ([line.split(",")[:2] + line.split(",")[3:] for line in each] for each in lines)
    assert ours == theirs
    assert trained.summary["metrics"]["test_error"] == trained.metrics()["test_error"].iloc[-1]


def test_a_folder_that_holds_a_run_is_refused(trained):
    with pytest.raises(UserError, match="holds another run"):
        bbbrun.run(bbbrun.compose(*FAST), trained.folder)


def test_a_finished_run_is_resumed_as_it_is(trained):
    before = (trained.folder / "summary.json").read_bytes()
    again = bbbrun.run(bbbrun.compose(*FAST, "seed=4", f"resume='{trained.folder}'"), trained.folder)
    assert again.summary == trained.summary
    assert (trained.folder / "summary.json").read_bytes() == before


def test_the_recorded_words_compose_the_same_configuration(trained):
    assert trained.config["seed"] == 4
    for words in (
        ("experiment=mnist", "prior.pi=0.25"),
        ("experiment=regression", "method=mle"),
        ("experiment=bandit", "agent.epsilon=0.05", "method=mle", "dataset.root='a, b=c'"),
    ):
        config = composed(words)
        assert plain(composed(words_of(config))) == plain(config)


@pytest.mark.parametrize(
    "value", [None, True, -3, 2.5, "a b", "it's", "${x}", "\\", "a\\'", [1, "x,y"], {"seed": [1, 2]}]
)
def test_a_quoted_value_is_read_back(value):
    override = OverridesParser.create().parse_override(f"key={quoted(value)}")
    read = override.value()
    read = read if isinstance(read, list | dict) else getattr(read, "text", read)
    texts = [part.text if hasattr(part, "text") else part for part in read] if isinstance(read, list) else read
    # What OmegaConf will take for an interpolation is escaped for it, too.
    assert texts == (value.replace("${", "\\${") if isinstance(value, str) else value)


def test_predictions_are_the_posterior_predictive(trained):
    images = load_images(validated(composed(FAST)).dataset, torch.device("cpu"))
    pixels = images.test.inputs[:20, 0].numpy() * 8
    table = trained.predict(pixels, draws=7, seed=3)
    posterior, network = trained.posterior(), mlp(64, [16], 10)
    draws = [network(weights, images.test.inputs[:20]).softmax(dim=1).double() for weights in _draws(posterior, 3, 7)]
    mean = torch.stack(draws).mean(dim=0)
    np.testing.assert_allclose(table[[f"p{k}" for k in range(10)]].to_numpy(), mean.numpy(), atol=1e-6)
    assert (table["class"] == mean.argmax(dim=1).numpy()).all()
    entropy = -(mean * mean.log()).sum(dim=1)
    aleatoric = torch.stack([-(p * p.log()).sum(dim=1) for p in draws]).mean(dim=0)
    np.testing.assert_allclose(table["total"], entropy.numpy(), atol=1e-6)
    np.testing.assert_allclose(table["epistemic"], (entropy - aleatoric).numpy(), atol=1e-6)
    single = trained.predict(pixels, draws=1)
    assert (single["epistemic"] == 0).all()
    with pytest.raises(ValueError, match=r"images \(N, 8, 8\) of finite pixels"):
        trained.predict(np.full((2, 8, 8), np.nan))


def _draws(posterior, seed, count):
    from bbbrun.bayes.draws import Draws

    draws = Draws(seed, 0, count)
    return [draws.sample(posterior, number)[0] for number in range(count)]


def test_fit_has_the_numbers_of_the_command_line(trained):
    images = load_images(validated(composed(FAST)).dataset, torch.device("cpu"))
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    network = mlp(64, [16], 10)
    with torch.no_grad():
        weights = network.unflatten(initial_weights(network, Init.he, 1.0, 4))
        for parameter, start in zip(module.parameters(), weights, strict=True):
            parameter.copy_(start)
    before = [parameter.clone() for parameter in module.parameters()]
    prior = bbbrun.priors.ScaleMixture.of(0.5, 1.0, 0.0024787521766663585)
    posterior = bbbrun.fit(
        module,
        bbbrun.likelihoods.categorical,
        images.train.inputs,
        images.train.labels,
        prior=prior,
        epochs=3,
        overrides=["seed=4", "compile=false"],
    )
    for ours, theirs in zip(posterior, trained.posterior(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert all(map(torch.equal, before, module.parameters()))
    outputs = bbbrun.predict(module, posterior, images.test.inputs, draws=5, seed=2)
    assert outputs.shape == (5, 360, 10)
    expected = network(_draws(posterior, 2, 5)[4], images.test.inputs)
    torch.testing.assert_close(outputs[4], expected, rtol=1e-4, atol=1e-5)
    error = 100 * (outputs.softmax(-1).mean(0).argmax(1) != images.test.labels).double().mean().item()
    assert error == pytest.approx(trained.summary["metrics"]["test_error"], abs=5)


def test_fit_leaves_the_settings_of_the_process_as_they_are():
    x, y = torch.rand(6, 3), torch.zeros(6, dtype=torch.int64)
    torch.set_float32_matmul_precision("high")
    try:
        bbbrun.fit(
            nn.Linear(3, 2),
            bbbrun.likelihoods.categorical,
            x,
            y,
            prior=bbbrun.priors.Gaussian.of(1.0),
            epochs=1,
            overrides=["compile=false"],
        )
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_parameters_are_those_of_the_checkpoint_whatever_was_trained(tmp_path):
    words = ("experiment=wheel", "agent.steps=20", "agent.updates=1", "train.evaluate_every=20", "network.hidden=[3]")
    run = bbbrun.run(bbbrun.compose(*words, "train.batch_size=4", "compile=false"), tmp_path / "wheel")
    stored = torch.load(tmp_path / "wheel" / "checkpoint.pt", weights_only=True)["tensors"]
    assert len(run.parameters()) == 2
    assert all(map(torch.equal, run.parameters(), stored))
    assert run.posterior().mu.shape == stored[0].shape


def test_predict_needs_a_draw():
    posterior = DiagonalGaussian(torch.zeros(8), torch.zeros(8))
    with pytest.raises(ValueError, match="draws must be 1 or more, not 0"):
        bbbrun.predict(nn.Linear(3, 2), posterior, torch.rand(6, 3), draws=0)


def test_fit_refuses_what_it_cannot_train():
    x, y = torch.rand(6, 3), torch.zeros(6, dtype=torch.int64)
    words = {"prior": bbbrun.priors.Gaussian.of(1.0), "epochs": 1}
    with pytest.raises(ValueError, match="not 6 and 5"):
        bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y[:5], **words)
    with pytest.raises(ValueError, match="buffers"):
        bbbrun.fit(nn.BatchNorm1d(3), bbbrun.likelihoods.categorical, x, y, **words)
    stateless = nn.BatchNorm1d(3, track_running_stats=False)
    with pytest.raises(ValueError, match="normalises over its batch"):
        bbbrun.fit(stateless, bbbrun.likelihoods.categorical, x, y, **words)
    for forward, text in (
        (lambda x: nn.functional.dropout(x), "differ between two calls"),
        (lambda x: x - x.mean(0), "depends on the other"),
    ):
        module = nn.Linear(3, 50)
        module.forward = lambda x, module=module, forward=forward: forward(nn.functional.linear(x, module.weight))
        with pytest.raises(ValueError, match=text):
            bbbrun.fit(module, bbbrun.likelihoods.categorical, x, y, **words)
    for word in ("method.test_samples=3", "+method.final_samples=3"):
        with pytest.raises(UserError, match=f"fit does not read {re.escape(word)}: bbbrun.predict takes"):
            bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y, overrides=[word], **words)
    for word in ("threads=7", "prior=laplace", "train.epochs=9", "network.hidden=[7]", "methods=mle", "~prior"):
        with pytest.raises(UserError, match=f"fit takes no word {re.escape(word)}, only words of"):
            bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y, overrides=[word], **words)
    with pytest.raises(UserError, match=r"optimizer\.lr must be a positive finite number"):
        bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y, overrides=["optimizer.lr=0"], **words)
    for word, text in (("optimizer.lrr=1", "lrr"), ("optimizer.lr=abc", "abc"), ("optimizer=none", "none")):
        with pytest.raises(UserError, match=rf"^[^\n]*{text}[^\n]*$"):
            bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y, overrides=[word], **words)
    for estimator in ("local", "flipout"):
        word = f"method.estimator={estimator}"
        with pytest.raises(UserError, match=f"{word} needs a network of affine maps"):
            bbbrun.fit(nn.Linear(3, 2), bbbrun.likelihoods.categorical, x, y, overrides=[word], **words)
