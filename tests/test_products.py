import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from bbbrun.bayes.networks import mlp
from bbbrun.runtime import matmul
from bbbrun.runtime.compile import compiled
from bbbrun.runtime.matmul import _is_zen5 as zen5
from bbbrun.runtime.matmul import large_product, matrix_product
from bbbrun.runtime.matmul_pass import Products, is_narrow, is_small

GENERATOR = torch.Generator().manual_seed(0)
pytestmark = pytest.mark.usefixtures("fast_onednn")


def example(batch: int, width_in: int, width_out: int):
    sizes = ((batch, width_in), (width_out, width_in), (width_out,), (batch, width_out))
    return [torch.randn(*size, generator=GENERATOR) for size in sizes]


def skip_without_onednn():
    if large_product() is None:
        pytest.skip("this processor has no AVX-512, or torch no oneDNN")


@pytest.mark.parametrize("is_zen5", [False, True])
def test_large_products_are_onednns_from_zen_5_on(monkeypatch, is_zen5):
    skip_without_onednn()
    monkeypatch.setattr(matmul, "_is_zen5", lambda: is_zen5)
    large_product.cache_clear()
    assert (large_product() is not None) == is_zen5


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [("AuthenticAMD", 25, False), ("AuthenticAMD", 26, True), ("GenuineIntel", 26, False), ("GenuineIntel", 6, False)],
)
def test_the_kind_of_the_processor_is_read_from_the_system(monkeypatch, tmp_path, name, family, expected):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(matmul, "Path", lambda _: file)
    monkeypatch.setattr(matmul.platform, "processor", lambda: f"AMD64 Family {family} Model 33 Stepping 0, {name}")
    assert zen5() == expected
    monkeypatch.setattr(matmul.platform, "processor", lambda: "")
    assert not zen5()
    file.write_text(f"processor\t: 0\nvendor_id\t: {name}\ncpu family\t: {family}\nmodel\t\t: 97\n")
    assert zen5() == expected


def forwards_and_backwards(x, weight, bias, gradient):
    """The three products of a layer, laid out as training has them: of views, some of them transposed."""
    return torch.addmm(bias, x, weight.t()), torch.mm(gradient, weight), torch.mm(gradient.t(), x)


@pytest.mark.parametrize("sizes", [(128, 300, 200), (8, 12, 4)])
def test_a_product_with_and_without_bias(sizes):
    x, weight, bias, _ = example(*sizes)
    expected = x.double() @ weight.double().t()
    torch.testing.assert_close(matrix_product(x, weight.t()).double(), expected, rtol=1e-5, atol=1e-4)
    expected += bias.double()
    torch.testing.assert_close(matrix_product(x, weight.t(), bias).double(), expected, rtol=1e-5, atol=1e-4)
    assert matrix_product(x.double(), weight.double().t(), bias.double()).dtype is torch.float64


@pytest.mark.parametrize(("sizes", "replaced"), [((128, 300, 200), 3), ((8, 12, 4), 0)])
def test_large_products_of_a_graph_are_replaced_and_give_the_same(sizes, replaced):
    skip_without_onednn()
    operands = example(*sizes)
    graph = make_fx(forwards_and_backwards, tracing_mode="fake")(*operands)
    Products()(graph.graph)
    graph.recompile()
    assert sum(node.target is large_product() for node in graph.graph.nodes) == replaced
    for ours, reference in zip(
        graph(*operands), forwards_and_backwards(*(part.double() for part in operands)), strict=True
    ):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize(
    "sizes",
    [(64, 119, 100), (64, 100, 1), (64, 1, 100), (1, 100, 50), (6, 5, 4)],
    ids=str,
)
def test_small_products_of_a_graph_become_sums_and_give_the_same(sizes):
    operands = example(*sizes)
    graph = make_fx(forwards_and_backwards, tracing_mode="fake")(*operands)
    Products()(graph.graph)
    graph.recompile()
    products = {node.target for node in graph.graph.nodes} & {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
    assert not products
    for ours, reference in zip(
        graph(*operands), forwards_and_backwards(*(part.double() for part in operands)), strict=True
    ):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-4)


def test_what_no_block_of_rows_divides_and_what_is_large_stay_as_they_are():
    graph = make_fx(forwards_and_backwards, tracing_mode="fake")(*example(13, 11, 17))
    Products()(graph.graph)
    assert sum(node.target is torch.ops.aten.mm.default for node in graph.graph.nodes) == 2
    assert not is_small(torch.zeros(128, 784), torch.zeros(784, 10))
    assert not is_small(torch.zeros(64, 100, dtype=torch.float64), torch.zeros(100, 100, dtype=torch.float64))


