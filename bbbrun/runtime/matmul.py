"""Large matrix products by oneDNN in place of MKL, where the processor has AVX-512.

MKL leaves that unused on processors that are not Intel's: on an AMD EPYC 9005 series processor it does 105 GFLOPS a
core, oneDNN 230 to 250. On Intel's, where MKL uses it too, they were not compared.
"""

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor

_LEAST = 8_000_000  # floating point operations; below, oneDNN's choice of a kernel costs what it saves

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (a (M, K), b (K, N), bias (N,) or None) -> (M, N)


@cache
def large_product() -> Product | None:
    """a b + bias by oneDNN, as an operator that compiled graphs can call; None where this machine has no use for it.

    The operator of torch's own that it wraps would, compiled, have all strides made contiguous: copies of the weights.
    """
    pointwise = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if pointwise is None or not torch.backends.mkldnn.is_available():
        return None
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None

    # Known to torch for as long as the process lives, under the name that compiled graphs call it by.
    @torch.library.custom_op("bbbrun::product", mutates_args=(), device_types="cpu")
    def product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        # It would read a bias with gaps as one without.
        whole = None if bias is None else bias.contiguous()
        return cast(Tensor, pointwise.default(a, b.t(), whole, "none", [], ""))

    @product.register_fake
    def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return a.new_empty(a.shape[0], b.shape[1])

    return cast(Product, torch.ops.bbbrun.product.default)


def is_large(a: Tensor, b: Tensor) -> bool:
    """Whether `large_product` is what should compute a b."""
    return a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and 2 * a.numel() * b.shape[1] >= _LEAST


def matrix_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b + bias, (M, N) for a (M, K), b (K, N) and bias (N,), by the fastest way there is; not differentiable."""
    product = large_product()
    if product is not None and is_large(a, b):
        return product(a, b, bias)
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)
