"""Checks of configured values: each raises a UserError of one line that names the key and what it may be."""

import math

from bbbrun.errors import UserError


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


def require_count(key: str, value: int, least: int = 1, most: float = math.inf) -> None:
    expected = f"a whole number of at least {least}" if most == math.inf else f"a whole number from {least} to {most}"
    require(least <= value <= most, key, expected, value)
