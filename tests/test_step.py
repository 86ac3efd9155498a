import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.methods import build_method
from bbbrun.bayes.modules import from_module
from bbbrun.bayes.networks import initial_weights, layered, mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import build_prior
from bbbrun.bench.steps import bayes_by_backprop
from bbbrun.errors import UserError
from bbbrun.runtime.compile import compiled
from bbbrun.runtime.matmul import large_product
from bbbrun.runtime.noise import standard_normal
from bbbrun.schema.methods import (
    BayesByBackpropConfig,
    DropoutConfig,
    Estimator,
    GaussianPriorConfig,
    Init,
    MaximumLikelihoodConfig,
    ScaleMixtureConfig,
)
from bbbrun.schema.optimizers import AdamConfig, Schedule, SgdConfig
from bbbrun.training.optimizers import Adam, Sgd, build_optimizer, learning_rates
from bbbrun.training.step import Epoch, Recipe, initial_state
from bbbrun.training.step import make_step as make
from bbbrun.training.task import Problem

NETWORK = mlp(6, [8, 5], 3)
MIXTURE = ScaleMixtureConfig(name="scale_mixture", pi=0.25, sigma1=1.0, sigma2=math.exp(-6))
GAUSSIAN = GaussianPriorConfig(name="gaussian", sigma=0.3)
PLAIN, ADAM = Sgd(0.0), Adam(0.9, 0.999, 1e-8)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.rand(10, 6, generator=GENERATOR)
LABELS = torch.randint(3, (10,), generator=GENERATOR)


def bbb(draws: int = 1, estimator: Estimator = Estimator.weights) -> BayesByBackpropConfig:
    return bayes_by_backprop(draws, estimator)


def make_step(network, likelihood, method, prior, optimizer, inputs, labels, seed, epoch, state):
    recipe = Recipe(build_method(method), prior, optimizer, seed)
    return make(Problem(inputs, labels, network, likelihood), recipe, epoch, state)


def two_minibatches(lr: float, optimizer=PLAIN) -> Epoch:
    """Minibatches of 8 and of 2 examples, the second padded with example 0, as in training."""
    order = torch.tensor([[3, 1, 4, 9, 5, 2, 6, 8], [7, 0, 0, 0, 0, 0, 0, 0]])
    present = torch.tensor([[1.0] * 8, [1.0] * 2 + [0.0] * 6])
    return Epoch(
        order,
        present,
        torch.cat([torch.tensor([[2 / 3], [1 / 3]]), optimizer.rates(torch.tensor([lr, lr / 2]), 0)], dim=1).float(),
        torch.zeros(1, dtype=torch.int64),
    )


def start(network=NETWORK, rho: float | None = -3.0) -> list[torch.Tensor]:
    weights = initial_weights(network, Init.he, 1.0, seed=0)
    return [weights] if rho is None else [weights, torch.full_like(weights, rho)]


@pytest.mark.parametrize("config", [MIXTURE, GAUSSIAN])
@pytest.mark.parametrize("draws", [1, 3, 7])
def test_two_sgd_steps_equal_a_reference_by_torch_distributions(config, draws):
    lr, seed = 1e-3, 5
    epoch, prior = two_minibatches(lr), build_prior(config, "cpu")
    state = initial_state(start(), Sgd(0.0))
    step = make_step(NETWORK, categorical, bbb(draws), prior, Sgd(0.0), INPUTS, LABELS, seed, epoch, state)
    step()
    step()

    mu, rho = (tensor.double().requires_grad_() for tensor in start())
    nlls = []
    for number, (rows, weight, rate) in enumerate([([3, 1, 4, 9, 5, 2, 6, 8], 2 / 3, lr), ([7, 0], 1 / 3, lr / 2)]):
        energy, posterior = torch.tensor(0.0).double(), torch.distributions.Normal(mu, F.softplus(rho))
        for draw in range(draws):
            w = mu + F.softplus(rho) * standard_normal(seed, number, draw, NETWORK.size).double()
            logits = NETWORK(w, INPUTS[rows].double())
            nll = F.cross_entropy(logits, LABELS[rows], reduction="sum")
            complexity = (posterior.log_prob(w) - prior.log_prob(w)).sum()
            energy = energy + (weight * complexity + nll) / draws
            nlls.append(nll.item() / draws)
        gradients = torch.autograd.grad(energy, (mu, rho))
        mu, rho = ((p - rate * g).detach().requires_grad_() for p, g in zip((mu, rho), gradients, strict=True))
    for ours, reference in zip(state.parameters, (mu, rho), strict=True):
        torch.testing.assert_close(ours.double(), reference.detach(), rtol=1e-4, atol=1e-5)
    assert state.nll.item() == pytest.approx(sum(nlls), rel=1e-5)
    assert state.step.item() == 2


