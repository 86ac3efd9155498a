"""The space of a search: settings whose values are ranges, in Hydra's grammar, and log(LOW,HIGH)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bbbrun.errors import UserError
from bbbrun.schema.config import OPTIONS
from bbbrun.schema.quoting import word

# Hydra reads both ends as floats, so whole numbers are recognised in the text.
_WHOLE = re.compile(r"interval\(\s*-?\d+\s*,\s*-?\d+\s*\)")
_LOG = re.compile(r"([^=]+)=log\((.+)\)")


def space_of(settings: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """The fixed settings, and for each other key the distribution of its values.

    log(1e-4,1e-2): log-uniform; interval(0,1): uniform, whole numbers where both ends are; range(1,9) or range(1,9,2);
    0.25,0.5,0.75 or choice(0.25,0.5): one of these. Raises UserError for any other.
    """
    fixed: list[str] = []
    space: dict[str, BaseDistribution] = {}
    for text in settings:
        log = _LOG.fullmatch(text)
        plain = f"{log[1]}=interval({log[2]})" if log else text
        try:
            override = OverridesParser.create().parse_override(plain)
        except HydraException as error:
            raise UserError(f"'{text}' is no setting and no range: write key=log(1e-4,1e-2), or key=1,2,3") from error
        key, value = override.get_key_element(), override._value
        try:
            if isinstance(value, IntervalSweep):
                whole = _WHOLE.search(plain) is not None
                space[key] = _between(value.start, value.end, log is not None or "log" in value.tags, whole)
            elif isinstance(value, RangeSweep):
                space[key] = CategoricalDistribution(list(value.range()))
            elif isinstance(value, ChoiceSweep):
                space[key] = CategoricalDistribution(list(override.sweep_string_iterator()))
            else:
                fixed.append(text)
        except ValueError as error:
            raise UserError(f"'{text}': {error}") from error
    return fixed, space


def _between(start: Any, end: Any, log: bool, whole: bool) -> BaseDistribution:
    if start is None or end is None:
        raise ValueError("a range needs two ends")
    if whole and not log:
        return IntDistribution(int(start), int(end))
    return FloatDistribution(float(start), float(end), log=log)


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """The settings that give keys these values; texts stay as the user typed them."""
    return [f"{key}={value}" if isinstance(value, str) else word(key, value) for key, value in values.items()]


def examples(space: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    """Values of all keys at once, in which each option of a group, and the ends of other keys, stand at least once."""
    tried: dict[str, list[Any]] = {}
    for key, each in space.items():
        values: Any = each
        tried[key] = list(values.choices) if isinstance(each, CategoricalDistribution) else [values.low, values.high]
        if key not in ("experiment", *OPTIONS):
            tried[key] = [tried[key][0], tried[key][-1]]
    for number in range(max(map(len, tried.values()), default=0)):
        yield {key: values[number % len(values)] for key, values in tried.items()}
