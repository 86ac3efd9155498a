"""The device of a run, its threads, its precision, and the memory between steps."""

import ctypes
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from bbbrun.errors import UserError
from bbbrun.schema.methods import Precision

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h
_SUBNORMAL = 2.0**-140  # of float32


def choose_device(device: str) -> torch.device:
    """The torch device for `device=auto|cpu|cuda|cuda:N`; a GPU becomes the process's current one.

    Raises UserError where CUDA is asked for and missing, or has no device of this number.
    """
    available = torch.cuda.is_available()
    if device.startswith("cuda") and not available:
        raise UserError(
            f"device={device}: this machine has no CUDA device that torch can use; say device=cpu or device=auto"
        )
    if not available or device == "cpu":
        return torch.device("cpu")
    number = device.partition(":")[2]
    chosen = torch.device("cuda")
    if number:
        count = torch.cuda.device_count()
        if int(number) >= count:
            names = ", ".join(f"cuda:{one} ({torch.cuda.get_device_name(one)})" for one in range(count))
            raise UserError(f"device={device}: this machine has {names}")
        # Captures and launches that name no device use the current one.
        chosen = torch.device("cuda", int(number))
        torch.cuda.set_device(chosen)
    return chosen


def name_of(device: torch.device) -> str:
    """The GPU's name, or cpu with the kind of processor and, where the system tells it, the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        name = None
    return f"cpu ({', '.join([platform.machine(), *([name[1]] if name else [])])})"


def set_threads(threads: int | None) -> int:
    """Set torch's thread count unless `threads` is None, and return the count in force."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


@contextmanager
def process_settings() -> Iterator[None]:
    """Restore what a run sets for its process: threads, precision of products, the current GPU, shown warnings.

    The jobs of a sweep share a process, and each must be what it is alone.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    reduced, rounded = matmul.allow_bf16_reduced_precision_reduction, cudnn.allow_tf32
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        matmul.allow_bf16_reduced_precision_reduction, cudnn.allow_tf32 = reduced, rounded
        if torch.cuda.is_initialized():
            torch.cuda.set_device(device)


def set_products(precision: Precision, device: torch.device) -> None:
    """Set whether products and convolutions on CUDA round factors to TensorFloat-32, which has 10 bits of mantissa.

    bfloat16 also needs the context `products_of`. Raises UserError where the device has no products of this precision.
    """
    if precision is Precision.tf32 and device.type != "cuda":
        raise UserError(
            "precision=tf32: TensorFloat-32 is for matrix products on CUDA, and these would be on the CPU: "
            "say precision=float32"
        )
    if precision is Precision.bfloat16 and not _has_bfloat16(device):
        raise UserError(
            "precision=bfloat16: this processor has no such products (AVX512_BF16, AMX, or a GPU from Ampere on): "
            "say precision=float32"
        )
    torch.set_float32_matmul_precision("high" if precision is Precision.tf32 else "highest")
    # By default torch rounds the factors of convolutions alone.
    torch.backends.cudnn.allow_tf32 = precision is Precision.tf32
    # Partial sums of a product stay float32.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def products_of(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which products and convolutions round their factors and results to bfloat16, for that precision.

    bfloat16 has 7 bits of mantissa; the sums are float32. The context changes nothing for any other precision.
    """
    if precision is not Precision.bfloat16:
        return nullcontext()
    # Without the cache, which would hold the rounded weights of every step.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private names: a torch that lacks them is taken not to have the products.
    tests = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(test is not None and test() for test in tests)


@contextmanager
def flushed_subnormals(device: torch.device) -> Iterator[None]:
    """A context in which the CPU, in the calling thread, takes floating-point numbers too small to be normal for 0.

    Those of float32 are below 1.2e-38. Adam's averages of gradients that have become 0 fade into them, and many
    processors are tens of times slower with them. It does nothing on a GPU, and where the processor cannot do it.
    """
    if device.type != "cpu" or torch.tensor(_SUBNORMAL).item() == 0:  # the caller has asked for the same
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Have glibc keep what a training step frees for the next step; does nothing under another C library.

    By default blocks of megabytes return to the system at the end of a step, and the next step faults them in again
    page by page: 8 of 45 ms of a step with 2.4 million weights.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
