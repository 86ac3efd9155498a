"""Every option has one name, in all the places where it has one; and what experiments, methods and priors go together.

To add an option is to add its YAML, its dataclass and its row in the code: nothing here.
"""

from collections.abc import Iterable
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest
from hydra.conf import HydraConf
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from bbbrun.bayes.methods import METHODS as METHODS_TABLE
from bbbrun.bayes.networks import NETWORKS
from bbbrun.bayes.priors import PRIORS as PRIORS_TABLE
from bbbrun.data.images import IMAGES
from bbbrun.data.mnist import IDX
from bbbrun.errors import UserError
from bbbrun.schema.config import OPTIONS, Config, composed
from bbbrun.schema.datasets import ImageDatasetConfig, MnistConfig
from bbbrun.training.optimizers import OPTIMIZERS

CONFIGS = Path(str(resources.files("bbbrun.configs")))

# group -> the names in the table by which the code finds what the option names. A row for each table that there is.
TABLES: dict[str, Iterable[str]] = {
    "method": METHODS_TABLE,
    "network": NETWORKS,
    "prior": PRIORS_TABLE,
    "optimizer": OPTIMIZERS,
}


def names(group: str) -> list[str]:
    """The options that a folder of YAML files holds."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


EXPERIMENTS, METHODS, PRIORS = names("experiment"), names("method"), names("prior")
OPTION = [(group, name) for group in OPTIONS for name in names(group)]


# Experiments that set a number of one option of a group refuse the other options of it.
ONE_OPTION = {
    ("mnist_gaussian", "method"): "bbb",
    ("mnist_gaussian", "prior"): "gaussian",
    ("mnist_tempered", "method"): "bbb",
    ("regression_mle", "optimizer"): "adam",
    ("bandit", "agent"): "contextual",
    ("wheel", "agent"): "contextual",
}


def pairs(group: str) -> list[tuple[str, str]]:
    """The experiments with the options of a group that they go with."""
    return [
        (each, name) for each in EXPERIMENTS for name in names(group) if ONE_OPTION.get((each, group), name) == name
    ]


def validated(*words: str) -> Config:
    """The configuration that `words` compose; raises UserError where it is refused."""
    config = OmegaConf.to_object(composed(words))
    assert isinstance(config, Config)
    return config


def refusal(*words: str) -> str:
    """The one line with which `words` are refused."""
    with pytest.raises(UserError) as refused:
        validated(*words)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize("group", OPTIONS)
def test_the_options_of_a_group_are_its_files(group):
    assert sorted(OPTIONS[group]) == names(group)
    assert sorted(TABLES.get(group, OPTIONS[group])) == names(group)


def test_every_data_set_of_images_has_its_row():
    assert set(IMAGES) == {name for name, kind in OPTIONS["dataset"].items() if issubclass(kind, ImageDatasetConfig)}
    assert set(IDX) == {name for name, kind in OPTIONS["dataset"].items() if kind is MnistConfig}


def test_every_folder_of_options_is_a_group():
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*OPTIONS, "experiment", "experiment_for", "hydra"}
    # Hydra's own groups: launchers, which want extras.
    assert {path.name for path in (CONFIGS / "hydra").iterdir() if path.is_dir()} == {"launcher"}
    assert set(TABLES) <= set(OPTIONS)


@pytest.mark.parametrize(("group", "name"), OPTION)
def test_an_option_is_called_what_its_file_is(group, name):
    part = composed([f"{group}={name}"])[group]
    assert OmegaConf.get_type(part) is OPTIONS[group][name]
    assert part.name == name


def test_what_an_experiment_sets_for_one_option_is_for_one_that_there_is():
    for path in (CONFIGS / "experiment_for").rglob("*.yaml"):
        ends = [name for name in names(path.parent.name) if path.stem.endswith(f"_{name}")]
        assert any(path.stem.removesuffix(f"_{name}") in EXPERIMENTS for name in ends)


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "method"), pairs("method"))
def test_every_experiment_goes_with_every_method(experiment, method):
    config = validated(f"experiment={experiment}", f"method={method}")
    assert (config.name, config.method.name) == (experiment, method)
    assert (config.prior.name == "none") == (method != "bbb")
    assert (config.agent.name == "none") == (config.train.epochs is not None)


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "prior"), [pair for pair in pairs("prior") if pair[1] != "none"])
def test_every_experiment_goes_with_every_prior(experiment, prior):
    # An experiment of a baseline chooses a method that has none.
    words = (f"experiment={experiment}", f"prior={prior}")
    if composed(words[:1]).prior.name == "none":
        assert f"prior={prior} has no effect with method=" in refusal(*words)
    else:
        assert validated(*words).prior.name == prior


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_goes_with_a_method_that_has_one(method, prior):
    words = (f"method={method}", f"prior={prior}")
    if (prior == "none") == (method != "bbb"):
        assert validated(*words).prior.name == prior
    else:
        line = refusal(*words)
        assert f"method={method}" in line
        assert "prior" in line


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_agent_goes_with_a_bandit_alone(experiment):
    own = composed([f"experiment={experiment}"]).agent.name
    for agent in set(names("agent")) - {own} if (experiment, "agent") not in ONE_OPTION else ():
        line = refusal(f"experiment={experiment}", f"agent={agent}")
        assert line.startswith(f"agent must be {own} with dataset=")


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "optimizer"), pairs("optimizer"))
def test_every_experiment_goes_with_every_optimizer(experiment, optimizer):
    assert validated(f"experiment={experiment}", f"optimizer={optimizer}").optimizer.name == optimizer


@pytest.mark.parametrize(("experiment", "group"), ONE_OPTION)
def test_an_experiment_that_sets_a_number_of_one_option_refuses_the_others(experiment, group):
    for name in set(names(group)) - {ONE_OPTION[experiment, group]}:
        with pytest.raises(ConfigCompositionException, match=r"Key '.*' not in "):
            composed([f"experiment={experiment}", f"{group}={name}"])


def test_the_keys_under_hydra_are_hydras_own():
    """hydra_logging, job_logging and the others there: no module of bbbrun reads them."""
    assert set(OmegaConf.load(CONFIGS / "config.yaml")["hydra"]) <= {field.name for field in fields(HydraConf)}


def test_the_keys_of_the_slurm_launcher_are_submitits():
    """timeout_min, signal_delay_s, max_num_timeout, stderr_to_stdout: the launcher hands them to Slurm."""
    launcher = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    keys = set(OmegaConf.load(CONFIGS / "hydra" / "launcher" / "slurm.yaml")) - {"defaults"}
    assert keys == {"timeout_min", "signal_delay_s", "max_num_timeout", "stderr_to_stdout"}
    assert keys <= {field.name for field in fields(launcher.SlurmQueueConf)}
