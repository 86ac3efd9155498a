"""A configuration fixed when a run begins: values from the environment or the time are resolved once."""

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.schema.messages import one_line


def fixed(config: DictConfig) -> DictConfig:
    """A copy with a value in place of every interpolation, so that it has the same values anywhere, at any time.

    Raises UserError for an interpolation that has no value here, such as a variable that is not set.
    """
    copy = config.copy()
    try:
        _fix(copy)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    return copy


def yaml_text(config: DictConfig | ListConfig) -> str:
    """The configuration as the YAML of a record.

    Raises UserError for text with U+0085 (next line): PyYAML writes it so that it is read back as a space.
    """
    text = OmegaConf.to_yaml(config)
    if "\x85" in text:
        (line, *_) = [line for line in text.split("\n") if "\x85" in line]
        raise UserError(f"no value may hold the character U+0085 (next line), which YAML does not keep: {line!r}")
    return text


def _fix(node: Any) -> None:
    """Fix a DictConfig or ListConfig in place."""
    if node._is_none() or node._is_missing():
        return
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        part: Any = node._get_node(key)
        if OmegaConf.is_missing(node, key):
            continue
        if OmegaConf.is_interpolation(node, key):
            value = node[key]
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            node[key] = _literal(plain)
        elif isinstance(part, DictConfig | ListConfig):
            _fix(part)


def _literal(value: Any) -> Any:
    """`value` so that OmegaConf reads it back as it is: `${` within text is escaped."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", value)
    if isinstance(value, list):
        return [_literal(part) for part in value]
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    return value