def test_plain_sgd_step_equals_pytorch_on_the_summed_likelihood():
    epoch, state = two_minibatches(1e-2), initial_state(start(rho=None), Sgd(0.9))
    step = make_step(
        NETWORK, categorical, MaximumLikelihoodConfig(name="mle"), None, Sgd(0.9), INPUTS, LABELS, 0, epoch, state
    )
    weights = start(rho=None)[0].requires_grad_()
    reference = torch.optim.SGD([weights], lr=1e-2, momentum=0.9)
    for rows in ([3, 1, 4, 9, 5, 2, 6, 8], [7, 0]):
        reference.zero_grad()
        F.cross_entropy(NETWORK(weights, INPUTS[rows]), LABELS[rows], reduction="sum").backward()
        reference.step()
        step()
        for group in reference.param_groups:
            group["lr"] = 5e-3
    torch.testing.assert_close(state.parameters[0], weights.detach(), rtol=1e-5, atol=1e-6)


def test_dropout_with_rate_zero_is_plain_sgd_and_otherwise_unbiased():
    def after_a_step(network, likelihood, method, weights, seed):
        state, epoch = initial_state([weights.clone()], Sgd(0.0)), two_minibatches(1.0)
        make_step(network, likelihood, method, None, Sgd(0.0), INPUTS, LABELS, seed, epoch, state)()
        return state.parameters[0]

    [weights] = start(rho=None)
    plain = after_a_step(NETWORK, categorical, MaximumLikelihoodConfig(name="mle"), weights, 0)
    none = DropoutConfig(name="dropout", input_rate=0.0, hidden_rate=0.0)
    assert torch.equal(plain, after_a_step(NETWORK, categorical, none, weights, 0))

    # One linear layer under inverted dropout: the mean of the outputs, so of the gradient of a loss that is
    # linear in them, is that without dropout.
    linear, method = mlp(6, [], 3), DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5)
    [weights] = start(linear, rho=None)
    after = [after_a_step(linear, lambda out, _: out.sum(dim=1), method, weights, seed) for seed in range(2000)]
    draws = (weights - torch.stack(after)).double()
    rows = [3, 1, 4, 9, 5, 2, 6, 8]
    expected = torch.cat([INPUTS[rows].sum(dim=0).repeat(3), torch.full((3,), 8.0)]).double()
    error = (draws.mean(dim=0) - expected).abs()
    assert (error <= 5 * draws.std(dim=0) / math.sqrt(2000) + 1e-5).all()
    assert draws.std(dim=0)[:18].min() > 0.1


