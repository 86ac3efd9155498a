"""The command line of a sweep: one that begins a sweep, or one that continues it (`resume=SWEEP`)."""

import shlex
from argparse import Namespace
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.runs.files import RECORD
from bbbrun.runs.identity import FREE_ON_RESUME
from bbbrun.runs.sweep import SWEEP, SweepJob, is_sweep, read_sweep
from bbbrun.schema.config import composed
from bbbrun.schema.own_files import SEARCHPATH, absolute_searchpath, with_searchpath
from bbbrun.schema.quoting import word
from bbbrun.sweeps.folders import new_folder

_SWEEP_DIR = "hydra.sweep.dir"


class Calls:
    """The calls of Hydra's launcher for one command line, and their sweep.

    command: the command line. again: do the jobs already listed in the sweep, all or those in `only`, in place of the
    sweeper's. words: additional settings of each job. folder: the sweep's, once known. on_slurm: whether jobs outlive
    this process.
    """

    def __init__(self, command: Sequence[str], *, again: bool = False, words: Sequence[str] = ()) -> None:
        self.command, self.again, self.words = list(command), again, list(words)
        self.folder: Path | None = None
        self.only: Collection[str] | None = None
        self.on_slurm = False
        self.jobs: dict[str, SweepJob] = {}


class SweepCommand(NamedTuple):
    """A sweep's arguments for Hydra, and the calls of its launcher. folder: that of a new sweep."""

    words: list[str]
    calls: Calls
    folder: Path


def sweep_of(words: Sequence[str], flags: Namespace) -> SweepCommand | None:
    """The sweep that a command line begins or continues; None for a single run.

    words: the command line as typed; flags: as parsed. Raises UserError for a folder that is not a sweep's, and for
    settings that a continued sweep cannot take.
    """
    settings = list(flags.overrides)
    folder = _resumed(settings)
    if folder is not None:
        if is_sweep(folder):
            return _extended(words, settings, folder) if flags.multirun else _continued(words, settings, folder)
        if flags.multirun:
            run = ": it is a run's, which is resumed without -m" if (folder / RECORD).exists() else ""
            raise UserError(f"resume: {folder} is not the folder of a sweep (it has no {SWEEP}){run}")
    if not flags.multirun:
        return None
    typed = [text for text in words if text not in ("-m", "--multirun")]
    return SweepCommand(list(words), Calls(_with_absolute_folders(typed)), new_folder(_name(settings, flags)))


def resumes_run(settings: Sequence[str]) -> bool:
    """Whether `resume=` names the folder of a run, which may be a sweep's job."""
    folder = _resumed(settings)
    return folder is not None and (folder / RECORD).exists()


def job_words(settings: Sequence[str]) -> list[str]:
    """The settings of one run as a sweep writes them for its jobs, without Hydra's own."""
    [[words]] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(settings)), None)
    return [text for text in words if not text.startswith(("hydra.", "hydra/"))]


def _resumed(settings: Sequence[str]) -> Path | None:
    """The folder of the last `resume=`; None where no `resume=` names a single folder."""
    texts = [text for text in settings if text.partition("=")[0] == "resume"]
    if not texts:
        return None
    try:
        value: Any = OverridesParser.create().parse_override(texts[-1]).value()
    except HydraException:
        return None
    return Path(value).expanduser().absolute() if isinstance(value, str) and value else None


def _extended(words: Sequence[str], settings: Sequence[str], folder: Path) -> SweepCommand:
    """A sweep's command line given again, perhaps with more values: `bbbrun -m ... resume=SWEEP`."""
    _require_no_other(settings, folder)
    rest = [text for text in words if not text.startswith("resume=")]
    typed = [text for text in rest if text not in ("-m", "--multirun")]
    return SweepCommand([*rest, word(_SWEEP_DIR, str(folder))], Calls(_with_absolute_folders(typed)), folder)


