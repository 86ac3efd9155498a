"""Large matrix products by oneDNN in place of MKL, on AMD's processors from Zen 5 on.

MKL does not use AVX-512 on processors that are not Intel's: on an AMD EPYC 9005 series processor (Zen 5) it reaches
105 GFLOPS a core, oneDNN 230 to 250. Zen 4 computes 512 bits in two halves: on a core of the 9004 series MKL
reaches 70 to 97, oneDNN 82 to 91, and a whole step takes longer by oneDNN. On two cores of an Intel Xeon MKL
reaches 170 to 250 in all, oneDNN 110 to 195. The processor decides, no measurement: a resumed run takes the same
sums.
"""

import platform
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

_ZEN5 = 26  # the family of AMD's processors that compute 512 bits at once
_LEAST = 8_000_000  # floating point operations; below, oneDNN's choice of a kernel costs what it saves

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (a (M, K), b (K, N), bias (N,) or None) -> (M, N)


@cache
def large_product() -> Product | None:
    """`onednn_operator` from Zen 5 on; None on other processors, where torch's own products are the faster."""
    return onednn_operator() if _is_zen5() else None


@cache
def onednn_operator() -> Product | None:
    """a b + bias by oneDNN, as an operator that compiled graphs can call; None without AVX-512 or torch's own operator.

    It wraps an operator of torch's own, for which a compiled graph would make all strides contiguous by copying the
    weights.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    onednn = _onednn_product()
    if onednn is None:
        return None

    # Compiled graphs call it by this name, and torch knows the name for as long as the process lives.
    @torch.library.custom_op("bbbrun::product", mutates_args=(), device_types="cpu")
    def product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return onednn(a, b, bias)

    @product.register_fake
    def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return a.new_empty(a.shape[0], b.shape[1])

    return cast(Product, torch.ops.bbbrun.product.default)


def _onednn_product() -> Product | None:
    """torch's private operator for a b + bias by oneDNN; None where torch lacks it or no longer calls it so."""
    pointwise = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if pointwise is None or not torch.backends.mkldnn.is_available():
        return None

    def product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        # The operator reads a bias with gaps as one without.
        whole = None if bias is None else bias.contiguous()
        return cast(Tensor, pointwise.default(a, b.t(), whole, "none", [], ""))

    example = torch.ones(2, 2)
    try:
        same = torch.equal(product(example, example, example[0]), torch.full((2, 2), 3.0))
    except (AttributeError, RuntimeError):
        return None
    return product if same else None


def _is_zen5() -> bool:
    """Whether the processor says that it is AMD's of family 26 or later, in /proc/cpuinfo or to Python's platform."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = platform.processor()
    family = re.search(r"\bfamily\b\s*:?\s*(\d+)", text, re.IGNORECASE)
    return "AuthenticAMD" in text and family is not None and int(family[1]) >= _ZEN5


def is_large(a: Tensor, b: Tensor) -> bool:
    """Whether `large_product` is what should compute a b."""
    matrices = a.device.type == "cpu" and a.dim() == 2 and a.dtype == b.dtype == torch.float32
    return matrices and 2 * a.numel() * b.shape[1] >= _LEAST


def matrix_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b + bias, (M, N) for a (M, K), b (K, N) and bias (N,), by the fastest way there is; not differentiable."""
    if is_large(a, b):
        product = large_product()
        if product is not None:
            return product(a, b, bias)
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)
