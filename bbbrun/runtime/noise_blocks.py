"""The same noise as `standard_normal`, bit for bit, made in place: for millions of numbers that nothing compiles.

Each of the noise's 200 operations reads and writes all its numbers. A block of them stays in a core's cache, and
in-place operations allocate nothing: 2.4 million numbers take a third of the time.
"""

import torch
from torch import Tensor

from bbbrun.runtime.noise import _COSINE, _PARITY, _ROTATIONS, _SINE


def block_size() -> int:
    """How many numbers to make at once: of half as many pairs each core's share of all three arrays fits its cache."""
    return torch.get_num_threads() << 17


def standard_normal_block(seed: int, step: int, draw: int, first: int, size: int) -> Tensor:
    """Elements first, first + 1, ... of `standard_normal(seed, step, draw, ...)`, float32 (size,); `first` is even."""
    pairs = (size + 1) // 2
    keys = (seed, draw, seed ^ draw ^ _PARITY)
    index = torch.arange(first // 2, first // 2 + pairs, dtype=torch.int32)
    x0 = index.add_(_signed(keys[0]))
    x1 = torch.full((pairs,), _signed(step + keys[1]), dtype=torch.int32)
    low = torch.empty_like(x0)
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            x0.add_(x1)
            # Rotated left: the bits that leave on the left, plus x1 * 2^bits, whose lowest bits are 0.
            torch.bitwise_right_shift(x1, 32 - bits, out=low)
            low.bitwise_and_((1 << bits) - 1)
            torch.add(low, x1, alpha=1 << bits, out=x1)
            x1.bitwise_xor_(x0)
        x0.add_(_signed(keys[(group + 1) % 3]))
        x1.add_(_signed(keys[(group + 2) % 3] + group + 1))
    radius = _uniform(x0).add_(2.0**-24).log_().mul_(-2).sqrt_()
    u = _uniform(x1).sub_(0.5)
    square = u.square()
    normal = torch.empty(pairs, 2)
    torch.mul(radius, _polynomial(_COSINE, square), out=normal[:, 0])
    torch.mul(radius, _polynomial(_SINE, square).mul_(u), out=normal[:, 1])
    return normal.view(-1)[:size]


def _signed(word: int) -> int:
    """The int32 of the same 32 bits."""
    return (word + (1 << 31)) % (1 << 32) - (1 << 31)


def _uniform(words: Tensor) -> Tensor:
    return words.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """The sum of coefficients[n] x^n, by Horner's rule."""
    total = torch.mul(x, coefficients[-1]).add_(coefficients[-2])
    for coefficient in coefficients[-3::-1]:
        total.mul_(x).add_(coefficient)
    return total
