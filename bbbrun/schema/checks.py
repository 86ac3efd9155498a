"""Checks of configured values: each raises a UserError of one line that names the key and the allowed values."""

import itertools
import math
from collections.abc import Sequence

from bbbrun.errors import UserError

MOST_STEPS = _MOST = 2**31 - 1  # the noise counts steps in a word of 31 bits
MOST_DRAWS, MOST_LAYERS = 1 << 16, 100  # and draws, layers and both together in 24 bits
_MOST_WEIGHTS = 2 * _MOST  # and weights in pairs
MOST_ROWS = 10**8  # of data that lie in memory


def require(holds: bool, key: str, expected: str, value: object) -> None:
    if not holds:
        raise UserError(f"{key} must be {expected}, not {value}")


def require_positive(key: str, value: float) -> None:
    require(0 < value < math.inf, key, "a positive finite number", value)


def require_deviation(key: str, value: float) -> None:
    # Its inverse square is a float32.
    require(1e-15 <= value <= 1e15, key, "from 1e-15 to 1e15", value)


def require_reward(key: str, value: float) -> None:
    require(-1e15 <= value <= 1e15, key, "from -1e15 to 1e15", value)


def require_count(key: str, value: int, least: int = 1, most: int = _MOST, size: int = 0) -> None:
    """size: the least bytes of each counted item; 0 for no memory."""
    require(value >= least, key, f"a whole number of at least {least}", value)
    memory = f", which would need at least {_gibibytes(value * size)}" if size else ""
    require(value <= most, key, f"a whole number from {least} to {most}", f"{value}{memory}")


def require_draws(key: str, value: int) -> None:
    require_count(key, value, most=MOST_DRAWS)


def require_layers(key: str, units: Sequence[int]) -> None:
    """units: of each hidden layer. Counts only the weights between them, not those of inputs and outputs."""
    require(all(count >= 1 for count in units), key, "a list of whole numbers of at least 1", units)
    require(len(units) <= MOST_LAYERS, key, f"a list of at most {MOST_LAYERS} layers", f"of {len(units)}")
    weights = sum(units) + sum(a * b for a, b in itertools.pairwise(units))
    expected = f"layers of at most {_MOST_WEIGHTS} weights"
    require(weights <= _MOST_WEIGHTS, key, expected, f"{units}, which would need at least {_gibibytes(4 * weights)}")


def _gibibytes(size: int) -> str:
    """A size in bytes as text, by whole numbers, since no float is above 2^1024."""
    return f"{size >> 30} GiB"
