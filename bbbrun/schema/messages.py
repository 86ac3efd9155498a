"""Errors as one line for the user, without details that only a developer of Hydra needs."""

import re
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError

_BEGUN = re.compile(r"""[][{}'",]|^\w+\(""")  # a list, a quotation or a call, of which the end may be missing


def one_line(error: BaseException) -> str:
    """The text of an error, in one line."""
    if isinstance(error, UserError) and error.__cause__ is None:
        return _without_tail(str(error))
    if isinstance(error, OverrideParseException):
        from bbbrun.schema.quoting import quoted  # here, since it imports this module

        key, _, value = error.override.partition("=")
        is_text = key.isascii() and value and not _BEGUN.search(value)
        quotes = f'; a text with such signs stands in quotes, "{key}={quoted(value)}"' if is_text else ""
        reason = _without_tail(str(error.__cause__ or error))
        return f"'{error.override}' is no setting that can be read ({reason}){quotes}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        if cause.object_type_str is not None and "not in" in str(cause) and is_dataclass(cause.object_type):
            return unknown_key(str(cause.full_key), cause.object_type)
        text, reason = _without_tail(str(error)), _without_tail(str(cause))
        return text if reason in text else f"{text}: {reason}"
    return _without_tail(str(error))


def unknown_key(key: str, schema: Any) -> str:
    """The message for a dotted key that the dataclass `schema` lacks: it lists the keys that exist."""
    group = key.rpartition(".")[0]
    names = {field.name for field in fields(schema)} | (set() if group else {"experiment"})
    return f"unknown key '{key}': {f'the {group} chosen' if group else 'bbbrun'} takes {', '.join(sorted(names))}"


def _without_tail(text: str) -> str:
    """The text up to Hydra's and OmegaConf's details, with the key that they name if it says none."""
    key = re.search(r"full_key: (\S+)", text)
    for tail in ("Config search path:", "full_key:", "See https:"):
        text = text.partition(tail)[0]
    line = " ".join(text.split()).replace("is not a ListConfig, list or tuple", "is no list, which is written [a,b]")
    return f"{line} (key {key[1]})" if key and key[1] not in line else line
