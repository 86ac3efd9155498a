"""A compiled step called again and again without what Python does around the one C++ function that it is."""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat, starmap
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """A C++ function of the compiler's, and what it was called with."""

    function: Callable[..., None]
    arrays: tuple[Any, ...]


class Recorded:
    """A step without arguments or result, to be taken many times; as under a CUDA graph, its tensors may not move.

    Around its C++ function, compiled code makes the arrays for what is computed on the way, and views of them: a
    quarter of the time of a bandit's step. So the second step is recorded, with its arrays; the third is taken twice
    from the same start; and if one C++ function then left the same, bit for bit, later steps call it alone.
    changed: all the tensors that a step changes.
    """

    def __init__(self, step: Callable[[], None], changed: Sequence[Tensor]) -> None:
        self._step, self._changed = step, changed
        self._taken = 0
        self._calls: list[Call] = []
        self.call: Call | None = None

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        for left in range(count, 0, -1):
            if self.call:
                # All that are left, without a trip through the interpreter for each.
                deque(starmap(self.call.function, repeat(self.call.arrays, left)), maxlen=0)
                return
            self._taken += 1
            if self._taken == 2:
                self._calls = _calls(self._step)
            elif self._taken == 3 and len(self._calls) == 1:
                self._compare(self._calls.pop())
            else:
                self._step()

    def _compare(self, call: Call) -> None:
        """Take a step, and the call from the same start, where what it leaves out would be the second step's."""
        start = [tensor.clone() for tensor in self._changed]
        self._step()
        stepped = [tensor.clone() for tensor in self._changed]
        _copy(start, self._changed)
        call.function(*call.arrays)
        if all(map(torch.equal, self._changed, stepped)):
            self.call = call
        else:
            _copy(stepped, self._changed)


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _calls(step: Callable[[], None]) -> list[Call]:
    """Take the step, and return its calls of C++ functions of the compiler's; of other functions it may call any."""
    calls: list[Call] = []
    compiler = sys.modules.get("torch._inductor.codecache")  # which takes seconds to load, where nothing is compiled
    modules = compiler.PyCodeCache.modules if compiler else []

    def recording(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arrays: Any) -> None:
            calls.append(Call(function, arrays))
            function(*arrays)

        return call

    functions = [
        (module, name, function)
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("cpp_fused")
    ]
    for module, name, function in functions:
        setattr(module, name, recording(function))
    try:
        step()
    finally:
        for module, name, function in functions:
            setattr(module, name, function)
    return calls
