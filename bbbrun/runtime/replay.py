"""Repeats a step without the Python around its compiled function."""

import sys
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat, starmap
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """A function that is a whole step, and the arrays to call it with."""

    function: Callable[..., object]
    arrays: tuple[Tensor, ...]


class Recorded:
    """A step without arguments or result, taken many times, that is faster from its third or fourth time on.

    changed: all the tensors that a step changes. They and the tensors that it reads must stay where they are in memory:
    a step would not notice another one in their place.

    On CUDA step 2 is captured as a CUDA graph, and later steps replay it: one launch in place of dozens. On the CPU a
    compiled step is one C++ function, and the Python around it allocates its scratch arrays and makes views: a quarter
    of the time of a bandit's step. Step 2 records the function and its arrays. Step 3 checks them: fill the scratch
    arrays with NaN, call the function alone, require the same result as the compiled step. If the results are equal,
    later steps call the function alone, else they continue as before.
    """

    def __init__(self, step: Callable[[], None], changed: Sequence[Tensor]) -> None:
        self._step, self._changed = step, changed
        self._stage = 0
        self._candidate: Call | None = None
        self.call: Call | None = None

    @property
    def settled(self) -> bool:
        """Whether steps are taken as they will be from here on: none compiles, records or checks."""
        return self.call is not None or self._stage > 2

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        for left in range(count, 0, -1):
            if self.call:
                # All that are left, without a trip through the interpreter for each.
                deque(starmap(self.call.function, repeat(self.call.arrays, left)), maxlen=0)
                return
            self._take()

    def _take(self) -> None:
        """The next step by its stage: the first (0) compiles, 1 and 2 are as the class says."""
        stage, self._stage = self._stage, self._stage + 1
        on_cuda = self._changed[0].is_cuda
        if stage == 1 and on_cuda:
            self._capture()
        elif stage == 1:
            self._candidate = _only_call(self._step)
        elif stage == 2 and not on_cuda:
            self._check()
        else:
            self._step()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Capturing does not run the step.
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:
            # Leaving a capture that failed fails as well, with an error of its own.
            cause = error.__context__ or error
            if not isinstance(cause, RuntimeError):
                raise cause from None
            reason = str(cause).strip().splitlines()[0]
            warnings.warn(f"no CUDA graph of the training step ({reason}): it runs slower", stacklevel=2)
            self._step()
            return
        self.call = Call(graph.replay, ())
        graph.replay()

    def _check(self) -> None:
        candidate, self._candidate = self._candidate, None
        if candidate is None:
            self._step()
            return
        start = [tensor.clone() for tensor in self._changed]
        third = _only_call(self._step)
        expected = [tensor.clone() for tensor in self._changed]
        _copy(start, self._changed)
        if third and third.function is candidate.function and _fill_scratch(candidate.arrays, third.arrays):
            candidate.function(*candidate.arrays)
            if all(map(torch.equal, self._changed, expected)):
                self.call = candidate
                return
        _copy(expected, self._changed)


def _fill_scratch(arrays: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    """Fill the scratch arrays among `arrays` with NaN; whether all of them could be.

    Scratch arrays lie elsewhere in each step as long as those of the step before are alive; `others` are the next
    step's.
    """
    scratch = [array for array, other in zip(arrays, others, strict=True) if array.data_ptr() != other.data_ptr()]
    for array in scratch:
        if not array.is_floating_point():
            return False
        array.fill_(torch.nan)
    return True


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _only_call(step: Callable[[], None]) -> Call | None:
    """Take the step, and return its call of one of the compiler's C++ functions; None if it makes none or several.

    Other calls of the step, of a library's products for example, are not seen.
    """
    calls: list[Call] = []
    count = 0

    def recording(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arrays: Tensor) -> None:
            nonlocal count
            count += 1
            # The arrays of several calls are not held: those of a large network's step are large.
            calls[:] = [Call(function, arrays)] if count == 1 else []
            function(*arrays)

        return call

    functions = _compiled_functions()
    try:
        for module, name, function in functions:
            setattr(module, name, recording(function))
        step()
    finally:
        for module, name, function in functions:
            setattr(module, name, function)
    return calls[0] if calls else None


def _compiled_functions() -> list[tuple[ModuleType, str, Callable[..., None]]]:
    """The compiler's C++ functions so far, as (module, name, function); none where torch keeps them elsewhere."""
    compiler = sys.modules.get("torch._inductor.codecache")  # its import takes seconds, where nothing is compiled
    modules = getattr(getattr(compiler, "PyCodeCache", None), "modules", [])
    return [
        (module, name, function)
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("cpp_fused")
    ]
