"""Bayes by Backprop (Blundell et al., 2015): the public API, names only. Nothing heavy loads before it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bbbrun.api import TrainedRun, compose, fit, load_runs, predict, run
    from bbbrun.bayes import likelihoods, priors

_MODULES = {"likelihoods": "bbbrun.bayes.likelihoods", "priors": "bbbrun.bayes.priors"}
__all__ = ["TrainedRun", "compose", "fit", "likelihoods", "load_runs", "predict", "priors", "run"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        return import_module("importlib.metadata").version("bbbrun")
    if name in __all__:
        return getattr(import_module("bbbrun.api"), name)
    raise AttributeError(f"module 'bbbrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
