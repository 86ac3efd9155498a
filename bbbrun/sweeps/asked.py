"""The words of a sweep: those that begin one, and `resume=SWEEP`, which goes on with one."""

import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.runs.files import RECORD, RUNS
from bbbrun.runs.identity import FREE_ON_RESUME
from bbbrun.runs.sweep import SWEEP, is_sweep, numbered, read_sweep
from bbbrun.schema.config import composed
from bbbrun.schema.quoting import word
from bbbrun.sweeps.launch import Calls

_SWEEP_DIR = "hydra.sweep.dir"


class Asked(NamedTuple):
    """What to give to Hydra for a sweep: its words, and what its launcher is called for. folder: a new sweep's."""

    words: list[str]
    calls: Calls
    folder: Path


def sweep_of(words: Sequence[str], flags: Namespace) -> Asked | None:
    """The sweep that a command line begins or goes on with; None where it is of one run.

    words, flags: the same, as typed and parsed. Raises UserError for a folder that is no sweep's, and for settings that
    a sweep cannot take when it goes on.
    """
    settings = list(flags.overrides)
    resumed = _resumed(settings)
    multirun = flags.multirun or any(text.startswith("hydra.mode=MULTIRUN") for text in settings)
    if resumed is not None:
        if is_sweep(resumed):
            return _extended(words, settings, resumed) if multirun else _continued(words, settings, resumed)
        if multirun:
            run = ": it is a run's, which goes on without -m" if (resumed / RECORD).exists() else ""
            raise UserError(f"resume: {resumed} is not the folder of a sweep (it has no {SWEEP}){run}")
    if not multirun:
        return None
    typed = [text for text in words if text not in ("-m", "--multirun")]
    return Asked(list(words), Calls(_placed(typed)), _new_folder(_name(settings, flags)))


def job_words(settings: Sequence[str]) -> list[str]:
    """The settings of one run in the words that a sweep gives its jobs, without Hydra's own."""
    [[words]] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(settings)), None)
    return [text for text in words if not text.startswith(("hydra.", "hydra/"))]


def _resumed(settings: Sequence[str]) -> Path | None:
    """The folder of the last `resume=`; None where there is none, or none that is one folder."""
    texts = [text for text in settings if text.partition("=")[0] == "resume"]
    if not texts:
        return None
    try:
        value: Any = OverridesParser.create().parse_override(texts[-1]).value()
    except HydraException:
        return None
    return Path(value).expanduser().absolute() if isinstance(value, str) and value else None


def _extended(words: Sequence[str], settings: Sequence[str], folder: Path) -> Asked:
    """A sweep's command line that is given again, maybe with more values: `bbbrun -m ... resume=SWEEP`."""
    _require_no_other(settings, folder)
    kept = [text for text in words if not text.startswith("resume=")]
    typed = [text for text in kept if text not in ("-m", "--multirun")]
    return Asked([*kept, word(_SWEEP_DIR, str(folder))], Calls(_placed(typed)), folder)


def _continued(words: Sequence[str], settings: Sequence[str], folder: Path) -> Asked:
    """All of a sweep's jobs once more, as its last command line began them: `bbbrun resume=SWEEP`.

    Settings of the launcher and of where runs run may be given anew; a launcher takes the place of the one before.
    """
    _require_no_other(settings, folder)
    asked = read_sweep(folder).asked
    given = [text for text in settings if not text.startswith("resume=")]
    of_hydra = [text for text in given if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    of_runs = [text for text in given if text not in of_hydra]
    for text in of_runs:
        if text.partition("=")[0] not in FREE_ON_RESUME:
            free = ", ".join(key for key in FREE_ON_RESUME if key != "resume")
            raise UserError(
                f"resume: {text} would change the sweep's jobs, which may only be given {free} and a launcher; to add "
                f"jobs, repeat its command: bbbrun -m {shlex.join(asked[-1]) if asked else '...'} ... "
                f"{word('resume', str(folder))}"
            )
    before = [text for text in asked[-1] if text.startswith(("-", "hydra.", "hydra/", "+hydra."))] if asked else []
    flags = _flags(asked[-1]) if asked else []
    before = [text for text in before if not text.startswith(("-", f"{_SWEEP_DIR}=", "hydra/sweeper", "hydra.sweeper"))]
    if any(text.startswith("hydra/launcher=") for text in of_hydra):
        before = [text for text in before if not text.lstrip("+").startswith(("hydra/launcher", "hydra.launcher"))]
    own = [text for text in words if text.startswith("-")]
    hydra_words = [*before, *of_hydra, word(_SWEEP_DIR, str(folder))]
    calls = Calls([*flags, *before], again=True, words=of_runs)
    return Asked(["-m", *flags, *own, *hydra_words], calls, folder)


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


def _placed(words: Sequence[str]) -> list[str]:
    """The words with absolute folders of configurations: a sweep may go on from any folder."""
    placed = list(words)
    for number, text in enumerate(words):
        if text in ("--config-dir", "-cd") and number + 1 < len(words):
            placed[number + 1] = str(Path(words[number + 1]).absolute())
        elif text.startswith("--config-dir="):
            placed[number] = f"--config-dir={Path(text.partition('=')[2]).absolute()}"
    return placed


def _new_folder(name: str) -> Path:
    """results/runs/<name>/<date>_<time>_<microseconds>, absolute, for whichever machine the jobs run on."""
    return Path.cwd() / RUNS / name / f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"


def _name(settings: Sequence[str], flags: Namespace) -> str:
    """The name of the runs, where all jobs have one; else sweep."""
    search = [f"hydra.searchpath=['file://{Path(flags.config_dir).absolute()}']"] if flags.config_dir else []
    try:
        overrides = OverridesParser.create().parse_overrides(list(settings))
        values = {}
        for override in overrides:
            key = override.get_key_element()
            alone = [override.input_line or ""]
            if override.is_discrete_sweep():
                alone = [f"{key}={value}" for value in override.sweep_string_iterator()]
                alone = alone if key in ("experiment", "name") else alone[:1]
            if not key.lstrip("+~").startswith("hydra."):
                values[key] = alone
        names = {str(composed([*search, *words]).name) for words in product(*values.values())}
    except (HydraException, OmegaConfBaseException, OSError):
        return "sweep"  # Hydra will say what is wrong
    return names.pop() if len(names) == 1 else "sweep"


def register_folders(sweep: Path | None) -> None:
    """The resolvers of configs/config.yaml, which Hydra hands to other processes, too. sweep: the folder of a new one.

    A resumed run keeps its folder; Hydra's own is then the present one, where it writes nothing.
    """
    resolvers: dict[str, Callable[..., str]] = {
        "run_folder": lambda resume, name: str(Path.cwd() if resume else _new_folder(name)),
        "sweep_folder": lambda: str(sweep or Path.cwd() / RUNS),
        "job_folder": lambda number: numbered(int(number)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(f"bbbrun.{name}", resolver, use_cache=True, replace=True)
