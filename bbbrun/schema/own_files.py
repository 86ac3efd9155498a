"""Configuration files of the user's own: errors in one line that names the file and the remedy."""

import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from bbbrun.errors import UserError
from bbbrun.schema.quoting import word

SEARCHPATH = "hydra.searchpath="  # how the setting that names folders of the user's own begins
_PACKAGE = "# @package _global_"
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # of UTF-8 and of the two orders of UTF-16


def searchpath(entries: Sequence[str]) -> str:
    """The setting that does what `--config-dir` does. entries: folders and pkg://packages; folders become absolute."""
    return word(SEARCHPATH.rstrip("="), [entry if entry.startswith("pkg://") else place(entry) for entry in entries])


def place(folder: str) -> str:
    """A folder, with or without file:// in front, as Hydra names it from anywhere."""
    return f"file://{Path(folder.removeprefix('file://')).absolute()}"


def with_searchpath(config_dir: str | None, words: Sequence[str]) -> list[str]:
    """The words, with the folder of `--config-dir` beside those that they name themselves."""
    if not config_dir:
        return list(words)
    return [searchpath([config_dir, *_searched(words)]), *words]  # Hydra takes the first of several


def absolute_searchpath(text: str) -> str:
    """A word that sets hydra.searchpath, with absolute folders."""
    entries = _searched([text])
    return searchpath(entries) if entries else text


def own_folders(config_dir: str | None, words: Sequence[str]) -> list[Path]:
    """The folders of --config-dir and of hydra.searchpath among the words; packages are left out."""
    folders = [*([config_dir] if config_dir else []), *_searched(words)]
    return [Path(folder.removeprefix("file://")) for folder in folders if not folder.startswith("pkg://")]


def _searched(words: Sequence[str]) -> list[str]:
    """What hydra.searchpath names among the words."""
    entries: list[str] = []
    for text in words:
        if text.startswith(SEARCHPATH):
            try:
                value: Any = OverridesParser.create().parse_override(text).value()
            except HydraException:
                continue  # Hydra reports this
            entries += map(str, value if isinstance(value, list) else [])
    return entries


def require_sound(folders: Sequence[Path], words: Sequence[str], primary: str | None = None) -> None:
    """Raise UserError for a file that Hydra would ignore, and for a wrong one that is chosen.

    Words choose files, and the defaults of a chosen file, or of the primary configuration, choose further ones.
    """
    for folder in folders:
        _require_own_names(folder)
    pending = [choice for text in words for choice in _choices(*text.lstrip("+").partition("=")[::2])]
    pending += [("", primary)] if primary else []
    seen: set[Path] = set()
    while pending:
        group, name = pending.pop(0)
        for folder in folders:
            path = folder / group / f"{name.removesuffix('.yaml')}.yaml"
            if path not in seen and re.fullmatch(r"[\w/]*", group) and path.is_file():
                seen.add(path)
                pending += _defaults(_readable(path, group), group)


def _choices(key: str, value: str) -> list[tuple[str, str]]:
    """The group, and the name within it, of each file that KEY=VALUE may choose."""
    return [(key.partition("@")[0], name) for name in re.findall(r"[^\[\],'\" ]+", value)]


def _defaults(values: dict[str, Any], group: str) -> list[tuple[str, str]]:
    """The group and the name of each file that the defaults of a file of this group may choose."""
    found: list[tuple[str, str]] = []
    entries = values.get("defaults")
    for entry in entries if isinstance(entries, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else [("", entry)]:
            key = re.sub(r"^((override|optional) +)*", "", str(key))
            start = "" if f"{key}{value}".startswith("/") else group
            found += _choices("/".join(filter(None, (start, key.lstrip("/")))), str(value).lstrip("/"))
    return found


def _require_own_names(folder: Path) -> None:
    built_in = Path(str(files("bbbrun.configs")))
    if not folder.is_dir() or folder.samefile(built_in):
        return
    for path in sorted(built_in.rglob("*.yaml")):
        own = folder / path.relative_to(built_in)
        if own.is_file():
            raise UserError(
                f"{own} has the name of a configuration of bbbrun itself, which comes first, so that the file would "
                "be passed over: give it a name of its own"
            )


def _readable(path: Path, group: str) -> dict[str, Any]:
    """The keys and values of a file of this group; raises UserError where Hydra could not read it."""
    content = path.read_bytes()
    if content.startswith(_MARKS):
        raise UserError(f"{path} begins with a byte order mark: save it as UTF-8 without one")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 in line {line}: save it as UTF-8") from None
    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be read"
        location = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is not YAML{location}: {problem}") from None
    if values is None and not group:
        return {}  # a primary configuration without bbbrun's own is told of later
    if values is None:
        raise UserError(f"{path} is empty: it must hold keys and values, as name: mine")
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no keys and values but {_kind(values)}: write key: value, one a line")
    if not isinstance(values.get("hydra", {}), dict):
        raise UserError(f"{path}: hydra must hold keys and values, as run: {{dir: FOLDER}}, not {values['hydra']!r}")
    # Hydra reads it only above the first key and any other comment.
    head = takewhile(lambda line: not line.strip() or re.match(r"#\s*@", line), text.splitlines())
    if group == "experiment" and not any(re.fullmatch(r"#\s*@package\s+_global_\s*", line) for line in head):
        raise UserError(f"{path} is an experiment without the first line {_PACKAGE}: write it above all else")
    return values


def _kind(values: object) -> str:
    return "a list" if isinstance(values, list) else f"the word {values!r}"
