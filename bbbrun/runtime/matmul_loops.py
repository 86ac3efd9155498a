"""Small matrix products as loops that torch's compiler fuses with what surrounds them, in place of a library's calls.

At a hundred units a call costs as much as the product in it, and a step that is one loop after another costs none.
"""

import torch
from torch import Tensor
from torch._inductor import inductor_prims

_MOST = 2_500_000  # floating point operations; above, a library's blocking for the caches pays
_LARGEST = 32_768  # elements of an operand: what stays near the core
_ROWS = range(4, 11)  # accumulators of a loop: the more, the better their latency hides, as long as registers hold them


def is_small(a: Tensor, b: Tensor) -> bool:
    """Whether a b, (M, K) times (K, N), is what `loops` should compute in a compiled graph."""
    if a.device.type != "cpu" or not a.dtype == b.dtype == torch.float32:
        return False
    if 2 * a.numel() * b.shape[1] > _MOST or max(a.numel(), b.numel()) > _LARGEST:
        return False
    rows = b.shape[1] if _by_columns(b) else a.shape[0]
    return 1 in (*a.shape, b.shape[1]) or _blocks(rows) > 0


def loops(a: Tensor, b: Tensor) -> Tensor:
    """a b, (M, N), in terms of which the compiler makes one loop over N in vectors, for a few rows of a at a time.

    The sums have one shape, so it fuses them: a vector of b, once loaded, serves all the rows.
    """
    if a.shape[1] == 1:
        return a * b
    if 1 in (a.shape[0], b.shape[1]):
        return _sums(a, b)
    if _by_columns(b):
        # Vectors of a's columns then: those of b lie apart in memory.
        columns = a.t()
        return loops(b.t(), _with_strides(columns, (columns.shape[1], 1))).t()
    step = _blocks(a.shape[0])
    parts = [_sums(a[first::step], b) for first in range(step)]
    return torch.stack(parts, 1).reshape(a.shape[0], b.shape[1])


def realised(x: Tensor) -> Tensor:
    """x as an array in memory, which the compiler would else compute anew in each loop that reads it.

    Its elements must fill their place in memory, each at its own.
    """
    return _with_strides(x, x.stride())


def _with_strides(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    result: Tensor = inductor_prims.force_stride_order(x, strides)
    return result


def _sums(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)


def _by_columns(b: Tensor) -> bool:
    return b.stride(0) == 1 and b.stride(1) > 1


def _blocks(rows: int) -> int:
    """How many rows a block has, 0 where none of _ROWS divides them."""
    return max((count for count in _ROWS if rows % count == 0), default=0)
