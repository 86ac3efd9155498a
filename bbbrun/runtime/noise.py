"""Counter-based noise: a pure function of (seed, step, draw, index), the same on every device and thread count.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
It is ordinary tensor code, so it compiles into the step that uses it, and it has no state to save.
"""

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from bbbrun.runtime.elementary import log, polynomial

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # Threefry's key schedule constant, from Skein

# -cos(2 pi u) and -sin(2 pi u) / u as polynomials of u^2, fitted at 400 Chebyshev nodes on abs(u) <= 1/2. They are
# within 1.1e-8 and 2.3e-9, and within 5e-7 once rounded to float32. There is no range to reduce, and no library call to
# keep the compiler from inlining them.
_COSINE = (
    -0.9999999890590222,
    19.73920449945387,
    -64.93911745989382,
    85.45013953085416,
    -60.16763095071325,
    25.967599247554265,
    -6.5286581599694715,
)
_SINE = (
    -6.283185302511503,
    41.341700405317425,
    -81.60513138579338,
    76.7030153538272,
    -42.02592698590074,
    14.899846668697242,
    -3.2381375115603555,
)


class Stream(IntEnum):
    """What the noise is for, added to the number of the draw or layer, so that no two uses share a value.

    A use that adds a number has 2^24 of them to itself. A row's log densities are of its evaluation's first draw.
    One exception: a bandit's row at training step s and its action at interaction s have the same draw. No training
    reads the row.
    """

    TRAIN = 0  # + draw
    EVALUATE = 1 << 24  # + draw
    INITIALISE = 2 << 24
    RHO = (2 << 24) + 1
    SHUFFLE = 3 << 24
    DROPOUT = 4 << 24  # + layer
    DATA = 5 << 24
    DATA_NOISE = (5 << 24) + 1
    TEST = (5 << 24) + 2
    TEST_NOISE = (5 << 24) + 3
    VISITS = (5 << 24) + 8
    CONTEXTS = (5 << 24) + 9
    REWARD = 6 << 24  # + draw
    ACTION = 7 << 24
    CHOICE = (7 << 24) + 1
    ACTIVATION = 8 << 24  # + draw and layer
    SIGN = 9 << 24  # + draw, layer and side
    MASK = 10 << 24  # + draw


def _rotate_left(x: Tensor, bits: int) -> Tensor:
    # `>>` on int32 copies the sign bit down, hence the mask.
    return (x << bits) | ((x >> (32 - bits)) & ((1 << bits) - 1))


def threefry2x32(key0: Tensor, key1: Tensor, counter0: Tensor, counter1: Tensor) -> tuple[Tensor, Tensor]:
    """Encrypt a 64-bit counter under a 64-bit key: two words of 32 random bits for each counter.

    All arguments are int32 tensors (the bits of unsigned words) of shapes that broadcast.
    Source: Salmon et al. 2011, section 3.2; equal to Random123's published known answers.
    """
    keys = (key0, key1, key0 ^ key1 ^ _PARITY)
    x0, x1 = counter0 + keys[0], counter1 + keys[1]
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = _rotate_left(x1, bits) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + (group + 1)
    return x0, x1


def _word(value: int | Tensor, device: torch.device | str | None) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.int32)
    return torch.full((), value, dtype=torch.int32, device=device)


