"""`bbbrun` without a verb: Hydra composes, this module starts its runs and sweeps, and reports errors."""

import os
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.runtime import places, stops
from bbbrun.schema.config import register
from bbbrun.schema.messages import one_line
from bbbrun.schema.own_files import own_folders, require_sound, with_searchpath
from bbbrun.sweeps.mode import CONFIGS, PRIMARY, known, mode_of
from bbbrun.verbs import VERBS
from bbbrun.verbs.words import flags_first, may_be_sweep, parsed

if TYPE_CHECKING:
    from bbbrun.sweeps.command import SweepCommand


def main(words: Sequence[str], only: Collection[str] | None = None) -> None:
    """Train what the words configure; exit code 0 when every job finished, 1 on any error, 130 when interrupted.

    only: the folders of the jobs to do, of a continued sweep.
    """
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises instead of printing in its own way, and all errors take the one path below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    started = failed = False

    @hydra.main(version_base="1.3", config_path=CONFIGS, config_name=PRIMARY)
    def task(composed: DictConfig) -> float | None:
        nonlocal started, failed
        started = True
        stops.install()  # a launcher's worker is a process of its own
        if stops.is_stopping():
            raise KeyboardInterrupt
        # What one of the paths alone needs is imported on it: `bbbrun --help` does without.
        from bbbrun.verbs.one_run import run_composed

        hydra_config = HydraConfig.get()
        if hydra_config.mode is RunMode.MULTIRUN:
            places.settle()
            from bbbrun.sweeps.job import run_job

            return run_job(
                Path(hydra_config.runtime.output_dir), lambda: run_composed(composed), composed.get("objective")
            )
        try:
            places.settle()
            run_composed(composed)
        except (UserError, OSError) as error:
            _show_error(error)
            failed = True
            if debug:
                raise
        except Exception as error:
            if stops.is_stopping():
                raise KeyboardInterrupt from error
            raise
        return None

    sweep: SweepCommand | None = None
    try:
        if "${" in str(Path.cwd()):
            raise UserError(
                f"bbbrun cannot run in {Path.cwd()}: Hydra reads ${{ in a folder's name as an interpolation"
            )
        flags = parsed(words)
        folders = own_folders(flags.config_dir, flags.overrides)
        require_sound(folders, flags.overrides, flags.config_name)
        if flags.help:
            from bbbrun.schema.help import help_text

            print(help_text(with_searchpath(flags.config_dir, flags.overrides), VERBS, folders))
        else:
            from bbbrun.sweeps.folders import register_folders

            mode = mode_of(flags, __name__)
            if mode is RunMode.MULTIRUN and not flags.multirun:
                from bbbrun.sweeps.command import resumes_run

                if resumes_run(flags.overrides):
                    words, mode = [*words, "hydra.mode=RUN"], RunMode.RUN
                else:
                    words = ["-m", *(text for text in words if text not in ("-r", "--ru", "--run"))]
                flags = parsed(words)
            if may_be_sweep(flags):
                from bbbrun.sweeps.command import sweep_of

                sweep = sweep_of(words, flags)
            register_folders(sweep.folder if sweep else None)
            if sweep:
                from bbbrun.sweeps.launch import between

                sweep.calls.only = only
                between(sweep.calls)
                words, flags = sweep.words, parsed(sweep.words)
            # Hydra reads sys.argv itself. The program's name goes into its completion scripts.
            sys.argv = ["bbbrun", *flags_first(words, flags)]
            with known(mode), stops.shown_here() if sweep else nullcontext():
                task()
    except KeyboardInterrupt:
        stops.end(_remedy(sweep, started))
    except Exception as error:
        if stops.is_stopping():
            stops.end(_remedy(sweep, started))
        # Before a job starts, any error comes from the user's words.
        of_the_user = isinstance(error, (UserError, HydraException, OmegaConfBaseException, OSError))
        if debug or (started and not of_the_user):
            raise
        if not failed:
            if isinstance(error, OSError) and error.errno == ENOSPC and sweep and sweep.calls.folder:
                error.filename = error.filename or str(sweep.calls.folder)  # where Hydra writes
            _show_error(error)
        failed = True
        if sweep and not started:
            from bbbrun.sweeps.folders import remove_unbegun

            remove_unbegun(sweep.folder)
    if sweep and sweep.calls.folder and not failed:
        from bbbrun.sweeps.end import report_end

        failed = not report_end(sweep.calls)
    sys.exit(1 if failed else 0)


def _remedy(sweep: "SweepCommand | None", started: bool) -> str:
    """What to do after a stop outside of any job; a stop within a run prints its own remedy."""
    if sweep and sweep.calls.jobs:
        from bbbrun.sweeps.end import remedy

        return remedy(sweep.calls)
    return "the run was finished" if started and not sweep else "nothing was begun"


def _show_error(error: BaseException) -> None:
    print(f"bbbrun: error: {one_line(error)}", file=sys.stderr)
