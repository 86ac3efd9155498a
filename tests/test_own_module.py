"""network=module: any stateless module by name, parts of it without a posterior, weights to start from, and --trust."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import bbbrun
from bbbrun.bayes.draws import Draws
from bbbrun.bayes.methods import build_method
from bbbrun.bayes.modules import made_module
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import build_prior
from bbbrun.errors import UserError
from bbbrun.runtime.imports import imported
from bbbrun.schema.config import composed, validated
from bbbrun.tasks.kinds import predictor
from bbbrun.verbs import export as program

SOURCE = """
from pathlib import Path

import torch
from torch import nn

Path("imported").touch()

def make(width=6, outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, outputs))

def normalised():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

def dropped():
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10))

class Grey(nn.Embedding):
    # Takes what its data have alone: whole grey levels, none of them below 0.
    def __init__(self):
        super().__init__(17, 10)
    def forward(self, x):
        return super().forward(x.flatten(1).long()).mean(1)

class Called(nn.Linear):
    # What a list of the module's parts does not show.
    def __init__(self, what):
        super().__init__(64, 10)
        self.what = what
    def forward(self, x):
        x = super().forward(x.flatten(1))
        return nn.functional.dropout(x, 0.5, True) if self.what == "dropout" else x - x.mean(0)

def recurrent():
    return nn.Sequential(nn.Flatten(), nn.LSTM(64, 10, num_layers=2, dropout=0.1))

def single():
    return nn.Sequential(nn.Flatten(), Last(64, 10, dropout=0.1), nn.Linear(10, 10))

class Attending(nn.Module):
    # With dropout layers whose rate is 0, as PyTorch makes them.
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.TransformerEncoderLayer(8, 2, 4, dropout=0.0, batch_first=True), nn.Linear(8, 10)
    def forward(self, x):
        return self.head(self.body(x.flatten(1, 2)).mean(1))

class Last(nn.RNN):
    # A layer alone, which does not drop out.
    def forward(self, x):
        return super().forward(x)[0]

def attending():
    return nn.MultiheadAttention(8, 2, dropout=0.1)

class Double(nn.Linear):
    def __init__(self):
        super().__init__(64, 10, dtype=torch.float64)
    def forward(self, x):
        return super().forward(x.flatten(1).double())

def nothing():
    return 3

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight
    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 5), nn.Linear(5, 10)
    def forward(self, x):
        return self.head(torch.relu(self.body(x.flatten(1))))
