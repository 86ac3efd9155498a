"""The gradient of a function of lists of tensors, by the quickest way that the place of the call allows."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor

Parts = tuple[list[Tensor], ...]


def gradient_and_value(function: Callable[..., Tensor], *parts: list[Tensor]) -> tuple[Parts, Tensor]:
    """The gradient of function(*parts), a scalar, with respect to each tensor of `parts`, and its value.

    Zeros for a tensor that the function does not read.
    """
    if torch.compiler.is_compiling() or _is_transformed():
        gradient, value = torch.func.grad_and_value(function, argnums=tuple(range(len(parts))))(*parts)
        return gradient, value
    # By autograd itself: torch.func loads torch's compiler, which takes as long as torch's own start.
    leaves = tuple([part.detach().requires_grad_() for part in each] for each in parts)
    with torch.enable_grad():
        value = function(*leaves)
        # autograd refuses a value that no leaf enters.
        own = value if value.requires_grad else value + 0 * leaves[0][0].sum()
        gradients = iter(torch.autograd.grad(own, [part for each in leaves for part in each], materialize_grads=True))
    return tuple(list(islice(gradients, len(each))) for each in leaves), value.detach()


def _is_transformed() -> bool:
    """Whether the call is inside torch.vmap or another of torch.func's transforms; True where torch does not tell."""
    functorch = getattr(torch._C, "_functorch", None)
    level = getattr(functorch, "maybe_current_level", None)
    return level is None or level() is not None
