"""Values and configurations in the grammar of Hydra's overrides: a printed or recorded command can be given again."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from bbbrun.schema.config import OPTIONS, composed, plain


def quoted(value: Any) -> str:
    """The text that Hydra's parser reads as `value`: None, a bool, a number, a string, or a list or dict of these.

    Strings are in single quotes. A backslash in them counts only before a quote or an interpolation, and is doubled.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{quoted(part)}' for key, part in value.items())}}}"
    return f"'{re.sub(_BEFORE, _escaped, str(value))}'"


# Backslashes before an interpolation, a quote, or the end.
_BEFORE = re.compile(r"(\\*)(\$\{|'|\Z)")


# Text that Hydra reads without quotes. Words such as 1e5, null and inf are excluded.
_PLAIN = re.compile(r"(?:/|[A-Za-z_])[A-Za-z0-9_/.-]*")
_READ_OTHERWISE = ("null", "true", "false", "nan", "inf")


def word(key: str, value: Any) -> str:
    """The override that gives `key` its value, without quotes where Hydra needs none."""
    text = str(value)
    plain = isinstance(value, str) and _PLAIN.fullmatch(text) and text.lower() not in _READ_OTHERWISE
    return f"{key}={text if plain else quoted(value)}"


def _escaped(match: re.Match[str]) -> str:
    slashes, following = match.groups()
    return 2 * slashes + ("\\" + following if following else "")


def words_of(config: DictConfig) -> list[str]:
    """Overrides that compose this configuration: its groups' options, then every value that differs from theirs."""
    words = [f"{group}={config[group].name}" for group in OPTIONS]
    return words + sorted(_differing("", plain(config), plain(composed(words))))


def _differing(prefix: str, values: dict[str, Any], usual: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            yield from _differing(f"{prefix}{key}.", value, usual[key])
        elif value != usual.get(key):
            yield f"{prefix}{key}={quoted(value)}"
