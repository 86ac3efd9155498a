"""`bbbrun search`: settings chosen by a validation metric, with Optuna; each trial is a run like any other."""

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bbbrun.errors import UserError
from bbbrun.runs.files import RUNS, named_folder, write_atomically
from bbbrun.schema.config import OBJECTIVES, OPTIONS
from bbbrun.schema.messages import one_line
from bbbrun.schema.own_files import SEARCHPATH, own_folders, require_sound, searchpath

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bbbrun.sweeps.search import Search


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun search`; exit code 0 when the study has its trials, 1 on an error, 2 for wrong words."""
    parser = argparse.ArgumentParser(
        prog="bbbrun search",
        description="Settings chosen by a validation metric. The same command again, here or on another machine that "
        "shares the folder, is another worker of the same study.",
    )
    add = parser.add_argument
    text = "key=value, fixed; or key=log(1e-4,1e-2), key=interval(0,1), key=1,2,3: the values to choose from"
    add("settings", nargs="*", help=text)
    add("--trials", type=int, default=20, help="the total number of trials of the study, by default 20")
    add("--objective", help=f"the metric to minimise, by default the first that a run has of {', '.join(OBJECTIVES)}")
    add(
        "--storage",
        help="Optuna's address of the study, as sqlite:///study.db; by default a file in the search's folder",
    )
    add("--prune", action="store_true", help="stop trials whose rows are worse than most at the same epoch")
    add("--config-dir", "-cd", type=named_folder, metavar="DIR", help="a folder of your own configurations")
    add("--resume", type=named_folder, metavar="FOLDER", help="join or continue the search in this folder")
    # Settings may stand between the options.
    arguments = parser.parse_intermixed_args(words)
    if arguments.objective not in (None, *OBJECTIVES):
        parser.error(f"--objective takes a metric of validation, one of {', '.join(OBJECTIVES)}, never of the test")
    if arguments.trials < 1:
        parser.error("--trials takes a whole number of at least 1")
    if arguments.resume and (arguments.settings or arguments.config_dir):
        parser.error("--resume continues with the settings of the search")
    if arguments.config_dir:
        if any(text.lstrip("+").startswith(SEARCHPATH) for text in arguments.settings):
            parser.error("--config-dir and hydra.searchpath are two ways to say the same: take one")
        if not arguments.config_dir.is_dir():
            parser.error(f"--config-dir {arguments.config_dir}: there is no such folder")
        arguments.settings.insert(0, searchpath([str(arguments.config_dir)]))
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "bbbrun search needs Optuna: pip install 'optuna>=5', or bbbrun with its extra `search`"
        ) from error
    _search(arguments)


def _search(arguments: argparse.Namespace) -> None:
    from bbbrun.sweeps.search import OBJECTIVE, best_of, locked, read_search, study_of, work, write_search

    search = read_search(arguments.resume) if arguments.resume else _new(arguments)
    if not arguments.resume:
        write_search(search)
    study = study_of(search)
    print(f"search folder: {search.folder}", file=sys.stderr)
    work(search, study)
    best = best_of(study)
    if best is None:
        raise UserError(f"no trial is finished: bbbrun status {search.folder} says why")
    from bbbrun.runs.sweep import read_sweep
    from bbbrun.sweeps.study_page import write_study_page

    folder = search.folder / best.user_attrs["job"]
    [job] = [job for job in read_sweep(search.folder).jobs if job.folder == folder.name]
    places = [text for text in search.settings if text.startswith(SEARCHPATH)]
    command = shlex.join([os.environ.get("BBBRUN_COMMAND", "bbbrun"), *places, *job.words])
    objective = best.user_attrs.get(OBJECTIVE, OBJECTIVES[0])
    lines = [f"best: {objective} {best.value:.5g}, trial {best.number}, in {folder}", f"its command: {command}"]
    content = {"value": best.value, "trial": best.number, "folder": str(folder), "command": command}
    with locked(search):  # another worker may end at the same moment
        write_atomically(search.folder / "best.json", (json.dumps(content, indent=1) + "\n").encode())
        write_study_page(study, search.folder / "report", lines, objective)
    print("\n".join([*lines, f"report: {search.folder / 'report' / 'report.html'}"]))


def _new(arguments: argparse.Namespace) -> "Search":
    """The search of these words: the same words give the same folder, and so the same study."""
    from hydra.types import RunMode

    from bbbrun.schema.config import composed, validated
    from bbbrun.sweeps.mode import mode_of
    from bbbrun.sweeps.search import Search
    from bbbrun.sweeps.space import examples, settings_of, space_of
    from bbbrun.verbs.words import parsed

    fixed, space = space_of(arguments.settings)
    if not space:
        raise UserError("nothing to search: give a key a range, such as 'optimizer.lr=log(1e-4,1e-2)'")
    keys = [text.lstrip("+").partition("=")[0] for text in arguments.settings]
    if "resume" in keys:
        raise UserError("resume= continues a run; a search is continued by bbbrun search --resume FOLDER")
    run_settings = [text for text in fixed if text.startswith(SEARCHPATH) or not text.startswith("hydra")]
    require_sound(own_folders(None, arguments.settings), arguments.settings)
    try:
        for values in examples(space):
            _require_judged(composed([*run_settings, *settings_of(values)]).dataset)
        name = validated(composed(run_settings)).name
        mode = mode_of(parsed(run_settings), __name__)
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise UserError(one_line(error)) from None
    if mode is RunMode.MULTIRUN:
        raise UserError(
            "a search's trial is one run, but hydra.mode is MULTIRUN: leave out hydra.mode and hydra.sweeper.params"
        )
    identity = json.dumps([sorted(arguments.settings), arguments.objective or OBJECTIVES[0]])
    folder = (RUNS / name / f"search_{hashlib.sha256(identity.encode()).hexdigest()[:8]}").absolute()
    storage = arguments.storage or f"sqlite:///{folder / 'study.db'}"
    return Search(folder, arguments.settings, arguments.objective, arguments.trials, storage, arguments.prune)


def _require_judged(dataset: "DictConfig") -> None:
    """Raise UserError where runs on the data set have no metric of validation, before the first trial is trained."""
    kind = OPTIONS["dataset"].get(dataset.name)
    if kind is None or kind.bandit or any(dataset[key] for key in kind.validation):
        return
    remedy = f": set dataset.{kind.validation[0]}" if kind.validation else ""
    raise UserError(f"nothing to choose settings by: dataset={dataset.name} has no validation part{remedy}")
