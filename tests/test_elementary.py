"""exp, log and sigmoid, written out for the compiler, equal torch's own."""

import pytest
import torch

from bbbrun.runtime import elementary
from bbbrun.runtime.compile import compiled

CASES = {
    "exp": torch.cat([torch.linspace(-87, 0, 200_001), -torch.logspace(-30, 1, 1001)]),
    "log": torch.cat([torch.arange(1, 2**24 + 1, 997) * 2.0**-24, torch.logspace(-37, 38, 10_001)]),
    "sigmoid": torch.cat([torch.linspace(-87, 87, 200_001), torch.tensor([0.0, -0.0, 1e30, torch.inf])]),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_they_are_within_a_few_roundings(name):
    x, ours = CASES[name], getattr(elementary, name)
    expected = getattr(torch, name)(x.double())
    results = compiled(lambda: ours(x))()
    # Else they would be torch's, and nothing would be tested.
    assert not torch.equal(results, ours(x))
    torch.testing.assert_close(results.double(), expected, rtol=3e-7, atol=0)
    torch.testing.assert_close(ours(x).double(), expected, rtol=3e-7, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_under_vmap_as_replicas_have_them_they_are_as_accurate(name):
    x, ours = torch.stack([CASES[name], CASES[name].flip(0)]), getattr(elementary, name)
    results = compiled(lambda: torch.vmap(ours)(x))()
    torch.testing.assert_close(results.double(), getattr(torch, name)(x.double()), rtol=3e-7, atol=0)


def test_what_is_tiny_stays_finite_and_falls_no_further():
    x = torch.tensor([-87.0, -88.0, -104.0, -1e30, -torch.inf])
    exponentials = compiled(lambda: elementary.exp(x))()
    assert torch.equal(exponentials, exponentials[:1].expand(5))
    assert 0 < exponentials[0] < 2e-38
    assert (compiled(lambda: elementary.sigmoid(x))() < 2e-38).all()


def test_the_gradient_of_exp_is_exp():
    x = torch.linspace(-20, 0, 10_001)
    gradient = compiled(lambda: torch.func.grad(lambda x: elementary.exp(x).sum())(x))()
    torch.testing.assert_close(gradient.double(), x.double().exp(), rtol=3e-6, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_in_double_precision_they_are_torchs(name):
    x, ours = CASES[name].double(), getattr(elementary, name)
    torch.testing.assert_close(compiled(lambda: ours(x))(), getattr(torch, name)(x), rtol=1e-14, atol=0)
