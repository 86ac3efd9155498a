"""`bbbrun` without a verb: Hydra composes, this module validates, gives each run its folder and reports errors."""

import os
import shlex
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.runs.files import RECORD, RUNS
from bbbrun.runs.resume import is_finished, require_same_run, require_unused
from bbbrun.runtime import places, stops
from bbbrun.schema.config import OPTIONS, register, validated
from bbbrun.schema.fixing import fixed, yaml_text
from bbbrun.schema.help import help_text
from bbbrun.schema.messages import one_line
from bbbrun.schema.own_files import own_folders, require_all_sound, require_sound
from bbbrun.schema.quoting import word
from bbbrun.schema.replicas import Replica, replicas_of
from bbbrun.sweeps.asked import Asked, register_folders, sweep_of
from bbbrun.verbs import VERBS
from bbbrun.verbs.words import flags_first, parsed


def main(words: Sequence[str], only: Collection[str] | None = None) -> None:
    """Train what the words configure; exit code 0 when every job finished, 1 on any error, 130 when interrupted.

    only: the folders of the jobs to do, of a continued sweep.
    """
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises instead of printing in its own way, and all errors take the one path below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    started = failed = False

    @hydra.main(version_base="1.3", config_path="pkg://bbbrun.configs", config_name="config")
    def task(composed: DictConfig) -> float | None:
        nonlocal started, failed
        started = True
        stops.install()  # a launcher's worker is a process of its own
        if stops.asked():
            raise KeyboardInterrupt
        hydra_config = HydraConfig.get()
        if hydra_config.mode is RunMode.MULTIRUN:
            places.settle()
            from bbbrun.sweeps.job import run_job

            return run_job(Path(hydra_config.runtime.output_dir), lambda: _run(composed), composed.get("objective"))
        try:
            places.settle()
            _run(composed)
        except (UserError, OSError) as error:
            _show_error(error)
            failed = True
            if debug:
                raise
        except Exception as error:
            if stops.asked():
                raise KeyboardInterrupt from error
            raise
        return None

    folders: list[Path] = []
    sweep: Asked | None = None
    try:
        if "${" in str(Path.cwd()):
            raise UserError(
                f"bbbrun cannot run in {Path.cwd()}: Hydra reads ${{ in a folder's name as an interpolation"
            )
        flags = parsed(words)
        folders = own_folders(flags.config_dir, flags.overrides)
        require_sound(folders, flags.overrides)
        if flags.help:
            print(help_text(flags.overrides, VERBS))
        else:
            sweep = sweep_of(words, flags)
            register_folders(sweep.folder if sweep else None)
            if sweep:
                # Imported here: `bbbrun --help` does without.
                from bbbrun.sweeps.launch import between

                sweep.calls.only = only
                between(sweep.calls)
            # Hydra reads sys.argv itself. The program's name goes into its completion scripts.
            sys.argv = ["bbbrun", *flags_first(sweep.words if sweep else words)]
            with stops.shown_here() if sweep else nullcontext():
                task()
    except KeyboardInterrupt:
        stops.end(_remedy(sweep, started))
    except Exception as error:
        if stops.asked():
            stops.end(_remedy(sweep, started))
        # Before a job starts, any error comes from the user's words.
        of_the_user = isinstance(error, (UserError, HydraException, OmegaConfBaseException, OSError))
        if debug or (started and not of_the_user):
            raise
        if not failed:
            _show_error(error if started else _cause(error, folders))
        failed = True
    if sweep and sweep.calls.folder and not failed:
        from bbbrun.sweeps.end import report_end

        failed = not report_end(sweep.calls)
    sys.exit(1 if failed else 0)


def _cause(error: Exception, folders: Sequence[Path]) -> Exception:
    """The error of a user's own file if that may be why Hydra could not compose; else `error`."""
    try:
        require_all_sound(folders, ("experiment", *OPTIONS))
    except (UserError, OSError) as fault:
        return fault
    return error


def _remedy(sweep: Asked | None, started: bool) -> str:
    """What to do after a stop outside of any job; a stop within a run prints its own remedy."""
    if sweep and sweep.calls.jobs:
        from bbbrun.sweeps.end import remedy

        return remedy(sweep.calls)
    return "the run was finished" if started and not sweep else "nothing was begun"