def test_dropout_masks_have_their_rates_and_differ_by_example_layer_and_step():
    widths = (6, 400, 300)

    def layers(affine, x):
        return sum(affine(number, torch.ones(8, width)) for number, width in enumerate(widths))

    # Example b's nll is output b, so the gradient's row b is example b's input: ones, masked.
    network = layered([shape for width in widths for shape in ((8, width), (8,))], layers)
    method = DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5)
    state, epoch = initial_state([torch.zeros(network.size)], PLAIN), two_minibatches(1.0)
    step = make_step(network, lambda y, _: y.diagonal(), method, None, PLAIN, INPUTS, LABELS, 0, epoch, state)
    seen = []
    for _ in range(2):
        state.parameters[0].zero_()
        epoch.position.zero_()
        step()
        seen.append([-part for part in network.unflatten(state.parameters[0].clone())[::2]])
    for masks in seen:
        for mask, rate in zip(masks, (0.2, 0.5, 0.5), strict=True):
            torch.testing.assert_close(mask.unique(), torch.tensor([0.0, 1 / (1 - rate)]))
        for mask in masks[1:]:
            assert abs((mask > 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(mask.numel())
            assert len(mask.unique(dim=0)) == 8
        assert not torch.equal(masks[1][:, :300], masks[2])
    assert not torch.equal(seen[0][1], seen[1][1])


def test_adam_equals_torch_adam():
    parameter, gradients = torch.randn(50), torch.randn(20, 50)
    reference = parameter.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.01, betas=(0.8, 0.99), eps=1e-6)
    slots = [torch.zeros(50), torch.zeros(50)]
    for step, gradient in enumerate(gradients):
        reference.grad = gradient
        optimizer.step()
        rates = Adam(0.8, 0.99, 1e-6).rates(torch.tensor([0.01], dtype=torch.float64), step)
        Adam(0.8, 0.99, 1e-6).update(parameter, gradient, slots, rates[0].float())
    torch.testing.assert_close(parameter, reference.detach(), rtol=1e-5, atol=1e-6)


def test_the_configuration_names_its_optimizer():
    shared = {"lr": 0.1, "schedule": Schedule.constant, "decay_epochs": 1, "decay_factor": 1.0}
    assert build_optimizer(SgdConfig(name="sgd", momentum=0.5, **shared)) == Sgd(0.5)
    adam = AdamConfig(name="adam", beta1=0.8, beta2=0.9, epsilon=1e-3, **shared)
    assert build_optimizer(adam) == Adam(0.8, 0.9, 1e-3)


def test_learning_rate_schedules():
    def rates(schedule, epoch):
        config = SgdConfig(name="sgd", momentum=0.0, lr=0.8, schedule=schedule, decay_epochs=2, decay_factor=0.5)
        return learning_rates(config, epoch, 4, 5)

    assert rates(Schedule.constant, 3).tolist() == [0.8] * 5
    assert [rates(Schedule.step, epoch)[0].item() for epoch in range(4)] == pytest.approx([0.8, 0.8, 0.4, 0.4])
    inverse = torch.cat([rates(Schedule.inverse, epoch) for epoch in range(5)])
    torch.testing.assert_close(inverse[[0, 10, 20]], torch.tensor([0.8, 0.4, 0.8 / 3], dtype=torch.float64))
    assert (inverse.diff() < 0).all()
    cosine = torch.cat([rates(Schedule.cosine, epoch) for epoch in range(4)])
    assert cosine[0] == 0.8
    assert cosine[10] == pytest.approx(0.4)
    assert (cosine.diff() < 0).all()
    assert 0 < cosine[-1] < 0.01


def test_any_module_can_be_made_bayesian():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    network, weights = from_module(module)
    assert network.size == sum(parameter.numel() for parameter in module.parameters())
    torch.testing.assert_close(network(weights, INPUTS), module(INPUTS))
    state = initial_state([weights, torch.full_like(weights, -4.0)], ADAM)
    epoch = two_minibatches(0.03, ADAM)
    epoch.numbers[:, 0].mul_(1e-3)
    step = make_step(
        network,
        categorical,
        bbb(),
        build_prior(GAUSSIAN, "cpu"),
        ADAM,
        INPUTS,
        LABELS,
        0,
        epoch,
        state,
    )
    before = F.cross_entropy(network(weights.clone(), INPUTS), LABELS)
    for _ in range(60):
        epoch.position.zero_()
        step()
        step()
    after = F.cross_entropy(network(DiagonalGaussian(*state.parameters).mu, INPUTS), LABELS)
    assert after < 0.5 * before


def test_a_module_with_state_is_refused():
    with pytest.raises(ValueError, match="buffers"):
        from_module(nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="drops out"):
        from_module(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
    from_module(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).eval())


def test_dropout_needs_a_network_of_affine_maps():
    network, weights = from_module(nn.Linear(6, 3))
    method = DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5)
    state = initial_state([weights], Sgd(0.0))
    with pytest.raises(UserError, match="method=dropout needs a network of affine maps"):
        make_step(network, categorical, method, None, Sgd(0.0), INPUTS, LABELS, 0, two_minibatches(1.0), state)


