"""A user's own network: a function to import by name, and a file of starting weights."""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from bbbrun.errors import UserError, line_of


def imported(target: str) -> Any:
    """The object that `package.name` names; the current folder is searched last.

    Raises UserError where it cannot be imported. It runs the package's code, so import only trusted packages.
    """
    package, _, name = target.rpartition(".")
    sys.path.append("")
    try:
        return getattr(importlib.import_module(package), name)
    except (Exception, SystemExit) as error:  # a module may be a program that ends itself
        raise UserError(f"network.target={target} cannot be imported: {line_of(error)}") from error
    finally:
        # The last one: in a notebook the first is the user's own.
        if "" in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index("")]


def read_state(path: str) -> dict[str, Any]:
    """The state dict in a user's file; raises UserError where it is none, or holds anything but tensors."""
    place = Path(path).expanduser()
    if not place.is_file():
        raise UserError(f"network.weights={path}: there is no such file")
    try:
        state = torch.load(place, weights_only=True, map_location="cpu")
        if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
            raise TypeError("it holds something else than tensors by name")
    except Exception as error:
        raise UserError(f"network.weights={path} is no state dict that can be read: {line_of(error)[:120]}") from error
    return state
