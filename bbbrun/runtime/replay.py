"""A step called again and again without what Python does around the work that it gives the device."""

import sys
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat, starmap
from typing import NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """A function that is a whole step, and what to call it with."""

    function: Callable[..., object]
    arrays: tuple[Tensor, ...]


class Recorded:
    """A step without arguments or result, to be taken many times, that goes faster once it has been recorded.

    On CUDA the second step is captured as a CUDA graph, which later ones replay: one launch in place of dozens.
    On the CPU, where a compiled step is one C++ function, the code around it makes the arrays for what is computed on
    the way, and views of them: a quarter of the time of a bandit's step. So the second step is recorded, with these
    arrays. At the third they are spoilt, the function called, and what it leaves compared with what the compiled step
    leaves from the same start: if it is the same, later steps call the function alone.
    Either way the tensors that a step reads and changes must then stay where they are: one put in another's place would
    not be noticed.
    changed: all the tensors that a step changes.
    """

    def __init__(self, step: Callable[[], None], changed: Sequence[Tensor]) -> None:
        self._step, self._changed = step, changed
        self._first = iter((step, self._capture) if changed[0].is_cuda else (step, self._record, self._compare))
        self._recorded: Call | None = None
        self.call: Call | None = None

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        for left in range(count, 0, -1):
            if self.call:
                # All that are left, without a trip through the interpreter for each.
                deque(starmap(self.call.function, repeat(self.call.arrays, left)), maxlen=0)
                return
            next(self._first, self._step)()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # What is captured does not run.
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:
            # To leave a capture that failed fails as well.
            cause = error.__context__ or error
            if not isinstance(cause, RuntimeError):
                raise cause from None
            reason = str(cause).strip().splitlines()[0]
            warnings.warn(f"no CUDA graph of the training step ({reason}): it runs slower", stacklevel=2)
            self._step()
            return
        self.call = Call(graph.replay, ())
        graph.replay()

    def _record(self) -> None:
        self._recorded = _only_call(self._step)

    def _compare(self) -> None:
        second, self._recorded = self._recorded, None
        if second is None:
            self._step()
            return
        start = [tensor.clone() for tensor in self._changed]
        third = _only_call(self._step)
        stepped = [tensor.clone() for tensor in self._changed]
        _copy(start, self._changed)
        if third and third.function is second.function and _spoilt(second.arrays, third.arrays):
            second.function(*second.arrays)
            if all(map(torch.equal, self._changed, stepped)):
                self.call = second
                return
        _copy(stepped, self._changed)


def _spoilt(second: tuple[Tensor, ...], third: tuple[Tensor, ...]) -> bool:
    """Make not-a-number of all that the second step computed on the way; whether all of it could be.

    It is what lies elsewhere in the third, since it is still held.
    """
    made = [array for array, other in zip(second, third, strict=True) if array.data_ptr() != other.data_ptr()]
    for array in made:
        if not array.is_floating_point():
            return False
        array.fill_(torch.nan)
    return True


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _only_call(step: Callable[[], None]) -> Call | None:
    """Take the step, and return its call of a C++ function of the compiler's; None where there are none or several.

    What else the step calls, a library's products say, is not seen.
    """
    calls: list[Call] = []
    count = 0

    def recording(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arrays: Tensor) -> None:
            nonlocal count
            count += 1
            # Of several none is kept, nor its arrays: those of a large network's step are large.
            calls[:] = [Call(function, arrays)] if count == 1 else []
            function(*arrays)

        return call

    compiler = sys.modules.get("torch._inductor.codecache")  # which takes seconds to load, where nothing is compiled
    modules = getattr(getattr(compiler, "PyCodeCache", None), "modules", [])
    functions = [
        (module, name, function)
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("cpp_fused")
    ]
    try:
        for module, name, function in functions:
            setattr(module, name, recording(function))
        step()
    finally:
        for module, name, function in functions:
            setattr(module, name, function)
    return calls[0] if calls else None
