"""A run's record as data. It may come from anybody: nothing in it is imported, run or looked up in the environment."""

import csv
import io
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from bbbrun.errors import UserError
from bbbrun.runs.files import SUMMARY, replica_folders

MOST_RECORD = 1 << 20  # bytes of a configuration or a summary
MOST_TABLE = 1 << 28  # bytes of a table
MOST_INPUTS = 1 << 24  # bytes of what was done to a table's columns
_LONGEST_HEAD = 1 << 20  # bytes of a table's first line
_DEEPEST = 1000  # brackets and leading blanks of a record

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTERPOLATION = re.compile(r"(?<!\\)\$\{")
_KEY = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """Reads YAML as OmegaConf does (1e-3 is a number, a date is text), with libyaml where it is installed.

    OmegaConf's own loader takes 50 ms for a record, and there may be a thousand records.
    """

    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


def content_of(path: Path, most: int) -> bytes:
    """The content of a file in a run's folder.

    Raises OSError where it is missing, UserError where it is no regular file (reading a pipe would wait for ever) or
    has more than `most` bytes.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise UserError(f"{path} is no regular file")
    if size > most:
        raise UserError(f"{path} has {size} bytes, and bbbrun writes at most {most}: it is not read")
    return path.read_bytes()


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of the finished run in `folder`; raises as `content_of` does, and ValueError where it is damaged."""
    content = json.loads(content_of(folder / SUMMARY, MOST_RECORD))
    if not isinstance(content, dict):
        raise ValueError("no keys and values")
    return content


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of the run in `folder`; empty where it is not finished, or cannot be read."""
    try:
        return read_summary(folder)
    except (OSError, ValueError, RecursionError, UserError):
        return {}


def metrics_of(folder: Path) -> dict[str, float]:
    """The final metrics of the run in `folder`, the means of replicas; empty unless all of it is finished."""
    parts = [folder] if (folder / SUMMARY).exists() else replica_folders(folder)
    every: list[Any] = [summary_of(part).get("metrics") for part in parts]
    return means(every) if all(isinstance(metrics, dict) for metrics in every) else {}


def means(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric that is a number in all."""
    names = [name for name in (every[0] if every else ()) if all(isinstance(m.get(name), int | float) for m in every)]
    return {name: statistics.fmean(metrics[name] for metrics in every) for name in names}


def table_text(path: Path) -> str:
    """The text of a table in a run's folder; raises as `content_of` does, also where its first line is endless."""
    content = content_of(path, MOST_TABLE)
    if len(content.partition(b"\n")[0]) > _LONGEST_HEAD:
        raise UserError(f"{path}: its first line is longer than {_LONGEST_HEAD} bytes: it is not read")
    return content.decode("utf-8")


def whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table in a run's folder, without one that is still being written; raises as `table_text` does."""
    return list(csv.DictReader(io.StringIO(table_text(path).rpartition("\n")[0])))


def configuration_of(path: Path) -> dict[str, Any]:
    """The recorded configuration in the YAML file `path`.

    An interpolation ${group.key}, which records of earlier versions have, becomes the value of that key.
    Raises UserError for any other, such as a resolver's ${oc.env:HOME}, and for aliases, by which a small file can make
    a huge configuration; OSError, ValueError or yaml.YAMLError where the file cannot be read.
    """
    tree = _tree(path)
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no configuration")
    plain: dict[str, Any] = _plain(tree, tree, "", path)
    return plain


def recorded_words(path: Path) -> list[str]:
    """The words in the YAML file `path`, those that started a run.

    Raises UserError for a word with an interpolation ${...}, for one of Hydra's own, which could name files to compose,
    and for aliases; OSError, ValueError or yaml.YAMLError where the file cannot be read.
    """
    words = _tree(path)
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        raise ValueError(f"{path} holds no words")
    if looked_up := [each for each in words if "${" in each or each.lstrip("+~").startswith("hydra")]:
        raise UserError(
            f"{path} holds {looked_up[0][:80]!r}, which is not looked up, since a run may be anybody's: name a run "
            "that was started with plain values"
        )
    return words


def _tree(path: Path) -> Any:
    """The content of a YAML file of a record."""
    text = content_of(path, MOST_RECORD).decode("utf-8")
    if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise UserError(f"{path} holds YAML aliases, which no record of a run has: it is not read")
    # A bound on the depth of nesting, since libyaml would overflow the stack.
    indent = max((len(line) - len(line.lstrip(" \t-?:")) for line in text.splitlines()), default=0)
    if text.count("[") + text.count("{") + indent > _DEEPEST:
        raise ValueError(f"{path} is nested deeper than any record of a run")
    return yaml.load(text, _Loader)


def _plain(node: Any, tree: dict[str, Any], key: str, path: Path) -> Any:
    """The node without interpolations; key: its dotted key in the tree."""
    if isinstance(node, dict):
        if not all(isinstance(name, str | int | float) for name in node):
            raise ValueError(f"{path}: {key} has a key that is neither text nor number")
        return {name: _plain(part, tree, f"{key}.{name}".lstrip("."), path) for name, part in node.items()}
    if isinstance(node, list):
        return [_plain(part, tree, key, path) for part in node]
    if node is None or isinstance(node, int | float):
        return node
    if not isinstance(node, str):
        raise ValueError(f"{path}: {key} is neither text, number, list nor dictionary")
    if not _INTERPOLATION.search(node):
        return node.replace("\\${", "${")
    target = _KEY.fullmatch(node)
    value = value_of(tree, target[1]) if target else None
    if value is None or isinstance(value, dict | list) or (isinstance(value, str) and "${" in value):
        raise UserError(f"{path}: {key} holds {node[:80]!r}, which is not looked up, since a run may be anybody's")
    return value


def value_of(tree: Any, dotted: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for name in dotted.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
