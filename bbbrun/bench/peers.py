"""Other packages' Bayes by Backprop, built as their own documentation does; `pip install .[peers]` installs them.

Only their time is compared. Each scales its complexity as its documentation does, beside a summed loss.
A builder takes the network's widths and the number of training examples, and returns the module to train and its
objective: (inputs, targets, loss, draws) -> a number to differentiate.
"""

import importlib.util
import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
Built = tuple[nn.Module, Callable[[Tensor, Tensor, Loss, int], Tensor]]


def _relu_between(layers: Sequence[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def _blitz(widths: list[int], examples: int) -> Built:
    """BLiTZ: `variational_estimator` and `sample_elbo`; its prior is a scale mixture."""
    from blitz.modules import BayesianLinear
    from blitz.utils import variational_estimator

    @variational_estimator
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = _relu_between([BayesianLinear(*pair) for pair in itertools.pairwise(widths)])

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layers(x)
            return outputs

    network = Network()

    def objective(x: Tensor, y: Tensor, loss: Loss, draws: int) -> Tensor:
        # The decorator adds the method.
        sample_elbo: Callable[..., Tensor] = network.sample_elbo  # type: ignore[assignment]
        return sample_elbo(inputs=x, labels=y, criterion=loss, sample_nbr=draws, complexity_cost_weight=1 / examples)

    return network, objective


def _bayesian_torch(widths: list[int], examples: int) -> Built:
    """Bayesian-Torch: `dnn_to_bnn` and `get_kl_loss`; a Gaussian prior, in closed form."""
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss

    network = _relu_between([nn.Linear(*pair) for pair in itertools.pairwise(widths)])
    settings = {
        "prior_mu": 0.0,
        "prior_sigma": 1.0,
        "posterior_mu_init": 0.0,
        "posterior_rho_init": -3.0,
        "type": "Reparameterization",
        "moped_enable": False,
        "moped_delta": 0.5,
    }
    dnn_to_bnn(network, settings)

    def objective(x: Tensor, y: Tensor, loss: Loss, draws: int) -> Tensor:
        nll = sum((loss(network(x), y) for _ in range(draws)), start=x.new_zeros(()))
        kl: Tensor = get_kl_loss(network)
        return nll / draws + kl / len(x)

    return network, objective


def _torchbnn(widths: list[int], examples: int) -> Built:
    """torchbnn: `BayesLinear` and `BKLLoss`; a Gaussian prior, in closed form."""
    import torchbnn

    layers = [
        torchbnn.BayesLinear(prior_mu=0, prior_sigma=0.1, in_features=width_in, out_features=width_out)
        for width_in, width_out in itertools.pairwise(widths)
    ]
    network = _relu_between(layers)
    complexity = torchbnn.BKLLoss(reduction="mean", last_layer_only=False)

    def objective(x: Tensor, y: Tensor, loss: Loss, draws: int) -> Tensor:
        nll = sum((loss(network(x), y) for _ in range(draws)), start=x.new_zeros(()))
        kl: Tensor = complexity(network)
        return nll / draws + 0.01 * kl

    return network, objective


def peers() -> dict[str, Callable[[list[int], int], Built]]:
    """The builders of the packages that are installed, by name."""
    builders = {"blitz": ("BLiTZ", _blitz), "bayesian_torch": ("Bayesian-Torch", _bayesian_torch)}
    builders |= {"torchbnn": ("torchbnn", _torchbnn)}
    return {f"bbb, {name}": build for package, (name, build) in builders.items() if importlib.util.find_spec(package)}