def random_words(
    seed: int | Tensor,
    step: int | Tensor,
    draw: int | Tensor,
    pairs: int,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Two int32 tensors (pairs,) of random bits; pair j depends on (seed, step, draw, j) alone."""
    index = torch.arange(pairs, dtype=torch.int32, device=device)
    return threefry2x32(_word(seed, device), _word(draw, device), index, _word(step, device))


def words_of_several(
    seed: int | Tensor,
    step: int | Tensor,
    first: int | Tensor,
    pairs: Sequence[int],
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """`random_words` of the draws first, first + 1, ..., one after the other: two int32 tensors (sum of `pairs`,).

    Each place that makes noise adds some 20 seconds to a compilation; this is one place.
    """
    index = torch.cat([torch.arange(count, dtype=torch.int32, device=device) for count in pairs])
    draw = torch.cat([_word(first + number, device).expand(count) for number, count in enumerate(pairs)])
    return threefry2x32(_word(seed, device), draw, index, _word(step, device))


def _uniform(words: Tensor) -> Tensor:
    # A float32 holds 24 bits exactly: k / 2^24, k = 0 .. 2^24 - 1.
    return ((words >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _cosine_sine(turns: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi v for v in [0, 1), within 5e-7."""
    u = turns - 0.5  # half a turn earlier: cos(2 pi v) = -cos(2 pi u)
    square = u.square()
    return polynomial(_COSINE, square), polynomial(_SINE, square) * u


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    return torch.stack((even, odd), dim=-1).flatten(start_dim=-2)


def uniform(
    seed: int | Tensor,
    step: int | Tensor,
    draw: int | Tensor,
    size: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Uniform noise on [0, 1), float32 (size,); element i depends on (seed, step, draw, i) alone."""
    words = random_words(seed, step, draw, (size + 1) // 2, device)
    return _interleave(_uniform(words[0]), _uniform(words[1]))[:size]


def standard_normal(
    seed: int | Tensor,
    step: int | Tensor,
    draw: int | Tensor,
    size: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal noise, float32 (size,); element i depends on (seed, step, draw, i) alone.

    eps_2j, eps_2j+1 = sqrt(-2 log u) (cos, sin)(2 pi v), u in (0, 1], v in [0, 1) from pair j.
    seed, step and draw are ints in 0 .. 2^31 - 1 or int32 tensors without dimensions; abs(eps) <= 5.77.
    Source: Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    return _normal(random_words(seed, step, draw, (size + 1) // 2, device))[:size]


def standard_normals(
    seed: int | Tensor,
    step: int | Tensor,
    first: int | Tensor,
    sizes: Sequence[int],
    device: torch.device | str | None = None,
) -> list[Tensor]:
    """`standard_normal` of the draws first, first + 1, ... of these sizes, by `words_of_several`."""
    pairs = [(size + 1) // 2 for size in sizes]
    noise = _normal(words_of_several(seed, step, first, pairs, device))
    parts = noise.split([2 * count for count in pairs])
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def _normal(words: tuple[Tensor, Tensor]) -> Tensor:
    radius = torch.sqrt(-2 * log(_uniform(words[0]) + 2.0**-24))
    cosine, sine = _cosine_sine(_uniform(words[1]))
    return _interleave(radius * cosine, radius * sine)


def signs(
    seed: int | Tensor,
    step: int | Tensor,
    first: int | Tensor,
    sizes: Sequence[int],
    device: torch.device | str | None = None,
) -> list[Tensor]:
    """Random signs, -1 or 1, float32 (size,) of the draws first, first + 1, ..., one bit each, by `words_of_several`.

    Element i of a draw depends on (seed, step, draw, i) alone.
    """
    pairs = [(size + 63) // 64 for size in sizes]
    words = _interleave(*words_of_several(seed, step, first, pairs, device))
    bits = (words.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32, device=device)) & 1
    parts = (2 * bits - 1).to(torch.float32).flatten().split([64 * count for count in pairs])
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def integers(seed: int, step: int | Tensor, draw: int, size: int, bound: int | Tensor) -> Tensor:
    """Whole numbers 0 .. bound - 1, int64 (size,) on the CPU; element i depends on (seed, step, draw, i) alone.

    Steps and bounds of shape (T, 1) give (T, size), a row for each.

    floor(word * bound / 2^32), word uniform on 0 .. 2^32 - 1: each number has probability 1 / bound within 2^-32.
    Source: Lemire, "Fast random integer generation in an interval", 2019, section 3, without rejection.
    """
    words = _interleave(*random_words(seed, step, draw, (size + 1) // 2))[..., :size]
    return ((words.to(torch.int64) & 0xFFFFFFFF) * bound) >> 32


def permutation(seed: int, epoch: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """A random order of 0 .. size - 1, int64 (size,) on `device`, a function of (seed, epoch, size) alone."""
    high, low = random_words(seed, epoch, Stream.SHUFFLE, size, device)
    return torch.argsort((high.to(torch.int64) << 32) | (low.to(torch.int64) & 0xFFFFFFFF), stable=True)
