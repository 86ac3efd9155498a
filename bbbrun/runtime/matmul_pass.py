"""The compiler pass of a training step: on the CPU large products go to oneDNN, small ones become loops.

At a hundred units a library's call costs as much as the product in it. As sums they fuse with what surrounds them, and
a step that is one loop after another needs no call. On CUDA narrow products become sums: cuBLAS gives a product of ten
columns to a few of the many multiprocessors.

Importing this module loads torch's compiler and fails where torch lacks one of the private names that follow, so it is
imported by `compile.product_pass` alone.
"""

import hashlib
import operator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch._inductor import inductor_prims
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

from bbbrun.runtime import matmul
from bbbrun.runtime.matmul import is_large, large_product

_MOST = 2_500_000  # floating point operations; above, a library's blocking for the caches pays
_LARGEST = 32_768  # elements of an operand: what stays near the core
_NARROW = 16  # rows, columns or terms of a product on CUDA
_MOST_NARROW = 4_000_000  # floating point operations of such a product; the output layers of 128 examples have up to 3
_ROWS = range(4, 11)  # accumulators of a loop: the more, the better their latency hides, as long as registers hold them

_aten = torch.ops.aten
_ordered = inductor_prims.force_stride_order
# split and unbind alone return several views; `_in_memory` stops at any other operator of several results.
_VIEWS = (
    operator.getitem,
    _aten.expand.default,
    _aten.permute.default,
    _aten.reshape.default,
    _aten.select.int,
    _aten.slice.Tensor,
    _aten.split.Tensor,
    _aten.split_with_sizes.default,
    _aten.squeeze.dim,
    _aten.t.default,
    _aten.unbind.int,
    _aten.unsqueeze.default,
    _aten.view.default,
)


class Products(CustomGraphPass):
    """Replaces each matrix product a b, or a b + bias, of a graph that `is_large`, `is_small` or `is_narrow`."""

    def __init__(self) -> None:
        # Here, since a graph from the compiler's cache calls the operator without passing through `__call__`.
        self._large: Any = large_product()

    def __call__(self, graph: fx.Graph) -> None:
        """Replace them in `graph`, which stays a graph of the same results to rounding."""
        # A sum may have other strides than its product, and as_strided alone would tell.
        sums = not graph.find_nodes(op="call_function", target=_aten.as_strided.default)
        for node in list(graph.nodes):
            operands = _operands(node)
            if operands is None:
                continue
            a, b, bias = operands
            values = a.meta["val"], b.meta["val"]
            as_sums = loops if is_small(*values) else terms if is_narrow(*values) else None
            replacement: Any = None
            with graph.inserting_before(node):
                if self._large is not None and is_large(*values):
                    replacement = graph.call_function(self._large, operands)
                elif sums and as_sums is not None:
                    replacement = _inline(graph, as_sums, *(_in_memory(graph, operand) for operand in (a, b)))
                    if bias is not None:
                        replacement = graph.call_function(_aten.add.Tensor, (replacement, bias))
            if replacement is not None:
                replacement.meta.update(node.meta)
                node.replace_all_uses_with(replacement)
                graph.erase_node(node)

    def uuid(self) -> Any:
        """What a graph in the compiler's cache depends on besides itself."""
        sources = b"".join(Path(file).read_bytes() for file in (__file__, matmul.__file__))
        return hashlib.sha256(sources).hexdigest() + str(self._large)


def is_small(a: Tensor, b: Tensor) -> bool:
    """Whether a b, (M, K) times (K, N), is what `loops` should compute in a compiled graph."""
    if a.device.type != "cpu" or a.dim() != 2 or not a.dtype == b.dtype == torch.float32:
        return False
    if 2 * a.numel() * b.shape[1] > _MOST or max(a.numel(), b.numel()) > _LARGEST:
        return False
    rows = b.shape[1] if _by_columns(b) else a.shape[0]
    return 1 in (*a.shape, b.shape[1]) or _blocks(rows) > 0


def loops(a: Tensor, b: Tensor) -> Tensor:
    """a b, (M, N), in terms of which the compiler makes one loop over N in vectors, for a few rows of a at a time.

    The sums of a block have one shape, so the compiler fuses them: a vector of b, once loaded, serves all its rows.
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
    blocks = [_sums(a[first::step], b) for first in range(step)]
    return torch.stack(blocks, 1).reshape(a.shape[0], b.shape[1])


def is_narrow(a: Tensor, b: Tensor) -> bool:
    """Whether a b, (..., M, K) times (..., K, N), is what `terms` should compute in a compiled graph."""
    rows, inner, columns = *a.shape[-2:], b.shape[-1]
    narrow = min(rows, inner, columns) <= _NARROW and 2 * rows * inner * columns <= _MOST_NARROW
    return narrow and a.device.type == "cuda" and a.dtype == b.dtype == torch.float32


def terms(a: Tensor, b: Tensor) -> Tensor:
    """a b, (..., M, N): one expression where it has few terms, which fuses with what follows, else a sum over K."""
    inner = a.shape[-1]
    if inner > _NARROW:
        return _sums(a, b)
    total = a[..., :1] * b[..., :1, :]
    for term in range(1, inner):
        total = total + a[..., term : term + 1] * b[..., term : term + 1, :]
    return total


def _sums(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def _by_columns(b: Tensor) -> bool:
    return b.stride(0) == 1 and b.stride(1) > 1


def _blocks(rows: int) -> int:
    """How many rows a block has, 0 where none of _ROWS divides them."""
    return max((count for count in _ROWS if rows % count == 0), default=0)


def _with_strides(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """x as an array in memory with these strides."""
    result: Tensor = _ordered(x, strides)
    return result


def _realised(x: Tensor) -> Tensor:
    """x as an array in memory, which the compiler would otherwise compute anew in each loop that reads it."""
    return _with_strides(x, x.stride())


def _is_dense(x: Tensor) -> bool:
    """Whether x's elements fill their place in memory, each at its own: what `_realised` needs."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _operands(node: Any) -> tuple[Any, Any, Any] | None:
    """(a, b, bias or None) of a node that is such a product, else None."""
    if node.target in (_aten.mm.default, _aten.bmm.default):
        return (*node.args[:2], None)
    if node.target is _aten.addmm.default and not node.kwargs:
        bias, a, b = node.args
        # Any other shape is broadcast, which oneDNN's bias is not.
        if bias.meta["val"].shape == b.meta["val"].shape[1:]:
            return a, b, bias
    return None


def _in_memory(graph: fx.Graph, x: Any) -> Any:
    """x, or its replacement once the array that it is or is a view of is one in memory: for speed alone."""
    whole = x
    while whole.target in _VIEWS:
        whole = whole.args[0]
    value = whole.meta["val"]
    # An input or a constant, which no call makes, lies in memory already.
    done = whole.op != "call_function" or whole.target is _ordered
    if done or not isinstance(value, Tensor) or not _is_dense(value):
        return x
    with graph.inserting_after(whole):
        array = _inline(graph, _realised, whole)
    whole.replace_all_uses_with(array, delete_user_cb=lambda user: user is not array)
    return array if whole is x else x


def _inline(graph: fx.Graph, function: Any, *operands: Any) -> Any:
    """The nodes of function(operands), copied into the graph at its point of insertion; returns the result's node."""
    # A lambda, since the default arguments of the function itself would be traced as well.
    trace = make_fx(lambda *arrays: function(*arrays), select_decomp_table())
    traced = trace(*(operand.meta["val"] for operand in operands))
    # A graph's first nodes are its inputs.
    return graph.graph_copy(traced.graph, dict(zip(traced.graph.nodes, operands, strict=False)))
