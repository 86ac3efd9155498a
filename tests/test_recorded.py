"""Recorded steps leave what the steps themselves do, and call the compiler's function alone where it is all of them."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from test_step import ADAM, INPUTS, LABELS, MIXTURE, bbb, start, two_minibatches

from bbbrun.classification import categorical_nll
from bbbrun.devices import compiled
from bbbrun.networks import mlp
from bbbrun.priors import build_prior
from bbbrun.recorded import Recorded
from bbbrun.step import changed, initial_state, make_step


class Generated:
    """Stands for compiled code, which calls functions of its module, on arrays it may have filled by other means."""

    def __init__(self, functions: int, beside: bool) -> None:
        self.x, self.y = torch.ones(3), torch.zeros(3)
        self.beside, self.taken, self.module = beside, 0, ModuleType("generated")
        for number in range(functions):
            setattr(self.module, f"cpp_fused_{number}", lambda x, y, z: (y.add_(x + z), x.add_(1)))

    def __call__(self) -> None:
        self.taken += 1
        z = self.x.clone() if self.beside else torch.zeros(3)
        for name in [name for name in vars(self.module) if name.startswith("cpp")]:
            getattr(self.module, name)(self.x, self.y, z)


@pytest.mark.parametrize(
    ("functions", "beside", "alone"), [(1, False, True), (1, True, False), (2, False, False), (0, False, False)]
)
def test_the_function_is_called_alone_where_it_is_the_whole_step(monkeypatch, functions, beside, alone):
    step, plain = Generated(functions, beside), Generated(functions, beside)
    compiler = SimpleNamespace(PyCodeCache=SimpleNamespace(modules=[step.module]))
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", compiler)
    recorded = Recorded(step, [step.x, step.y])
    for count in (1, 0, 4, 3):
        recorded(count)
        for _ in range(count):
            plain()
        assert torch.equal(step.x, plain.x)
        assert torch.equal(step.y, plain.y)
    assert step.taken == (3 if alone else 8)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="what the compiler makes was seen on Linux and macOS alone")
def test_a_small_networks_compiled_step_is_one_function_and_recorded_takes_the_same_steps():
    network, prior, results = mlp(6, [8, 8], 4), build_prior(MIXTURE, "cpu"), []
    for record in (True, False):
        state, epoch = initial_state(start(network), ADAM), two_minibatches(1e-3, ADAM)
        data = (INPUTS, LABELS, 0, epoch, state)
        step = compiled(make_step(network, categorical_nll, bbb(), prior, ADAM, *data))
        recorded = Recorded(step, changed(epoch, state))
        for _ in range(4):
            epoch.position.zero_()
            recorded(2) if record else (step(), step())
        assert (recorded.call is not None) is record
        results.append([tensor.clone() for tensor in changed(epoch, state)])
    assert all(map(torch.equal, *results))
