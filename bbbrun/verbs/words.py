"""The words of a run: flags in any place, and settings, which are key=value."""

from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from bbbrun.errors import UserError
from bbbrun.verbs import VERBS

_FILES = ("dataset.path", "dataset.valid_path", "dataset.test_path", "network.weights")


def parsed(words: Sequence[str]) -> Namespace:
    """Hydra's flags by their names, and the settings as `overrides`, in order.

    Raises UserError for an unknown flag or a flag's wrong value, and for a word that is neither flag nor setting.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; flags are listed by bbbrun --hydra-help, settings by bbbrun --help")

    # The parser's own would print a page of usage, which is made at each start unless it is there.
    parser.error, parser.usage = refuse, ""  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(words)
    for word in flags.overrides:
        if "=" not in word and not word.startswith(("~", "+")):
            hint = "a verb comes first" if word in VERBS else "write key=value"
            raise UserError(f"'{word}' is not a setting: {hint}")
        key, _, value = word.lstrip("+").partition("=")
        _require_folder(key, value)
    return flags


def _require_folder(key: str, value: str) -> None:
    """Raise UserError where Hydra would use another folder than the one that the user meant."""
    folder = value.strip("'\"")
    if key in ("resume", "dataset.root", *_FILES) and value.startswith("~"):
        kind = "file" if key in _FILES else "folder"
        raise UserError(f"{key} must be a {kind}, not {value}: no shell expands ~ there, write $HOME")
    if key in ("hydra.run.dir", "hydra.sweep.dir") and (not folder or folder.startswith("~")):
        wrong = f"{folder}: no shell expands ~ there, write $HOME" if folder else "an empty word"
        raise UserError(f"{key} must be a folder, not {wrong}")
    if key == "hydra.output_subdir" and folder != "null":
        raise UserError(f"hydra.output_subdir must be null, not {folder}: bbbrun writes .hydra itself")


def may_be_sweep(flags: Namespace) -> bool:
    """Whether the words may begin or continue a sweep; `resume=` also continues a single run."""
    return flags.multirun or any(text.startswith("resume=") for text in flags.overrides)


def flags_first(words: Sequence[str], flags: Namespace) -> list[str]:
    """The words with all flags before all settings: Hydra takes its settings in one stretch only.

    flags: the words as parsed.
    """
    first = list(words)
    for setting in flags.overrides:
        first.remove(setting)
    return [*first, *flags.overrides]
