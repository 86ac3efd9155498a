"""exp, log and sigmoid of whole vectors of weights: torch's own, except in the compiler's loops for the CPU.

On the CPU a library call inside the fused loop would spill all registers; written out, these inline. They cost a few
additions and products more, and a step of 22,000 weights takes two thirds of the time.
"""

import math

import torch
from torch import Tensor

# Polynomials fitted at 400 Chebyshev nodes: (exp(r) - 1 - r) / r^2 on abs(r) <= log(2) / 2, and
# (log(1 + x) - x + x^2 / 2) / x^3 on 1 + x from 1/sqrt(2) to sqrt(2). Before rounding, exp is within 1.1e-8 of itself,
# log within 2.5e-8.
_EXP = (0.5000000013459717, 0.16666577003161268, 0.04166646498446848, 0.008363175565368459, 0.001393364296722835)
_LOG = (
    0.33333328596750683,
    -0.2500029654601379,
    0.2000146857905254,
    -0.16642247598697413,
    0.14202173776403793,
    -0.12972238913843448,
    0.12712307962738856,
    -0.08101558889147333,
)
_LEAST = -87.0  # e^-87 = 1.6e-38; below 1.2e-38 a float32 loses digits
_SQRT_HALF = 0x3F3504F3  # its bits as a float32
_NO_BITS_IN_VMAP = torch.__version__ < "2.13"  # there vmap cannot view a float32's bits
# log(2) in two parts. The first has so few bits that its product with an exponent is exact.
_LOG_2 = (0.693359375, math.log(2) - 0.693359375)


def exp(x: Tensor) -> Tensor:
    """e^x of x <= 0, differentiable; compiled for the CPU with a relative error of at most 3e-7, and never below e^-87.

    e^x = 2^n e^r, n = x / log 2 rounded. Source: Cody and Waite, "Software manual for the elementary functions", 1980.
    """
    if not _inlined(x):
        return torch.exp(x)
    x = torch.clamp_min(x, _LEAST)
    n = torch.round(x * (1 / math.log(2)))
    r = x - n * _LOG_2[0] - n * _LOG_2[1]
    power = ((n.to(torch.int32) + 127) << 23).view(torch.float32)
    return power * (1 + (r + r * r * polynomial(_EXP, r)))


def log(x: Tensor) -> Tensor:
    """log x of finite x > 0, nats; compiled for the CPU with a relative error of at most 3e-7, not for subnormals.

    Compiled for the CPU it is not differentiable, since it reads the exponent off the bits.

    log x = e log 2 + log(1 + r), x = 2^e (1 + r), 1 + r from 1/sqrt(2) to sqrt(2). Source: as for `exp`.
    """
    if not _inlined(x):
        return torch.log(x)
    bits = x.view(torch.int32)
    exponent = (bits - _SQRT_HALF) >> 23
    r = (bits - (exponent << 23)).view(torch.float32) - 1
    return exponent.to(torch.float32) * math.log(2) + (r + r * r * (r * polynomial(_LOG, r) - 0.5))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x); compiled for the CPU as accurate as `exp`."""
    if not _inlined(x):
        return torch.sigmoid(x)
    small = exp(-x.abs())
    return torch.where(x >= 0, 1.0, small) / (1 + small)


def _inlined(x: Tensor) -> bool:
    """Whether to write a function of x out for the compiler."""
    inlines = torch.compiler.is_compiling() and x.device.type == "cpu" and x.dtype == torch.float32
    return inlines and not (_NO_BITS_IN_VMAP and _is_batched(x))


def _is_batched(x: Tensor) -> bool:
    """Whether x is what vmap gives to its function."""
    batched: bool = torch._C._functorch.is_batchedtensor(x)
    return batched


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """The sum of coefficients[n] x^n, by Horner's rule; there must be two coefficients or more."""
    total: Tensor | float = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    assert isinstance(total, Tensor)
    return total
