"""torch's private names: the quick path is taken with them, and without any one of them steps give the same."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bbbrun
from bbbrun.runtime import compile, gradients, matmul
from bbbrun.runtime.compile import compile_errors, compiled, product_pass
from bbbrun.runtime.replay import Recorded

GENERATOR = torch.Generator().manual_seed(0)
PASS = "bbbrun.runtime.matmul_pass"
SMALL, LARGE = (8, 12, 10), (64, 300, 256)
HAS_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


class Steps:
    """A step that multiplies, and its running total."""

    def __init__(self, sizes: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> None:
        rows, inner, columns = sizes
        generator = torch.Generator().manual_seed(1)
        a, b = (torch.randn(*size, generator=generator).to(dtype) for size in ((rows, inner), (inner, columns)))
        self.total = total = torch.zeros(rows, columns, dtype=dtype)

        def step() -> None:
            total.add_(torch.tanh(torch.mm(a + total[:, :1], b)))

        self.step = step

    def taken(self, count: int) -> Tensor:
        """The total after so many compiled steps, recorded where they can be."""
        self.recorded = Recorded(compiled(self.step), [self.total])
        self.recorded(count)
        return self.total


def expected(sizes: tuple[int, int, int], count: int) -> Tensor:
    exact = Steps(sizes, torch.float64)
    for _ in range(count):
        exact.step()
    return exact.total


def operators(step: Recorded) -> set[str]:
    with torch.profiler.profile(acc_events=True) as profile:
        step(1)
    return {event.key for event in profile.key_averages()}


def assert_same_numbers(sizes: tuple[int, int, int]) -> Steps:
    steps = Steps(sizes)
    torch.testing.assert_close(steps.taken(4).double(), expected(sizes, 4), rtol=1e-4, atol=1e-4)
    return steps


def test_small_products_are_loops_of_one_function_that_is_called_alone():
    steps = assert_same_numbers(SMALL)
    assert steps.recorded.call is not None
    assert not operators(steps.recorded) & {"aten::mm", "aten::addmm", "bbbrun::product"}


@pytest.mark.usefixtures("fast_onednn")
def test_large_products_are_onednns_where_the_processor_has_avx512():
    assert (matmul.large_product() is not None) == HAS_ONEDNN
    steps = assert_same_numbers(LARGE)
    assert steps.recorded.call is None
    assert ("bbbrun::product" in operators(steps.recorded)) == HAS_ONEDNN


def test_a_compiled_function_has_all_that_speeds_it_up():
    names = {"cpp.enable_floating_point_contract_flag", "cpp.simdlen", "post_grad_custom_post_pass", "guard_filter_fn"}
    if "realize_cpu_opcount_threshold" not in torch._inductor.list_options():
        names |= {"realize_opcount_threshold", "realize_acc_reads_threshold"}
    assert set(compile._options()) == names


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._inductor.inductor_prims", "force_stride_order"),
        ("torch._inductor.custom_graph_pass", "CustomGraphPass"),
        ("torch._inductor.decomposition", "select_decomp_table"),
        ("torch.fx.experimental.proxy_tensor", "make_fx"),
    ],
)
def test_without_a_name_of_the_pass_products_stay_products(monkeypatch, module, name):
    monkeypatch.delitem(sys.modules, PASS, raising=False)
    with monkeypatch.context() as missing:
        missing.delattr(importlib.import_module(module), name)
        assert product_pass() is None
    monkeypatch.setattr(compile, "product_pass", lambda: None)  # torch itself cannot compile without some of them
    assert "aten::mm" in operators(assert_same_numbers(SMALL).recorded)


def test_without_the_name_of_the_vectors_width_the_compiler_chooses_it_alone(monkeypatch):
    monkeypatch.delattr(importlib.import_module("torch._inductor.cpu_vec_isa"), "pick_vec_isa")
    assert "cpp.simdlen" not in compile._options()


def test_a_compiler_that_fails_while_its_vectors_are_asked_for_fails_later(monkeypatch):
    def broken():
        raise RuntimeError("C++ compile error")

    monkeypatch.setattr(importlib.import_module("torch._inductor.cpu_vec_isa"), "pick_vec_isa", broken)
    assert "cpp.simdlen" not in compile._options()


def test_without_a_name_to_switch_guards_off_the_compiler_checks_them(monkeypatch):
    monkeypatch.delattr(torch.compiler, "skip_all_guards_unsafe")
    assert "guard_filter_fn" not in compile._options()
    assert_same_numbers(SMALL)


@pytest.mark.slow
def test_without_the_names_of_its_options_the_compiler_gets_none(monkeypatch):
    monkeypatch.delattr(torch.compiler, "skip_all_guards_unsafe")
    monkeypatch.delattr(torch._inductor, "list_options")
    assert compile._options() == {}
    assert "aten::mm" in operators(assert_same_numbers(SMALL).recorded)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpp.enable_floating_point_contract_flag", "post_grad_custom_post_pass"])
def test_an_option_that_torch_does_not_know_is_not_asked_for(monkeypatch, name):
    others = [option for option in torch._inductor.list_options() if option != name]
    monkeypatch.setattr(torch._inductor, "list_options", lambda: others)
    assert name not in compile._options()
    assert_same_numbers(SMALL)


def nll(weights: list[Tensor], others: list[Tensor]) -> Tensor:
    return (
        torch.logsumexp(torch.tanh(weights[0]) @ weights[1], dim=0).square().sum() + others[0].sum() * weights[1].sum()
    )


def random_parts() -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    first, *rest = (torch.randn(*size, generator=generator) for size in ((5, 4), (4, 3), (6,), (2,)))
    return [first, rest[0]], rest[1:]


@pytest.mark.parametrize("level", ["told", "missing"])
def test_gradients_by_autograd_are_those_of_torchs_transform(monkeypatch, level):
    parts = random_parts()
    if level == "missing":
        monkeypatch.delattr(torch._C._functorch, "maybe_current_level")
    assert gradients._is_transformed() == (level == "missing")
    with torch.no_grad():
        both, value = gradients.gradient_and_value(nll, *parts)
    expected, same = torch.func.grad_and_value(nll, argnums=(0, 1))(*parts)
    assert torch.equal(value, same)
    assert not value.requires_grad
    assert [len(each) for each in both] == [2, 2]
    assert all(torch.equal(*pair) for each in zip(both, expected, strict=True) for pair in zip(*each, strict=True))
    assert not both[1][1].any()  # which nll does not read
    [[zeros]], one = gradients.gradient_and_value(lambda part: torch.ones(()), [torch.zeros(2)])
    assert not zeros.any()
    assert one == 1


def test_gradients_inside_vmap_are_those_of_each_member():
    weights, others = random_parts()
    members = torch.stack([weights[0], 2 * weights[0]])
    [[stacked, _], _], values = torch.vmap(
        lambda member: gradients.gradient_and_value(nll, [member, weights[1]], others)
    )(members)
    for member, gradient, value in zip(members, stacked, values, strict=True):
        [[alone, _], _], own = gradients.gradient_and_value(nll, [member, weights[1]], others)
        torch.testing.assert_close(gradient, alone)
        torch.testing.assert_close(value, own)


def unlike(*_: object) -> Tensor:
    """An operator of another signature, or that computes something else."""
    return torch.zeros(2, 2)


@pytest.mark.parametrize("operator", [None, object(), type("Packet", (), {"default": staticmethod(unlike)})])
def test_without_onednns_operator_or_with_another_of_its_name_products_are_torchs(monkeypatch, operator):
    # The compiler's own rules name the operator. It loads them with the first graph that its cache does not have.
    importlib.import_module("torch._inductor.fx_passes.post_grad").lazy_init()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", operator)
    for function in ("onednn_operator", "large_product"):
        monkeypatch.setattr(matmul, function, getattr(matmul, function).__wrapped__)
    monkeypatch.delitem(sys.modules, PASS, raising=False)
    assert matmul.large_product() is None
    a, b = (torch.randn(300, 300, generator=GENERATOR) for _ in range(2))
    assert torch.equal(matmul.matrix_product(a, b), torch.mm(a, b))
    assert "bbbrun::product" not in operators(assert_same_numbers(LARGE).recorded)


def test_without_the_list_of_compiled_functions_steps_go_through_the_compilers_python(monkeypatch):
    steps = Steps(SMALL)
    steps.taken(1)
    with monkeypatch.context() as missing:
        missing.delattr(sys.modules["torch._inductor.codecache"].PyCodeCache, "modules")
        steps.recorded(3)
    assert steps.recorded.call is None
    torch.testing.assert_close(steps.total.double(), expected(SMALL, 4), rtol=1e-4, atol=1e-4)


def test_a_failure_to_compile_is_told_from_others(monkeypatch):
    def untraceable() -> None:
        print(torch.ones(1).item())

    with pytest.raises(Exception) as failure:  # noqa: PT011
        compiled(untraceable)()
    assert isinstance(failure.value, compile_errors())
    assert not issubclass(RuntimeError, compile_errors())
    assert not issubclass(KeyboardInterrupt, compile_errors())
    with monkeypatch.context() as missing:
        missing.delattr(torch._dynamo.exc, "TorchDynamoException")
        assert isinstance(failure.value, compile_errors())
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    assert compile_errors() == ()


def test_no_other_part_of_the_package_names_them():
    private = re.compile(r"\btorch\.(\w+\.)*_(?!_)\w+|\binductor|\bmkldnn\b|_functorch|skip_all_guards")
    package = Path(bbbrun.__file__).parent
    lines = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if path.parent.name != "runtime"
        for line in path.read_text().splitlines()
        if private.search(line)
    ]
    assert lines == []
