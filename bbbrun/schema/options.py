"""The options of each group of the configuration, by name, and an option out of a record."""

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.schema.datasets import (
    ContextualAgentConfig,
    DigitsConfig,
    MnistConfig,
    MushroomConfig,
    NoAgentConfig,
    RegressionCurveConfig,
    WheelConfig,
)
from bbbrun.schema.methods import (
    BayesByBackpropConfig,
    DropoutConfig,
    GaussianPriorConfig,
    LaplacePriorConfig,
    MaximumLikelihoodConfig,
    MlpConfig,
    MonteCarloDropoutConfig,
    NoPriorConfig,
    ScaleMixtureConfig,
)
from bbbrun.schema.optimizers import AdamConfig, SgdConfig

# group -> option -> dataclass: each option's YAML composes its dataclass from here and fills in the values.
OPTIONS: dict[str, dict[str, type[Any]]] = {
    "dataset": {
        "mnist": MnistConfig,
        "digits": DigitsConfig,
        "regression_curve": RegressionCurveConfig,
        "mushroom": MushroomConfig,
        "wheel": WheelConfig,
    },
    "network": {"mlp": MlpConfig},
    "method": {
        "bbb": BayesByBackpropConfig,
        "mle": MaximumLikelihoodConfig,
        "dropout": DropoutConfig,
        "mc_dropout": MonteCarloDropoutConfig,
    },
    "prior": {
        "scale_mixture": ScaleMixtureConfig,
        "gaussian": GaussianPriorConfig,
        "laplace": LaplacePriorConfig,
        "none": NoPriorConfig,
    },
    "optimizer": {"sgd": SgdConfig, "adam": AdamConfig},
    "agent": {"none": NoAgentConfig, "contextual": ContextualAgentConfig},
}


def option(group: str, values: dict[str, Any]) -> Any:
    """The option of `group` that a record holds as plain values, typed and checked.

    Raises UserError where this version has no such option, or not with these keys and values.
    """
    kind = OPTIONS[group].get(str(values.get("name")))
    if kind is None:
        raise UserError(f"{group}={values.get('name')} is not among {', '.join(OPTIONS[group])}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        raise UserError(f"{group}={values.get('name')} of another version of bbbrun: {error}") from error
