"""Whether a command line asks for a run or a sweep. Hydra composes everything a first time only to learn this."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from bbbrun.schema.own_files import SEARCHPATH

CONFIGS, PRIMARY = "pkg://bbbrun.configs", "config"


def mode_of(flags: Namespace) -> RunMode | None:
    """`hydra.mode` of what the words compose; None where nothing sets it, or where composing fails.

    flags: the words as parsed. bbbrun's own configuration never sets the key; one of the user's own, or a word, may.
    """
    own = flags.config_dir or flags.config_path or flags.config_name
    if not own and not any(text.startswith(SEARCHPATH) or "hydra.mode" in text for text in flags.overrides):
        return None
    folders = create_automatic_config_search_path(None, None, flags.config_path or CONFIGS)
    if flags.config_dir:
        folder = f"file://{Path(flags.config_dir).absolute()}"
        folders.prepend(provider="command-line", path=folder, anchor=SearchPathQuery(provider="schema"))
    composer = Hydra.create_main_hydra2("bbbrun", folders)
    try:
        mode: RunMode | None = composer.get_mode(flags.config_name or PRIMARY, flags.overrides)
        return mode
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def known(mode: RunMode | None) -> Iterator[None]:
    """Within it Hydra takes the mode as known."""
    get_mode = Hydra.get_mode
    Hydra.get_mode = lambda *_, **__: mode  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = get_mode  # type: ignore[method-assign]
