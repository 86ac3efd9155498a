"""Whether a command line asks for a run or a sweep. Hydra composes everything a first time only to learn this."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from bbbrun.schema.own_files import SEARCHPATH, place

CONFIGS, PRIMARY = "pkg://bbbrun.configs", "config"


def mode_of(flags: Namespace, module: str) -> RunMode | None:
    """`hydra.mode` of what the words compose; None where nothing sets it, or where composing fails.

    flags: the words as parsed. module: that of Hydra's main, which a relative --config-path begins at. bbbrun's own
    configuration never sets the key; one of the user's own, or a word, may.
    """
    own = flags.config_dir or flags.config_path or flags.config_name
    begins = (SEARCHPATH, "hydra=", "hydra.mode=")
    only_shown = flags.cfg or flags.info or flags.hydra_help or flags.shell_completion
    if only_shown or not (own or any(text.lstrip("+").startswith(begins) for text in flags.overrides)):
        return None
    mode: RunMode | None = None
    with suppress(Exception):  # Hydra, which composes again, tells it
        folders = create_automatic_config_search_path(None, module, flags.config_path or CONFIGS)
        if flags.config_dir:
            anchor = SearchPathQuery(provider="schema")
            folders.prepend(provider="command-line", path=place(flags.config_dir), anchor=anchor)
        mode = Hydra.create_main_hydra2("bbbrun", folders).get_mode(flags.config_name or PRIMARY, flags.overrides)
    GlobalHydra.instance().clear()
    return mode


@contextmanager
def known(mode: RunMode | None) -> Iterator[None]:
    """Within it Hydra takes the mode as known."""
    get_mode = Hydra.get_mode
    Hydra.get_mode = lambda *_, **__: mode  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = get_mode  # type: ignore[method-assign]