def relu_times(x, w):
    return torch.relu(x) @ w


NARROW = [
    ((128, 90), (90, 10)),
    ((10, 128), (128, 90)),
    ((128, 10), (10, 90)),
    ((3, 8, 40), (3, 40, 5)),
    ((2, 1, 1), (2, 1, 9)),
]


@pytest.mark.parametrize(
    ("function", "shapes"),
    [(function, shapes) for function in (torch.matmul, relu_times) for shapes in NARROW]
    + [(torch.addmm, ((right[1],), left, right)) for left, right in NARROW if len(left) == 2],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_narrow_products_on_cuda_become_sums_and_give_the_same(function, shapes):
    operands = [torch.randn(*shape, generator=GENERATOR) for shape in shapes]
    with FakeTensorMode():
        graph = make_fx(function)(*(torch.empty(shape, device="cuda") for shape in shapes))
        assert len(products_of(graph)) == 1
        Products()(graph.graph)
    assert not products_of(graph)
    graph.recompile()
    exact = function(*(operand.double() for operand in operands))
    torch.testing.assert_close(graph(*operands).double(), exact, rtol=1e-5, atol=1e-4)


def products_of(graph):
    aten = torch.ops.aten
    return [
        node for node in graph.graph.nodes if node.target in (aten.mm.default, aten.bmm.default, aten.addmm.default)
    ]


def test_what_is_wide_or_rounded_stays_a_product_on_cuda():
    with FakeTensorMode():
        for rows, inner, columns, dtype in (
            (128, 784, 1200, None),
            (8, 784, 1200, None),
            (17, 17, 17, None),
            (128, 1200, 10, torch.bfloat16),
        ):
            a, b = (torch.empty(size, device="cuda", dtype=dtype) for size in ((rows, inner), (inner, columns)))
            assert not is_narrow(a, b)
    assert not is_narrow(torch.empty(128, 1200), torch.empty(1200, 10))


def test_products_of_all_kinds_of_arrays_compile_and_give_the_same():
    """Operands with several results behind them, with strides of zero, and a result whose strides are asked for."""
    image, x, w, v = (torch.randn(*size, generator=GENERATOR) for size in ((6, 1, 8, 8), (6, 20), (16, 10), (10, 8)))

    def products(image: torch.Tensor, x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
        pooled = F.max_pool2d(F.relu(image), 2).flatten(1)
        gradient = torch.func.grad(lambda w: (pooled @ w).sum())(w)
        return [
            pooled @ w,
            gradient,
            x.sin().chunk(2, 1)[1] @ v,
            x.sin().unbind(0)[0].expand(6, 20)[:, :10] @ v,
            x[:, :1].sin().expand(6, 10) @ v,
            torch.topk(x, 10)[0] @ v,
        ]

    def strided(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (x[:, :10] @ v.t().contiguous().t()).as_strided((3, 3), (1, 2), 1)

    step = compiled(lambda: (products(image, x, w, v), strided(x, v)))
    exact = [part.double() for part in (image, x, w, v)]
    expected = products(*exact), strided(x.double(), v.double())
    for ours, reference in zip([*step()[0], step()[1]], [*expected[0], expected[1]], strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(128, 200), (1,), (1, 200)])
def test_a_bias_that_is_broadcast_stays_as_it_was(shape):
    skip_without_onednn()
    x, weight, _, _ = example(128, 300, 200)
    bias = torch.randn(shape, generator=GENERATOR)
    graph = make_fx(lambda *parts: torch.addmm(*parts), tracing_mode="fake")(bias, x, weight.t())
    Products()(graph.graph)
    graph.recompile()
    torch.testing.assert_close(graph(bias, x, weight.t()), bias + x @ weight.t(), rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("bias", [torch.randn(400)[::2], torch.randn(200, 3)[:, 1], torch.randn(1).expand(200)])
def test_a_bias_with_gaps(bias):
    x, weight, _, _ = example(128, 300, 200)
    expected = x.double() @ weight.double().t() + bias.double()
    torch.testing.assert_close(matrix_product(x, weight.t(), bias).double(), expected, rtol=1e-5, atol=1e-4)


def test_predictions_are_the_networks_outputs():
    network = mlp(300, [200, 100], 10)
    weights = 0.1 * torch.randn(network.size, generator=GENERATOR)
    inputs = torch.randn(128, 300, generator=GENERATOR)
    expected = network(weights.double(), inputs.double())
    torch.testing.assert_close(network.predict(weights, inputs).double(), expected, rtol=1e-4, atol=1e-4)