"""
WORDS = ("experiment=digits", "network=module", "train.epochs=2", "compile=false", "threads=1")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's own in the current folder."""
    (tmp_path / "own_networks.py").write_text(SOURCE)
    (tmp_path / "own_program.py").write_text("import sys\nsys.exit()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    yield tmp_path
    sys.modules.pop("own_networks", None)


def trained(folder, *words, target="own_networks.make"):
    return bbbrun.run(bbbrun.compose(*WORDS, f"network.target={target}", *words), folder / "run")


def test_it_is_trained_from_its_own_start_and_predicts_what_it_gives(mine):
    run = trained(mine, "network.args={width:4}", "seed=3")
    options = run._record.network()
    torch.manual_seed(3)
    expected = made_module(options, 3)
    start = torch.cat([p.detach().flatten() for p in expected.parameters()])
    network = predictor(run._record).network
    assert torch.equal(network.start(3), start)
    assert not torch.equal(network.start(4), start)
    images = np.random.default_rng(0).uniform(0, 16, (5, 8, 8)).astype(np.float32)
    nn.utils.vector_to_parameters(run.posterior().mu, expected.parameters())
    probabilities = expected(torch.from_numpy(images[:, None]) / 8).softmax(dim=1).detach()
    np.testing.assert_allclose(run.predict(images, mean=True)[[f"p{k}" for k in range(10)]], probabilities, atol=1e-5)


def test_parameters_named_by_a_pattern_have_no_posterior(mine):
    run = trained(mine, "network.deterministic=['body.*']", target="own_networks.Two")
    network, posterior = predictor(run._record).network, run.posterior()
    body = network.random == 0
    assert body.sum() == 65 * 5
    samples = torch.stack([Draws(0, 0, 3).sample(posterior, number)[0] for number in range(3)])
    assert torch.equal(samples[0][body], posterior.mu[body])
    assert torch.equal(samples[0][body], samples[2][body])
    assert (samples[0] != samples[2])[~body].all()
    assert (posterior.mu != network.start(0))[body].float().mean() > 0.8  # it learns
    # Their part of the complexity is nothing: that of the head's 60 weights alone.
    method = build_method(validated(composed([*WORDS, "network.target=own_networks.Two"])).method)
    prior = build_prior(validated(composed(WORDS)).prior, torch.device("cpu"))
    row = method.row(network, list(posterior), prior, 0.0, Draws(0, 7, 1))
    eps = Draws(0, 7, 1).sample(posterior, 0)[1][~body].double()
    mu, sigma = posterior.mu[~body].double(), posterior.sigma[~body].double()
    w = mu + sigma * eps
    expected = torch.distributions.Normal(mu, sigma).log_prob(w).sum() - prior.log_prob(w).sum()
    assert row["complexity"] == pytest.approx(expected.item(), rel=1e-4)


def test_training_starts_from_weights_in_a_file(mine):
    module = made_module(validated(composed([*WORDS, "network.target=own_networks.make"])).network, 9)
    torch.save(module.state_dict(), mine / "start.pt")
    run = trained(mine, "network.weights=start.pt", "optimizer.lr=1e-12")
    start = torch.cat([p.detach().flatten() for p in module.parameters()])
    torch.testing.assert_close(run.posterior().mu, start, atol=1e-6, rtol=0)


def test_members_of_an_ensemble_that_would_stay_equal_are_refused(mine):
    module = made_module(validated(composed([*WORDS, "network.target=own_networks.make"])).network, 9)
    torch.save(module.state_dict(), mine / "start.pt")
    words = ("method=ensemble", "method.members=2")
    with pytest.raises(UserError, match="its members would start from the same weights and stay equal"):
        trained(mine, "network.weights=start.pt", *words)
    assert not (mine / "run").exists()
    [members] = trained(mine, *words).parameters()
    assert not torch.equal(*members.view(2, -1))


FAULTS = {
    "nothing named": ((), None, "network.target must be package.factory"),
    "no such package": ((), "no_such_package.make", "network.target=no_such_package.make cannot be imported: Module"),
    "a program": ((), "own_program.make", "network.target=own_program.make cannot be imported: SystemExit"),
    "no such name": ((), "own_networks.other", "network.target=own_networks.other cannot be imported: Attribute"),
    "other arguments": (("network.args={depth:3}",), "own_networks.make", "unexpected keyword argument 'depth'"),
    "other outputs": (("network.args={outputs:7}",), "own_networks.make", "must make outputs (N, 10) of inputs"),
    "other numbers": ((), "own_networks.Double", "own_networks.Double: RuntimeError: mat1 and mat2 must"),
    "no module": ((), "own_networks.nothing", "it makes no torch.nn.Module, but int"),
    "buffers": ((), "own_networks.normalised", "has buffers (1.running_mean, 1.running_var, 1.num_batches_tracked)"),
    "dropout": ((), "own_networks.dropped", "the module drops out at random"),
    "dropout between layers": ((), "own_networks.recurrent", "the module drops out at random"),
    "dropout of attention": ((), "own_networks.attending", "the module drops out at random"),
    "dropout within": (
        ("network.args={what:dropout}",),
        "own_networks.Called",
        "outputs differ between two calls",
    ),
    "the batch's mean": (("network.args={what:mean}",), "own_networks.Called", "depends on the other inputs of its"),
    "an error on the data": (("dataset.pixel_divisor=0.1",), "own_networks.Grey", "IndexError: index out of range"),
    "no such pattern": (("network.deterministic=['x.*']",), "own_networks.Two", "'x.*' is none of the parameters body"),
    "all single": (("network.deterministic=['*']",), "own_networks.Two", "leaves no parameter a posterior"),
    "no file": (("network.weights=no.pt",), "own_networks.Two", "network.weights=no.pt: there is no such file"),
    "no weights": (("network.weights=own_networks.py",), "own_networks.Two", "is no state dict that can be read"),
    "other weights": (("network.weights=other.pt",), "own_networks.Two", "network.weights=other.pt does not fit"),
    "local": (("method.estimator=local",), "own_networks.Two", "method.estimator=weights takes any network"),
}


def test_a_rate_that_drops_nothing_is_trained_with(mine):
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        trained(mine, target="own_networks.single")
    trained(mine / "attending", target="own_networks.Attending")


def test_a_module_may_rely_on_the_range_of_its_data(mine):
    trained(mine, "dataset.pixel_divisor=1", target="own_networks.Grey")


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_trained_is_refused_in_a_line_and_leaves_no_folder(mine, name):
    words, target, message = FAULTS[name]
    torch.save({"a": torch.zeros(1)}, mine / "other.pt")
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        trained(mine, *words, target=target or "null")
    assert message in str(error.value)
    assert not (mine / "run").exists()


def test_a_name_that_is_none_and_a_pattern_without_a_posterior_are_refused():
    for words, message in (
        (("network.target='a b.c'",), "network.target must be package.factory"),
        (("network.deterministic=[a]", "method=mle"), "network.deterministic has no effect with method=mle"),
    ):
        with pytest.raises(UserError, match=message):
            validated(composed([*WORDS, *words]))


def test_a_record_of_anybodys_imports_nothing_unless_it_is_trusted(mine, run_in):
    run = trained(mine).folder
    (mine / "imported").unlink()
    np.save(mine / "images.npy", np.zeros((2, 8, 8), np.float32))
    verbs = {
        "predict": ("predict", str(run), "images.npy", "-o", "out.csv"),
        "evaluate": ("evaluate", str(run), "--on", "test", "-o", "judged"),
        "export": ("export", str(run), "-o", "network.pt"),
    }
    for words in verbs.values():
        done = run_in(mine, *words)
        assert done.returncode == 1
        assert "say --trust" in done.stderr.splitlines()[-1]
        assert not (mine / "imported").exists()
    for words in verbs.values():
        done = run_in(mine, *words, "--trust")
        assert done.returncode == 0, done.stderr
    lines = (mine / "network.py").read_text()
    assert "from own_networks import make" in lines
    (loaded,) = bbbrun.load_runs(run)
    with pytest.raises(UserError, match="trust=True"):
        loaded.predict(np.zeros((2, 8, 8)))
    assert len(bbbrun.load_runs(run, trust=True)[0].predict(np.zeros((2, 8, 8)))) == 2


def test_a_target_made_to_do_harm_is_not_looked_up(mine):
    run = trained(mine).folder
    record = run / ".hydra" / "config.yaml"
    text = record.read_text()
    for target in ("os.system", "'__import__(\"os\").system'", "builtins.exec"):
        record.write_text(
            text.replace("own_networks.make", target).replace("args: null", "args: {command: touch harm}")
        )
        (loaded,) = bbbrun.load_runs(run)
        with pytest.raises(UserError, match=r"^[^\n]*$"):
            loaded.predict(np.zeros((2, 8, 8)))
        assert not (mine / "harm").exists()
    assert json.loads((run / "summary.json").read_text())


def test_a_network_with_tied_weights_is_exported_as_it_predicts(mine):
    run = trained(mine / "run", "method=mle", target="own_networks.Tied")
    program.main([str(run.folder), "-o", str(mine / "net.pt"), "--trust"])
    module = imported("own_networks.Tied")()
    module.load_state_dict(torch.load(mine / "net.pt", weights_only=True))
    inputs = torch.rand(5, 8, 8)
    [weights] = run.parameters()
    expected = bbbrun.predict(module, DiagonalGaussian(weights, torch.full_like(weights, -50.0)), inputs, draws=1)
    torch.testing.assert_close(module(inputs).detach(), expected[0])


def test_an_import_leaves_the_places_of_modules_in_order(mine, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = list(sys.path)
    assert imported("own_networks.nothing")() == 3
    assert sys.path == before
    (mine / "own_places.py").write_text("import sys\nsys.path.insert(0, 'lib')\ndef make(): pass\n")
    imported("own_places.make")
    assert sys.path == ["lib", *before]