def _continued(words: Sequence[str], settings: Sequence[str], folder: Path) -> SweepCommand:
    """All of a sweep's jobs again, with the settings of its last command line: `bbbrun resume=SWEEP`.

    Settings of the launcher and of where runs run may be given anew; a new launcher replaces the earlier one.
    """
    _require_no_other(settings, folder)
    commands = read_sweep(folder).commands
    additions = [text for text in settings if not text.startswith("resume=")]
    hydra_settings = [text for text in additions if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    run_settings = [text for text in additions if text not in hydra_settings]
    for text in run_settings:
        if text.partition("=")[0] not in FREE_ON_RESUME:
            free = ", ".join(key for key in FREE_ON_RESUME if key != "resume")
            raise UserError(
                f"resume: {text} would change the sweep's jobs, which may only be given {free} and a launcher; to add "
                f"jobs, repeat its command: bbbrun -m {shlex.join(commands[-1]) if commands else '...'} ... "
                f"{word('resume', str(folder))}"
            )
    last = commands[-1] if commands else []
    flags = _flags(last)
    launcher = [text for text in last if text.startswith(("hydra.", "hydra/", "+hydra."))]
    launcher = [text for text in launcher if not text.startswith((f"{_SWEEP_DIR}=", "hydra/sweeper", "hydra.sweeper"))]
    if any(text.startswith("hydra/launcher=") for text in hydra_settings):
        launcher = [text for text in launcher if not text.lstrip("+").startswith(("hydra/launcher", "hydra.launcher"))]
    new_flags = list(words)
    for text in settings:
        new_flags.remove(text)
    hydra_words = [*launcher, *hydra_settings, word(_SWEEP_DIR, str(folder))]
    calls = Calls([*flags, *launcher], again=True, words=run_settings)
    return SweepCommand(["-m", *flags, *new_flags, *hydra_words], calls, folder)


def _require_no_other(settings: Sequence[str], folder: Path) -> None:
    for text in settings:
        if text.startswith(f"{_SWEEP_DIR}="):
            raise UserError(f"{text} has no effect with resume={folder}, which is the sweep's folder")


def _flags(words: Sequence[str]) -> list[str]:
    """The flags that say where configurations lie, with their values."""
    flags = []
    for number, text in enumerate(words):
        if text in ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"):
            flags += [text, *words[number + 1 : number + 2]]
        elif text.startswith(("--config-dir=", "--config-path=", "--config-name=")):
            flags.append(text)
    return flags


def _with_absolute_folders(words: Sequence[str]) -> list[str]:
    """The words with absolute folders of configurations, since a sweep may be continued from any folder."""
    absolute = list(words)
    for number, text in enumerate(words):
        if text in ("--config-dir", "-cd") and number + 1 < len(words):
            absolute[number + 1] = str(Path(words[number + 1]).absolute())
        elif text.startswith("--config-dir="):
            absolute[number] = f"--config-dir={Path(text.partition('=')[2]).absolute()}"
        elif text.startswith(SEARCHPATH):
            absolute[number] = absolute_searchpath(text)
    return absolute


def _name(settings: Sequence[str], flags: Namespace) -> str:
    """The runs' name if all jobs share it, else "sweep"."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(settings))
        values = {}
        for override in overrides:
            key = override.get_key_element()
            choices = [override.input_line or ""]
            if override.is_discrete_sweep():
                choices = [f"{key}={value}" for value in override.sweep_string_iterator()]
                choices = choices if key in ("experiment", "name") else choices[:1]
            if key == "hydra.searchpath" or not key.lstrip("+~").startswith("hydra."):
                values[key] = choices
        chosen = (with_searchpath(flags.config_dir, words) for words in product(*values.values()))
        names = {str(composed(words).name) for words in chosen}
    except (HydraException, OmegaConfBaseException, OSError):
        return "sweep"  # Hydra will say what is wrong
    return names.pop() if len(names) == 1 else "sweep"