def _run(composed: DictConfig) -> dict[str, float]:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    # Unresolved: an override may hold an interpolation.
    words: Any = OmegaConf.to_container(hydra_config.overrides.task)
    replicas: list[Replica] = []
    try:
        composed = fixed(composed)
        config = validated(composed)
        replicas = replicas_of(composed, config.replicas)
        configs = [validated(replica.composed) for replica in replicas]
        of_sweep = hydra_config.mode is RunMode.MULTIRUN
        if config.resume is None and not (of_sweep and (folder / RECORD).is_file()):
            require_unused(folder)
        else:
            # A sweep's job that finds its own record is resumed: another process may have begun it.
            folder = folder if config.resume is None else Path(config.resume).expanduser().absolute()
            words = require_same_run(composed, folder)
            if is_finished(folder, replicas):
                print(f"already finished: {folder}", file=sys.stderr)
                return {}
        from bbbrun.runner import Planned, run

        record = _record(composed, "")
        planned = [
            Planned(replica.folder, config, _record(replica.composed, replica.override) if replica.override else record)
            for replica, config in zip(replicas, configs, strict=True)
        ]
        return run(planned, folder, _command(words), record)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt) and not stops.asked():
            raise
        if hydra_config.mode is RunMode.MULTIRUN:
            raise KeyboardInterrupt from error  # the sweep prints how to continue
        started_run = (folder / RECORD).exists()
        command = _command([*_fixed_words(words, composed), word("resume", str(folder))])
        remedy = f"continue with: {command}" if started_run else "nothing was begun"
        stops.show(remedy)
        raise KeyboardInterrupt from error
    finally:
        _remove_if_empty(Path(hydra_config.runtime.output_dir))


def _command(words: list[str]) -> str:
    """The command line for a shell: the user's words, and the flags that name other folders of configurations.

    scripts/run names itself in BBBRUN_COMMAND.
    """
    return shlex.join([os.environ.get("BBBRUN_COMMAND", "bbbrun"), *_sources(), *words])


def _sources() -> list[str]:
    """--config-dir, --config-path, --config-name and hydra.searchpath, as far as they are not bbbrun's own.

    Read from Hydra's record of each job: a job may run in another process than the one that parsed the flags.
    """
    hydra_config = HydraConfig.get()
    flags = []
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", source.path]
        elif source.provider == "main" and source.path != "bbbrun.configs":
            flags += ["--config-path", source.path]
    name = hydra_config.job.config_name
    if name not in (None, "config"):
        flags += ["--config-name", str(name)]
    if hydra_config.searchpath:
        flags.append(word("hydra.searchpath", list(hydra_config.searchpath)))
    return flags


def _fixed_words(words: list[str], composed: DictConfig) -> list[str]:
    """The words with values in place of interpolations, so that the command means the same run when pasted."""
    values = []
    for text in words:
        key, _, value = text.partition("=")
        fixed_value = OmegaConf.select(composed, key) if "${" in value else None
        if fixed_value is None or OmegaConf.is_dict(fixed_value):
            values.append(text)
        else:
            plain = OmegaConf.to_container(fixed_value) if OmegaConf.is_config(fixed_value) else fixed_value
            values.append(word(key, plain.name if isinstance(plain, Enum) else plain))
    return values


def _record(composed: DictConfig, override: str) -> dict[str, str]:
    """The files of .hydra: the composed configuration, Hydra's own, and the overrides, as YAML.

    override: the setting in which a replica differs from the others.
    """
    hydra_config = HydraConfig.get()
    words: Any = OmegaConf.to_container(hydra_config.overrides.task)
    if override:
        words = [*words, "replicas=1", override]
    return {
        "config.yaml": yaml_text(composed),
        "hydra.yaml": yaml_text(OmegaConf.create({"hydra": OmegaConf.to_container(hydra_config)})),
        "overrides.yaml": yaml_text(OmegaConf.create(words)),
    }


def _remove_if_empty(folder: Path) -> None:
    """Delete the folder that Hydra made for a run that was then refused, and its empty parents."""
    runs = Path.cwd() / RUNS
    for each in (folder, *folder.parents):
        inside = each in (folder, runs.parent) or each.is_relative_to(runs)
        if not inside or each == Path.cwd() or not each.is_dir() or any(each.iterdir()):
            return
        each.rmdir()


def _show_error(error: BaseException) -> None:
    print(f"bbbrun: error: {one_line(error)}", file=sys.stderr)
