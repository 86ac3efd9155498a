import pytest
import torch
from scipy import stats

from bbbrun.runtime.noise import (
    Stream,
    integers,
    permutation,
    standard_normal,
    standard_normals,
    threefry2x32,
    uniform,
)

MILLION = 1_000_000


def words(*values: int) -> list[torch.Tensor]:
    signed = [value - 2**32 if value >= 2**31 else value for value in values]
    return [torch.tensor(value, dtype=torch.int32) for value in signed]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_known_answers(counter, key, expected):
    result = threefry2x32(*words(*key), *words(*counter))
    assert [int(word) & 0xFFFFFFFF for word in result] == list(expected)


def test_normal_moments_and_distribution():
    eps = standard_normal(3, 5, 0, MILLION).double()
    assert abs(eps.mean()) < 5 / 1000
    assert abs(eps.var() - 1) < 5 * 2**0.5 / 1000
    assert abs((eps**3).mean()) < 5 * 15**0.5 / 1000
    assert abs((eps**4).mean() - 3) < 5 * 96**0.5 / 1000
    assert stats.kstest(eps.numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(eps[::2].numpy(), "norm").pvalue > 1e-3
    assert eps.abs().max() > 4.5


def test_uniform_distribution_and_range():
    u = uniform(3, 5, 0, MILLION)
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.double().numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "other",
    [
        (4, 5, 0),
        (3, 6, 0),
        (3, 5, 1),
        (3, 5, Stream.EVALUATE),
        (3, 5, Stream.INITIALISE),
        (5, 3, 0),
        (0, 5, 3),
    ],
)
def test_neighbouring_seeds_steps_draws_and_streams_are_uncorrelated(other):
    eps, neighbour = standard_normal(3, 5, 0, MILLION), standard_normal(*other, MILLION)
    for x, y in ((eps, neighbour), (eps[1:], neighbour[:-1]), (eps.square(), neighbour.square())):
        correlation = torch.corrcoef(torch.stack([x, y]).double())[0, 1]
        assert abs(correlation) < 5 / 1000


def test_neighbouring_weights_are_uncorrelated():
    eps = standard_normal(3, 5, 0, MILLION).double()
    for lag in (1, 2, 3):
        assert abs(torch.corrcoef(torch.stack([eps[lag:], eps[:-lag]]))[0, 1]) < 5 / 1000
        assert abs(torch.corrcoef(torch.stack([eps[lag:] ** 2, eps[:-lag] ** 2]))[0, 1]) < 5 / 1000


@pytest.mark.parametrize("draw", [standard_normal, uniform])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_value_depends_on_its_index_and_not_on_the_size(draw, size):
    assert torch.equal(draw(1, 2, 3, size), draw(1, 2, 3, 1001)[:size])


def test_the_same_values_for_one_and_four_threads():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 4):
            torch.set_num_threads(count)
            results.append(standard_normal(7, 1, 2, MILLION))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_tensors_and_numbers_name_the_same_draw():
    seed, step, draw = words(11, 12, 13)
    assert torch.equal(standard_normal(seed, step, draw, 100), standard_normal(11, 12, 13, 100))


def test_several_draws_at_once_are_those_of_each():
    step, sizes = torch.tensor(4, dtype=torch.int32), [3, 8, 5]
    for first in (7, torch.tensor(7, dtype=torch.int32)):
        for number, ours in enumerate(standard_normals(2, step, first, sizes)):
            assert torch.equal(ours, standard_normal(2, step, 7 + number, sizes[number]))


@pytest.mark.slow
def test_compiled_noise_equals_eager_noise():
    compiled = torch.compile(lambda step: standard_normal(3, step, 1, 100_000), dynamic=False)
    step = torch.tensor(9, dtype=torch.int32)
    torch.testing.assert_close(compiled(step), standard_normal(3, 9, 1, 100_000), rtol=0, atol=2e-6)


def test_permutations_are_permutations_and_differ_by_epoch_and_seed():
    order = permutation(1, 0, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, permutation(1, 0, 1000))
    for other in (permutation(1, 1, 1000), permutation(2, 0, 1000)):
        assert (order == other).sum() < 10


def test_permutations_are_uniform():
    first = torch.stack([permutation(0, epoch, 4) for epoch in range(2400)])
    codes = (first * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("bound", [2, 6, 1000])
def test_integers_are_uniform_and_depend_on_their_index(bound):
    numbers = integers(3, 5, 0, MILLION, bound)
    assert stats.chisquare(numbers.bincount(minlength=bound).numpy()).pvalue > 1e-3
    assert len(numbers.bincount()) == bound
    assert torch.equal(integers(3, 5, 0, 7, bound), numbers[:7])