def test_initial_weights():
    network = mlp(400, [300], 10)
    first, bias, *_ = network.unflatten(initial_weights(network, Init.he, 2.0, 1))
    assert first.std().item() == pytest.approx(2 * math.sqrt(2 / 400), rel=0.02)
    assert (bias == 0).all()
    uniform = network.unflatten(initial_weights(network, Init.uniform, 0.03, 1))[0]
    assert uniform.abs().max() <= 0.03
    assert uniform.std().item() == pytest.approx(0.03 / math.sqrt(3), rel=0.02)
    assert not torch.equal(initial_weights(network, Init.he, 1.0, 1), initial_weights(network, Init.he, 1.0, 2))


@pytest.mark.slow
def test_what_compiles_does_not_grow_with_the_draws():
    def operations(draws: int) -> int:
        graphs: list[torch.fx.GraphModule] = []

        def keep(graph, _):
            graphs.append(graph)
            return graph.forward

        torch.compiler.reset()
        state, epoch = initial_state(start(), ADAM), two_minibatches(1e-3, ADAM)
        step = make_step(
            NETWORK, categorical, bbb(draws), build_prior(MIXTURE, "cpu"), ADAM, INPUTS, LABELS, 0, epoch, state
        )
        step.wrapped(lambda function: torch.compile(function, backend=keep, fullgraph=True))()
        return sum(len(graph.graph.nodes) for graph in graphs)

    ten = operations(10)
    assert ten == operations(1000)
    assert ten < 1.5 * operations(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        bbb(2),
        bbb(6, Estimator.flipout),
        bbb(2, Estimator.local),
        bbb(2, Estimator.flipout),
        DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5),
    ],
)
def test_the_compiled_step_equals_the_eager_one(method):
    network = mlp(6, [5], 3)  # a third layer takes a third of the time and shows nothing that a second does not
    bayes = isinstance(method, BayesByBackpropConfig)
    prior = build_prior(MIXTURE, "cpu") if bayes else None
    results = []
    for compile_it in (False, True):
        state, epoch = (
            initial_state(start(network, rho=-3.0 if bayes else None), ADAM),
            two_minibatches(1e-3, ADAM),
        )
        step = make_step(network, categorical, method, prior, ADAM, INPUTS, LABELS, 0, epoch, state)
        if compile_it:
            step = step.wrapped(compiled)
        step()
        step()
        results.append(torch.cat([*state.parameters, state.nll.float()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_compiled_steps_in_one_process_keep_apart():
    states, prior = [], build_prior(GAUSSIAN, "cpu")
    for seed, lr in ((0, 1e-3), (1, 1e-2)):
        state, epoch = initial_state(start(), PLAIN), two_minibatches(lr)
        eager = initial_state(start(), PLAIN), two_minibatches(lr)
        steps = [
            make_step(NETWORK, categorical, bbb(), prior, PLAIN, INPUTS, LABELS, seed, where, what)
            for what, where in ((state, epoch), eager)
        ]
        for step in (steps[0].wrapped(compiled), steps[1]):
            step()
            step()
        torch.testing.assert_close(state.parameters[0], eager[0].parameters[0], rtol=1e-4, atol=1e-6)
        states.append(state)
    assert not torch.allclose(states[0].parameters[0], states[1].parameters[0])


@pytest.mark.slow
@pytest.mark.usefixtures("fast_onednn")
def test_a_compiled_step_of_large_products_equals_the_eager_one():
    network, prior = mlp(6, [1200, 1200], 3), build_prior(MIXTURE, "cpu")
    results = []
    for wrap in (compiled, lambda function: function):
        state, epoch = initial_state(start(network), PLAIN), two_minibatches(1e-3)
        step = make_step(network, categorical, bbb(), prior, PLAIN, INPUTS, LABELS, 0, epoch, state).wrapped(wrap)
        # Once: of a million ReLUs some stand so near 0 that a second step would go another way.
        with torch.profiler.profile(acc_events=True) as profile:
            step()
        called = {event.key for event in profile.key_averages()}
        assert ("bbbrun::product" in called) == (wrap is compiled and large_product() is not None)
        results.append(torch.cat([*state.parameters, state.nll.float()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
