"""torch.compile as a training step needs it, and whether compiling pays."""

import importlib.util
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler for the CPU, Triton and a C compiler for CUDA."""
    if device.type == "cuda":
        compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        return importlib.util.find_spec("triton") is not None and any(map(shutil.which, compilers))
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def should_compile(choice: str, weights: int, steps: int, draws: int, device: torch.device) -> tuple[bool, str]:
    """Whether to compile the training step, and the warning to show where that is impossible.

    auto compiles where the time saved exceeds a cold compilation. Measured on two cores: an eager step costs
    about 3 ms and 60 ns a weight and draw more than a compiled one; compiling takes about 40 s. The answer
    depends on the configuration and the machine alone, so a resumed run takes the same path.
    """
    if choice == "false":
        return False, ""
    if choice == "auto" and steps * (3e-3 + 60e-9 * weights * draws) < 40:
        return False, ""
    if not has_compiler(device):
        return (
            False,
            "no compiler found: training runs uncompiled, several times slower (compile=false hides this)",
        )
    return True, ""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """`function` under torch.compile, for tensors that keep their shapes, types and places for as long as it lives.

    Products and sums contract to fused multiply-adds, as those of the eager CPU kernels do not: results agree to
    rounding.
    """
    # torch keeps compiled code with the code object. Without guards it would reuse that of an earlier training, which
    # differs from this one in its closure alone; so each has a code object of its own.
    assert isinstance(function, FunctionType)
    assert not hasattr(function, "__wrapped__")
    own = FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
    # On CUDA it logs that one of its products cannot be tried against others, though no trial was asked for.
    logging.getLogger("torch._inductor.select_algorithm").setLevel(logging.ERROR)
    function = torch.compile(own, dynamic=False, fullgraph=True, options=_options())
    compiling = True

    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        nonlocal compiling
        if not compiling:
            return function(*arguments, **keywords)
        # What libraries warn of while they compile is not for the user: that TensorFloat-32 is faster, for one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(*arguments, **keywords)
        compiling = False
        return result

    return call


def _options() -> dict[str, Any]:
    """The options of torch.compile for a step; one that this torch lacks is left out, all of them at the worst."""
    choices: dict[str, Any] = {
        "cpp.enable_floating_point_contract_flag": "fast",
        "post_grad_custom_post_pass": product_pass(),
    } | vector_width()
    names = _known_options()
    if not _CPU_THRESHOLDS.keys() & set(names):
        choices |= {name.replace("_cpu_", "_"): value for name, value in _CPU_THRESHOLDS.items()}
    options = {name: value for name, value in choices.items() if value is not None and name in names}
    # Guards of a bandit's step cost 0.1 ms a call. Callers of `compiled` keep what they check.
    no_guards = getattr(torch.compiler, "skip_all_guards_unsafe", None)
    return options if no_guards is None else options | {"guard_filter_fn": no_guards}


def index_table(*shape: int, device: torch.device) -> Tensor:
    """Zeros of a shape, int64, for a table of indices of which a compiled step reads one row at a time.

    Of several replicas, on the CPU, the compiler before torch 2.13 transposes tiles of adjacent numbers before it has
    computed which row to read: its C++ does not compile. It leaves numbers alone that lie apart in memory.
    """
    apart = 2 if torch.__version__ < "2.13" else 1
    return torch.zeros(*shape[:-1], shape[-1] * apart, dtype=torch.int64, device=device)[..., ::apart]


def vector_width() -> dict[str, int]:
    """The option with the width of vectors that the compiler would choose by itself; none where torch does not tell it.

    Options are part of the key of the compiler's cache, which lacks this width (torch 2.15). Code made for another one
    would be compiled for this one: it skips numbers, or writes past the end of an array.
    """
    try:
        from torch._inductor.cpu_vec_isa import pick_vec_isa

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"cpp.simdlen": pick_vec_isa().bit_width()}
    except Exception:  # it tries the C++ compiler, whose failure is told when the step itself is compiled
        return {}


# From how many operations, and reads, on the compiler keeps a result in memory that several loops need, as later torch
# has it for the CPU. With the 30 and 8 of torch 2.11 a step takes two arrays of the weights' size more.
_CPU_THRESHOLDS = {"realize_cpu_opcount_threshold": 50, "realize_cpu_acc_reads_threshold": 12}


def _known_options() -> list[str]:
    """The names of torch.compile's options; none where torch does not tell them."""
    try:
        from torch._inductor import list_options
    except ImportError:
        return []
    return list_options()


def product_pass() -> Callable[[torch.fx.Graph], None] | None:
    """The compiler pass that replaces matrix products; None where torch lacks what it is made of."""
    try:
        from bbbrun.runtime.matmul_pass import Products  # here, since torch's compiler takes seconds to load
    except (ImportError, AttributeError):
        return None
    return Products()


def compile_errors() -> tuple[type[Exception], ...]:
    """What a compiled function raises where compiling fails, for an `except` clause.

    Nothing where torch's compiler is not loaded, and RuntimeError, its base, where torch does not name it.
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return ()
    return (getattr(getattr(dynamo, "exc", None), "TorchDynamoException", RuntimeError),)


# What the compiler's own files raise: a folder for temporary files that is full or forbids programs, a cache that
# cannot be written, a user without a name.
COMPILER_FILES: tuple[type[Exception], ...] = (OSError, ImportError, KeyError)


def reason_of(error: BaseException) -> str:
    """The line of a failed compilation that says most; torch's first one may only name the backend."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("backend=")), type(error).__name__)
