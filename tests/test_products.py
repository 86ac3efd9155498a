import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from bbbrun.networks import mlp
from bbbrun.product_pass import LargeProducts
from bbbrun.products import large_product, linear

GENERATOR = torch.Generator().manual_seed(0)


def example(batch: int, width_in: int, width_out: int):
    sizes = ((batch, width_in), (width_out, width_in), (width_out,), (batch, width_out))
    return [torch.randn(*size, generator=GENERATOR) for size in sizes]


def forwards_and_backwards(x, weight, bias, gradient):
    """The three products of a layer, laid out as training has them: of views, some of them transposed."""
    return torch.addmm(bias, x, weight.t()), torch.mm(gradient, weight), torch.mm(gradient.t(), x)


@pytest.mark.parametrize("sizes", [(128, 300, 200), (8, 12, 4)])
def test_linear_is_the_affine_map(sizes):
    x, weight, bias, _ = example(*sizes)
    expected = x.double() @ weight.double().t() + bias.double()
    torch.testing.assert_close(linear(x, weight, bias).double(), expected, rtol=1e-5, atol=1e-4)
    assert linear(x.double(), weight.double(), bias.double()).dtype is torch.float64


@pytest.mark.parametrize(("sizes", "replaced"), [((128, 300, 200), 3), ((8, 12, 4), 0)])
def test_large_products_of_a_graph_are_replaced_and_give_the_same(sizes, replaced):
    if large_product() is None:
        pytest.skip("oneDNN is no faster here: this processor has no AVX-512, or torch no oneDNN")
    operands = example(*sizes)
    graph = make_fx(forwards_and_backwards, tracing_mode="fake")(*operands)
    LargeProducts()(graph.graph)
    graph.recompile()
    assert sum(node.target is large_product() for node in graph.graph.nodes) == replaced
    for ours, reference in zip(
        graph(*operands), forwards_and_backwards(*(part.double() for part in operands)), strict=True
    ):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=2e-4)


def test_a_bias_that_is_a_matrix_is_added_as_one():
    x, weight, _, matrix = example(128, 300, 200)
    graph = make_fx(lambda *parts: torch.addmm(*parts), tracing_mode="fake")(matrix, x, weight.t())
    LargeProducts()(graph.graph)
    graph.recompile()
    torch.testing.assert_close(graph(matrix, x, weight.t()), matrix + x @ weight.t(), rtol=1e-5, atol=2e-4)


def test_predictions_are_the_networks_outputs():
    network = mlp(300, [200, 100], 10)
    weights = 0.1 * torch.randn(network.size, generator=GENERATOR)
    inputs = torch.randn(128, 300, generator=GENERATOR)
    expected = network(weights.double(), inputs.double())
    torch.testing.assert_close(network.predict(weights, inputs).double(), expected, rtol=1e-4, atol=1e-4)
