"""Recorded steps give the results of the steps themselves, and call the compiler's function alone if it is all."""

import sys
import weakref
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace

import pytest
import torch
from test_step import ADAM, INPUTS, LABELS, MIXTURE, bbb, make_step, start, two_minibatches

from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.networks import mlp
from bbbrun.bayes.priors import build_prior
from bbbrun.runtime.compile import compiled
from bbbrun.runtime.replay import Recorded
from bbbrun.training.step import Steps, initial_state


class Generated:
    """Stands for compiled code: calls functions of its module on x, y and an array z made for the step.

    beside: whether z is filled beside the functions, and not by them; it is the same until the table changes.
    """

    def __init__(self, functions: int, beside: bool, dtype: torch.dtype) -> None:
        self.x, self.y, self.table = torch.ones(3), torch.zeros(3), torch.ones(3)
        self.beside, self.dtype, self.taken, self.module = beside, dtype, 0, ModuleType("generated")
        self.made: list[weakref.ref[torch.Tensor]] = []
        for number in range(functions):
            setattr(self.module, f"cpp_fused_{number}", self.function)

    def function(self, x, y, z, table) -> None:
        if not self.beside:
            z.copy_(table)
        y.add_(x * z)
        x.add_(1)

    def __call__(self) -> None:
        self.taken += 1
        z = torch.empty(3, dtype=self.dtype)
        self.made.append(weakref.ref(z))
        if self.beside:
            z.copy_(self.table)
        for name in [name for name in vars(self.module) if name.startswith("cpp")]:
            getattr(self.module, name)(self.x, self.y, z, self.table)


@pytest.mark.parametrize(
    ("functions", "beside", "dtype", "alone"),
    [
        (1, False, torch.float32, True),
        (1, True, torch.float32, False),
        (1, False, torch.int64, False),  # of which not-a-number cannot be made
        (2, False, torch.float32, False),
        (0, False, torch.float32, False),
    ],
)
def test_the_function_is_called_alone_where_it_is_the_whole_step(monkeypatch, functions, beside, dtype, alone):
    step, plain = (Generated(functions, beside, dtype) for _ in range(2))
    compiler = SimpleNamespace(PyCodeCache=SimpleNamespace(modules=[step.module]))
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", compiler)
    recorded = Recorded(step, [step.x, step.y])
    for count in (1, 0, 4, 3):
        recorded(count)
        for _ in range(count):
            plain()
        assert torch.equal(step.x, plain.x)
        assert torch.equal(step.y, plain.y)
        step.table += 1
        plain.table += 1
    assert step.taken == (3 if alone else 8)
    # Of what is made on the way nothing is held but what is called with.
    assert [z() is not None for z in step.made].count(True) == alone
    assert all(value == step.function for name, value in vars(step.module).items() if name.startswith("cpp"))


class Launched:
    """Stands for a step on CUDA: under capture its work is kept for the graph, else it is done at once."""

    def __init__(self, error: BaseException | None) -> None:
        self.taken, self.done, self.capturing, self.error = 0, 0, False, error
        self.changed = SimpleNamespace(is_cuda=True)

    def __call__(self) -> None:
        self.taken += 1
        if not self.capturing:
            self.done += 1
        elif self.error:
            raise self.error

    @contextmanager
    def graph(self, _):
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False
            if self.error:
                raise RuntimeError("failed due to a previous error")

    def replay(self) -> None:
        self.done += 1


@pytest.mark.parametrize("error", [None, RuntimeError("not allowed while capturing\nat line 5")])
def test_on_cuda_the_second_step_is_captured_and_replayed_from_then_on(monkeypatch, error):
    step = Launched(error)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: step)
    monkeypatch.setattr(torch.cuda, "graph", step.graph)
    recorded, done = Recorded(step, [step.changed]), 0
    warned = pytest.warns(UserWarning, match=r"no CUDA graph .* \(not allowed while capturing\)")
    with warned if error else nullcontext():
        for count in (1, 0, 4, 3):
            recorded(count)
            done += count
            assert step.done == done
    assert step.taken == (9 if error else 2)


def test_a_stop_while_a_step_is_captured_is_a_stop(monkeypatch):
    step = Launched(KeyboardInterrupt())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: step)
    monkeypatch.setattr(torch.cuda, "graph", step.graph)
    with pytest.raises(KeyboardInterrupt):
        Recorded(step, [step.changed])(2)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [1, 6])
def test_each_part_of_a_small_networks_compiled_step_is_one_function_and_recorded_takes_the_same_steps(draws):
    network, prior, results = mlp(6, [8, 8], 4), build_prior(MIXTURE, "cpu"), []
    for record in (True, False):
        state, epoch = initial_state(start(network), ADAM), two_minibatches(1e-3, ADAM)
        data = (INPUTS, LABELS, 0, epoch, state)
        step = make_step(network, categorical, bbb(draws), prior, ADAM, *data).wrapped(compiled)
        steps = Steps(step)
        for _ in range(4):
            epoch.position.zero_()
            steps(2) if record else (step(), step())
        assert [recorded.call is not None for recorded, _ in steps.parts] == [record] * len(step.parts)
        results.append([tensor.clone() for tensor in step.changed])
    assert all(map(torch.equal, *results))
