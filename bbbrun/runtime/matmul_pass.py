"""What `devices.compiled` does with matrix products: large ones to `products.large_product`, small ones into loops."""

import operator
from typing import Any

import torch
from torch import fx
from torch._inductor import inductor_prims
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.decomposition import select_decomp_table
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.fx.experimental.proxy_tensor import make_fx

from bbbrun.runtime import matmul as products
from bbbrun.runtime import matmul_loops as product_loops
from bbbrun.runtime.matmul import is_large, large_product
from bbbrun.runtime.matmul_loops import is_small, loops, realised

_aten = torch.ops.aten
_IN_MEMORY = inductor_prims.force_stride_order  # product_loops.realised
# Of several results only those of split and unbind are views; `_in_memory` stops at any other.
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
    """Replaces each matrix product a b, or a b + bias, of a graph that `is_large` or `is_small`."""

    def __init__(self) -> None:
        # Here, since a graph out of the compiler's cache calls it without passing through this again.
        self._large: Any = large_product()

    def __call__(self, graph: fx.Graph) -> None:
        # A sum's strides may be others than its product's, and as_strided alone would tell.
        sums = not graph.find_nodes(op="call_function", target=_aten.as_strided.default)
        for node in list(graph.nodes):
            operands = _operands(node)
            if operands is None:
                continue
            a, b, bias = operands
            replacement: Any = None
            with graph.inserting_before(node):
                if self._large is not None and is_large(a.meta["val"], b.meta["val"]):
                    replacement = graph.call_function(self._large, operands)
                elif sums and is_small(a.meta["val"], b.meta["val"]):
                    replacement = _inline(graph, loops, *(_in_memory(graph, operand) for operand in (a, b)))
                    if bias is not None:
                        replacement = graph.call_function(_aten.add.Tensor, (replacement, bias))
            if replacement is not None:
                replacement.meta.update(node.meta)
                node.replace_all_uses_with(replacement)
                graph.erase_node(node)

    def uuid(self) -> Any:
        """What a graph in the compiler's cache depends on besides itself."""
        return get_hash_for_files((__file__, products.__file__, product_loops.__file__), str(self._large))


def _operands(node: Any) -> tuple[Any, Any, Any] | None:
    """(a, b, bias or None) of a node that is such a product, else None."""
    if node.target is _aten.mm.default:
        return (*node.args[:2], None)
    if node.target is _aten.addmm.default and not node.kwargs:
        bias, a, b = node.args
        # Any other shape is broadcast, which oneDNN's bias is not.
        if bias.meta["val"].shape == b.meta["val"].shape[1:]:
            return a, b, bias
    return None


def _in_memory(graph: fx.Graph, x: Any) -> Any:
    """x, or what stands for it once the array that it is or is a view of is one in memory: for speed alone."""
    whole = x
    while whole.target in _VIEWS:
        whole = whole.args[0]
    value = whole.meta["val"]
    # What no call makes, an input or a constant, lies in memory already.
    done = whole.op != "call_function" or whole.target is _IN_MEMORY
    if done or not isinstance(value, torch.Tensor) or not is_non_overlapping_and_dense_or_false(value):
        return x
    with graph.inserting_after(whole):
        kept = _inline(graph, realised, whole)
    whole.replace_all_uses_with(kept, delete_user_cb=lambda user: user is not kept)
    return kept if whole is x else x


def _inline(graph: fx.Graph, function: Any, *operands: Any) -> Any:
    """The nodes of function(operands), copied into the graph where it inserts; returns the result's."""
    # Not the function itself, whose default arguments would be traced as well.
    trace = make_fx(lambda *arrays: function(*arrays), select_decomp_table())
    traced = trace(*(operand.meta["val"] for operand in operands))
    # A graph's first nodes are its inputs.
    return graph.graph_copy(traced.graph, dict(zip(traced.graph.nodes, operands, strict=False)))
