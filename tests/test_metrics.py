import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from bbbrun.bayes.draws import Draws, draw_weights
from bbbrun.bayes.methods import BayesByBackprop, drawn
from bbbrun.bayes.networks import mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import class_probabilities, posterior_predictive
from bbbrun.bayes.scores import error_percent, expected_calibration_error, mean_nll
from bbbrun.bench.steps import bayes_by_backprop
from bbbrun.schema.methods import Estimator


def example():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(500, 4, generator=generator).double().pow(3)
    return probabilities / probabilities.sum(dim=1, keepdim=True), torch.randint(4, (500,), generator=generator)


def test_error_and_nll_equal_scikit_learn():
    probabilities, labels = example()
    accuracy = accuracy_score(labels.numpy(), probabilities.argmax(dim=1).numpy())
    assert error_percent(probabilities, labels) == pytest.approx(100 * (1 - accuracy))
    assert mean_nll(probabilities, labels) == pytest.approx(log_loss(labels.numpy(), probabilities.numpy()))


def test_nll_of_an_impossible_label_is_finite():
    assert math.isfinite(mean_nll(torch.tensor([[1.0, 0.0]]), torch.tensor([1])))


def test_calibration_error_by_hand():
    # Bin of 0.9: confidence 0.9, accuracy 1/2; bin of 0.6: confidence 0.6, accuracy 1.
    probabilities = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    labels = torch.tensor([0, 0, 0, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(100 * (0.5 * 0.4 + 0.5 * 0.4), abs=1e-4)


def test_calibration_error_has_fifteen_bins():
    # 0.61 and 0.65 fall into the bin 9/15 .. 10/15 together, and cancel in part; 0.68 is in the next.
    probabilities = torch.tensor([[0.61, 0.39], [0.65, 0.35], [0.68, 0.32]])
    expected = 100 * (abs((0.61 - 0) + (0.65 - 1)) + (1 - 0.68)) / 3
    assert expected_calibration_error(probabilities, torch.tensor([1, 0, 0])) == pytest.approx(expected, abs=1e-4)


def test_certain_and_right_is_perfectly_calibrated():
    assert expected_calibration_error(torch.eye(3), torch.arange(3)) == 0


def test_predictive_averages_probabilities_over_draws():
    network = mlp(5, [7], 3)
    method = BayesByBackprop(bayes_by_backprop(1, Estimator.weights))
    posterior = DiagonalGaussian(torch.randn(network.size), torch.full((network.size,), 0.5))
    inputs = torch.randn(20, 5)
    result = posterior_predictive(network, drawn(method, network, list(posterior), Draws(1, 2, 3)), inputs)
    now = [torch.tensor(value, dtype=torch.int32) for value in (1, 2)]
    draws = [draw_weights(posterior, *now, torch.tensor(draw, dtype=torch.int32))[0] for draw in range(3)]
    probabilities = torch.stack([class_probabilities(network, draw, inputs) for draw in draws])
    torch.testing.assert_close(result, probabilities.mean(dim=0))
    # The probabilities differ between draws, so their mean is not that of the logits.
    logits = torch.stack([network(draw, inputs) for draw in draws]).mean(dim=0).softmax(dim=1)
    assert (result - logits).abs().max() > 1e-3
