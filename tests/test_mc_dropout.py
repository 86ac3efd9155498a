"""MC dropout: each draw is one network with units missing, and the prediction is the mean over such networks."""

import itertools
import math

import numpy as np
import pandas as pd
import torch

import bbbrun
from bbbrun.bayes.draws import Draws
from bbbrun.bayes.methods import build_method, drawn
from bbbrun.bayes.networks import initial_weights, mlp
from bbbrun.bayes.predictive import network_outputs, posterior_predictive
from bbbrun.schema.methods import Init, MonteCarloDropoutConfig

NETWORK = mlp(3, [2], 4)
WEIGHTS = initial_weights(NETWORK, Init.he, 2.0, 0) + 0.1  # biases that are not 0
INPUTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
INPUT_RATE, HIDDEN_RATE = 0.3, 0.6


def method(input_rate=INPUT_RATE, hidden_rate=HIDDEN_RATE):
    rates = {"input_rate": input_rate, "hidden_rate": hidden_rate}
    return build_method(MonteCarloDropoutConfig(name="mc_dropout", test_samples=5, **rates))


def masked_outputs(inputs, z):
    """The outputs of the network whose units have the masks z (5,), in NumPy alone."""
    w1, b1, w2, b2 = (part.double().numpy() for part in NETWORK.unflatten(WEIGHTS))
    hidden = np.maximum(inputs * z[:3] / (1 - INPUT_RATE) @ w1.T + b1, 0)
    return hidden * z[3:] / (1 - HIDDEN_RATE) @ w2.T + b2


def test_the_predictive_is_the_mean_over_all_masked_networks():
    rates = np.array([INPUT_RATE] * 3 + [HIDDEN_RATE] * 2)
    expected, square = np.zeros((7, 4)), np.zeros((7, 4))
    for z in itertools.product((0, 1), repeat=5):
        chance = np.where(z, 1 - rates, rates).prod()
        exponentials = np.exp(masked_outputs(INPUTS.double().numpy(), np.array(z)))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        expected, square = expected + chance * probabilities, square + chance * probabilities**2
    count = 2000
    ours = posterior_predictive(NETWORK, drawn(method(), NETWORK, [WEIGHTS], Draws(1, 2, count)), INPUTS)
    error = np.sqrt((square - expected**2) / count)
    assert (np.abs(ours.numpy() - expected) < 4.5 * error + 1e-6).all()
    # The network of the mean weights is another one.
    mean = method().mean([WEIGHTS])
    assert np.abs(posterior_predictive(NETWORK, [mean], INPUTS).numpy() - expected).max() > 0.02


def test_a_draw_is_one_masked_network_for_all_inputs():
    draws = Draws(1, 2, 300)
    outputs = network_outputs(NETWORK, drawn(method(), NETWORK, [WEIGHTS], draws), INPUTS).numpy()
    every = [masked_outputs(INPUTS.double().numpy(), np.array(z)) for z in itertools.product((0, 1), repeat=5)]
    for each in outputs:
        assert min(np.abs(each - one).max() for one in every) < 1e-5


def test_the_weights_of_many_draws_have_the_mean_weights_and_the_rates():
    network = mlp(40, [30, 20], 5)
    weights = torch.ones(network.size)
    draws = [network.unflatten(each) for each in drawn(method(), network, [weights], Draws(3, 0, 1000))]
    for number, parts in enumerate(zip(*draws, strict=True)):
        layer, bias = divmod(number, 2)
        values = torch.stack(parts)
        if bias:
            assert (values == 1).all()
            continue
        rate = HIDDEN_RATE if layer else INPUT_RATE
        torch.testing.assert_close(values.unique(), torch.tensor([0.0, 1 / (1 - rate)]))
        assert (values == values[:, :1]).all(), "a unit is dropped for all that it goes to"
        share = (values[:, 0] == 0).double()
        error = math.sqrt(rate * (1 - rate))
        assert abs(share.mean() - rate) < 5 * error / math.sqrt(share.numel())
        assert (share.mean(dim=0) - rate).abs().max() < 5 * error / math.sqrt(len(share))


def test_masks_differ_by_unit_layer_draw_step_and_seed():
    network = mlp(64, [64, 64], 2)
    weights = torch.ones(network.size)

    def masks(seed, step, number):
        """The units (3, 64) that are not dropped."""
        parts = network.unflatten(method(0.5, 0.5).draw(network, [weights], Draws(seed, step, 9), number))
        return torch.stack([part[0] > 0 for part in parts[::2]])

    one = masks(1, 2, 3)
    assert torch.equal(one, masks(1, 2, 3))
    others = [*one.unbind()[1:], masks(1, 2, 4)[0], masks(1, 3, 3)[0], masks(2, 2, 3)[0], masks(1, 3, 2)[0]]
    for other in others:
        assert abs((other == one[0]).double().mean() - 0.5) < 5 * 0.5 / 8


def test_a_prediction_depends_on_nothing_else_that_is_predicted():
    def predicted(inputs):
        return posterior_predictive(NETWORK, drawn(method(), NETWORK, [WEIGHTS], Draws(1, 2, 50)), inputs)

    whole = predicted(INPUTS)
    assert torch.equal(whole, predicted(INPUTS))
    for parts in (INPUTS.split(1), INPUTS.split(3)):
        torch.testing.assert_close(torch.cat([predicted(part) for part in parts]), whole, rtol=1e-6, atol=1e-7)


def test_without_rates_every_draw_is_the_network():
    for weights in drawn(method(0.0, 0.0), NETWORK, [WEIGHTS], Draws(1, 2, 3)):
        assert torch.equal(weights, WEIGHTS)


FAST = ("train.epochs=2", "network.hidden=[16]", "threads=1", "compile=false")


def test_it_trains_as_dropout_does_and_predicts_with_masks(run_in, tmp_path):
    runs = {}
    for name in ("dropout", "mc_dropout"):
        done = run_in(tmp_path, *FAST, f"method={name}", f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        (runs[name],) = bbbrun.load_runs(tmp_path / name)
    ours, plain = runs["mc_dropout"], runs["dropout"]
    assert torch.equal(*(run.parameters()[0] for run in (ours, plain)))
    rows, plain_rows = ours.metrics(), plain.metrics()
    assert rows["nll"].to_list() == plain_rows["nll"].to_list()
    # With the mean weights it is the network that dropout predicts with.
    assert rows["test_error_mean"].to_list() == plain_rows["test_error"].to_list()
    assert rows["test_nll"].to_list() != plain_rows["test_nll"].to_list()

    images = np.random.default_rng(0).uniform(0, 16, (5, 8, 8))
    table, mean = ours.predict(images, draws=20), plain.predict(images)
    assert (table["epistemic"] > 1e-3).all()
    assert (mean["epistemic"].abs() < 1e-9).all()
    again = pd.concat([ours.predict(images[:2], draws=20), ours.predict(images[2:], draws=20)], ignore_index=True)
    pd.testing.assert_frame_equal(again, table, rtol=1e-5)
    assert (ours.predict(images, draws=20, seed=1)["p0"] != table["p0"]).any()
