"""Which device, how many threads, and whether a compiler pays."""

import ctypes
import importlib.util
import os
import shutil
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import torch

from bbbrun.errors import UserError
from bbbrun.schema.config import Device

P = ParamSpec("P")
R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def choose_device(device: Device) -> torch.device:
    """The torch device for `device=auto|cpu|cuda`; raises UserError where CUDA is asked for and missing."""
    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise UserError(
            "device=cuda: this machine has no CUDA device that torch can use; say device=cpu or device=auto"
        )
    return torch.device("cuda" if available and device is not Device.cpu else "cpu")


def set_threads(threads: int | None) -> int:
    """Set torch's thread count unless `threads` is None, and return the count in force."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def set_products(tf32: bool, device: torch.device) -> None:
    """Have CUDA's matrix products round their factors to TensorFloat-32, 10 bits of mantissa, or not.

    Raises UserError where it is asked of the CPU, which has no such products.
    """
    if tf32 and device.type != "cuda":
        raise UserError(
            "tf32: TensorFloat-32 is for matrix products on CUDA, and these would be on the CPU: say tf32=false"
        )
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def keep_freed_memory() -> None:
    """Have glibc keep what a training step frees for the next one; does nothing under another C library.

    By default blocks of megabytes go back to the system at each step's end and are faulted in again page by
    page: 8 of 45 ms of a step with 2.4 million weights.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler for the CPU, Triton and a C compiler for CUDA."""
    if device.type == "cuda":
        compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        return importlib.util.find_spec("triton") is not None and any(map(shutil.which, compilers))
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def should_compile(choice: str, weights: int, steps: int, draws: int, device: torch.device) -> tuple[bool, str]:
    """Whether to compile the training step, and the warning to show where it cannot be.

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

    No guards: those of a training step cost 0.1 ms a call, a fifth of the bandit's. Products and sums contract to
    fused multiply-adds, as the eager CPU kernels' do not: results agree to rounding.
    """
    from bbbrun.runtime.matmul_pass import Products  # here, since torch's compiler takes seconds to load

    # A code object of its own: torch keeps what it compiled with the code, and without guards it would take one
    # training's step for the next one's, which differs in its closure alone.
    assert isinstance(function, FunctionType)
    assert not hasattr(function, "__wrapped__")
    own = FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
    options: dict[str, Any] = {
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
        "cpp.enable_floating_point_contract_flag": "fast",
        "post_grad_custom_post_pass": Products(),
    }
    return torch.compile(own, dynamic=False, fullgraph=True, options=options)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
