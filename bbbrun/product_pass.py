"""What `devices.compiled` has the compiler do at last: give large matrix products to `products.large_product`."""

from typing import Any

import torch
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from bbbrun import products
from bbbrun.products import is_large, large_product


class LargeProducts(CustomGraphPass):
    """Replaces each matrix product a b, or a b + bias, of a graph that `is_large`."""

    def __init__(self) -> None:
        # Here, since a graph out of the compiler's cache calls it without passing through this again.
        self._product: Any = large_product()

    def __call__(self, graph: fx.Graph) -> None:
        if self._product is None:
            return
        for node in list(graph.nodes):
            operands = _operands(node)
            if operands and is_large(*(operand.meta["val"] for operand in operands[:2])):
                with graph.inserting_before(node):
                    replacement = graph.call_function(self._product, operands)
                replacement.meta.update(node.meta)
                node.replace_all_uses_with(replacement)
                graph.erase_node(node)

    def uuid(self) -> Any:
        """What a graph in the compiler's cache depends on besides itself."""
        return get_hash_for_files((__file__, products.__file__), str(self._product))


def _operands(node: Any) -> tuple[Any, Any, Any] | None:
    """(a, b, bias or None) of a node that is such a product, else None."""
    if node.target is torch.ops.aten.mm.default:
        return (*node.args[:2], None)
    if node.target is torch.ops.aten.addmm.default and not node.kwargs:
        bias, a, b = node.args
        # Any other shape is broadcast, which oneDNN's bias is not.
        if bias.meta["val"].shape == b.meta["val"].shape[1:]:
            return a, b, bias
    return None
