"""`scripts/bench`: the median training step of plain SGD, dropout and Bayes by Backprop, interleaved in one process."""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from bbbrun.agents import gaussian_nll
from bbbrun.classification import categorical_nll
from bbbrun.config import Device
from bbbrun.devices import choose_device, compiled, keep_freed_memory, set_threads, synchronize
from bbbrun.errors import UserError
from bbbrun.networks import initial_weights, mlp
from bbbrun.optimizers import Sgd
from bbbrun.options import (
    BayesByBackpropConfig,
    DropoutConfig,
    Estimator,
    GaussianPriorConfig,
    Init,
    MethodConfig,
    MinibatchWeights,
    PriorConfig,
    ScaleMixtureConfig,
    SgdMethodConfig,
)
from bbbrun.priors import build_prior
from bbbrun.step import Epoch, initial_state, make_step

_MINIBATCHES = 32
_LR = 1e-6  # small, so that weights and timings stay where they start however many steps are timed

Contender = Callable[[], None]


def pytorch_step(widths: list[int], inputs: torch.Tensor, labels: torch.Tensor, batch: int, dropout: bool) -> Contender:
    """One eager step as a PyTorch user writes it: nn.Linear, nn.Dropout, cross entropy, torch.optim.SGD."""
    layers: list[nn.Module] = [nn.Dropout(0.2)] if dropout else []
    for width_in, width_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()] + ([nn.Dropout(0.5)] if dropout else [])
    network = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1])).to(inputs.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=_LR)
    batches = list(zip(inputs.split(batch), labels.split(batch), strict=True))
    count = 0

    def step() -> None:
        nonlocal count
        x, y = batches[count % _MINIBATCHES]
        count += 1
        optimizer.zero_grad()
        output = network(x)
        loss = (
            0.5 * (output[:, 0] - y).square().sum() if widths[-1] == 1 else F.cross_entropy(output, y, reduction="sum")
        )
        loss.backward()
        optimizer.step()

    return step


def bbbrun_step(
    widths: list[int],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    batch: int,
    method: MethodConfig,
    prior: PriorConfig | None,
) -> Contender:
    """One compiled step of this package, momentum-free SGD."""
    device = inputs.device
    network = mlp(widths[0], widths[1:-1], widths[-1])
    weights = initial_weights(network, Init.he, 1.0, seed=0).to(device)
    bayes = isinstance(method, BayesByBackpropConfig)
    parameters = [weights, torch.full_like(weights, -5.0)] if bayes else [weights]
    optimizer = Sgd(momentum=0.0)
    state = initial_state(parameters, optimizer)
    epoch = Epoch(
        order=torch.arange(_MINIBATCHES * batch, device=device).view(_MINIBATCHES, batch),
        present=torch.ones(_MINIBATCHES, batch, device=device),
        numbers=torch.tensor([[1 / _MINIBATCHES, _LR]], device=device).repeat(_MINIBATCHES, 1),
        position=torch.zeros(1, dtype=torch.int64, device=device),
    )
    built = build_prior(prior, device) if prior else None
    likelihood = gaussian_nll(1.0) if widths[-1] == 1 else categorical_nll
    step = compiled(make_step(network, likelihood, method, built, optimizer, inputs, labels, 0, epoch, state))
    count = 0

    def timed() -> None:
        nonlocal count
        if count % _MINIBATCHES == 0:
            epoch.position.zero_()
        count += 1
        step()

    return timed


def contenders(widths: list[int], batch: int, draws: int, device: torch.device) -> dict[str, Contender]:
    """Every step that is timed, by name."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(_MINIBATCHES * batch, widths[0], generator=generator).to(device)
    count = _MINIBATCHES * batch
    # One output is a regression, as the bandit's; several are classes.
    if widths[-1] == 1:
        labels = torch.randn(count, generator=generator)
    else:
        labels = torch.randint(widths[-1], (count,), generator=generator)
    labels = labels.to(device)
    bbb = BayesByBackpropConfig(
        name="bbb",
        train_samples=draws,
        test_samples=1,
        estimator=Estimator.weights,
        minibatch_weights=MinibatchWeights.uniform,
        temperature=1.0,
        rho_init=[-5.0, -5.0],
    )
    mixture = ScaleMixtureConfig(name="scale_mixture", pi=0.5, sigma1=1.0, sigma2=0.0025)
    gaussian = GaussianPriorConfig(name="gaussian", sigma=0.37)
    dropout = DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5)
    data = (widths, inputs, labels, batch)
    return {
        "sgd, PyTorch eager": pytorch_step(*data, dropout=False),
        "dropout, PyTorch eager": pytorch_step(*data, dropout=True),
        "sgd, bbbrun": bbbrun_step(*data, SgdMethodConfig(name="sgd"), None),
        "dropout, bbbrun": bbbrun_step(*data, dropout, None),
        "bbb scale_mixture, bbbrun": bbbrun_step(*data, bbb, mixture),
        "bbb gaussian, bbbrun": bbbrun_step(*data, bbb, gaussian),
    }


def measure(steps: dict[str, Contender], rounds: int, device: torch.device) -> pd.DataFrame:
    """Median milliseconds of each step over `rounds` rounds of one step each, and its ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name in steps:
        for _ in range(3):
            steps[name]()
    for _ in trange(rounds, disable=None, unit="round"):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    rows = [(name, median, median / first) for name, median in medians.items()]
    return pd.DataFrame(rows, columns=["step", "median_ms", "ratio_to_eager_sgd"])


def main() -> None:
    """Print the table, and write it as CSV where --output names a file."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--network", default="784-1200-1200-10", help="widths, inputs to outputs; the bandit's is 119-100-100-1"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--draws", type=int, default=1, help="method.train_samples")
    parser.add_argument("--rounds", type=int, default=100, help="timed steps of each")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", help="a CSV file to write")
    arguments = parser.parse_args()
    keep_freed_memory()
    threads = set_threads(arguments.threads)
    try:
        device = choose_device(Device(arguments.device))
        widths = [int(width) for width in arguments.network.split("-")]
    except (UserError, ValueError) as error:
        parser.error(str(error))
    if len(widths) < 2 or min([*widths, arguments.batch, arguments.draws, arguments.rounds]) < 1:
        parser.error("--network takes at least two widths, and every number must be at least 1")
    table = measure(contenders(widths, arguments.batch, arguments.draws, device), arguments.rounds, device)
    print(f"{arguments.network}, batch {arguments.batch}, {arguments.draws} draw(s), {device}, {threads} thread(s)")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    if arguments.output:
        table.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
