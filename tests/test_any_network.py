"""A network that is not all affine maps: trained where the method can, else refused before any file is written."""

import pandas as pd
import pytest

import bbbrun
from bbbrun.bayes import networks
from bbbrun.bench.measure import step_ms
from bbbrun.bench.variance import variances
from bbbrun.errors import UserError
from bbbrun.training import trainer

SHORT = {
    "digits": "train.epochs=2",
    "regression": "train.epochs=20 train.evaluate_every=10 method.test_samples=3",
    "wheel": "agent.steps=40 agent.updates=1 train.evaluate_every=20",
}
COMMON = "network.hidden=[8] compile=false threads=1 device=cpu"
REFUSED = ["method.estimator=local", "method.estimator=flipout", "method=dropout", "method=mc_dropout"]


@pytest.fixture
def plain_network(monkeypatch):
    """network=mlp, of which no more is known than its outputs."""
    build = networks.NETWORKS["mlp"]
    monkeypatch.setitem(networks.NETWORKS, "mlp", lambda *words: build(*words)._replace(layers=None))


def run(folder, experiment, *words):
    return bbbrun.run(bbbrun.compose(f"experiment={experiment}", *COMMON.split(), *words), folder)


@pytest.mark.parametrize("word", REFUSED)
@pytest.mark.parametrize("experiment", SHORT)
def test_a_method_that_takes_layers_apart_refuses_it_and_leaves_no_folder(plain_network, tmp_path, experiment, word):
    maps = "affine maps and convolutions" if word.endswith("flipout") else "affine maps alone"
    remedy = "; method.estimator=weights takes any network" if "estimator" in word else ""
    with pytest.raises(UserError, match=f"^{word} needs a network of {maps}, such as network=mlp{remedy}$"):
        run(tmp_path / "run", experiment, word)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", SHORT)
def test_the_others_train_it(request, tmp_path, experiment):
    words = SHORT[experiment].split()
    expected = run(tmp_path / "layers", experiment, *words)
    request.getfixturevalue("plain_network")
    result = run(tmp_path / "plain", experiment, *words)
    tables = [each.metrics().drop(columns="seconds") for each in (result, expected)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)


def test_the_variance_of_its_gradients_is_that_of_the_estimator_it_has(plain_network, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "should_compile", lambda *_: (False, ""))
    folder = run(tmp_path / "run", "digits", *SHORT["digits"].split()).folder

    def cost(config, task, estimator):
        return step_ms(2, config, task, estimator)

    table = variances(folder, 3, cost)
    assert table[["at", "estimator"]].to_numpy().tolist() == [["initialisation", "weights"], ["trained", "weights"]]
    assert (table[["variance_mu", "variance_rho", "step_ms"]] > 0).all(axis=None)
