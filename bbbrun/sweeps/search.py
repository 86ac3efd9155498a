"""A search: an Optuna study whose trials are jobs of one sweep; several workers share both."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple

import optuna
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from bbbrun.errors import UserError
from bbbrun.runs.files import METRICS, alone, lock, numbered, write_atomically
from bbbrun.runs.record import metrics_of, whole_rows
from bbbrun.runs.standing import Standing, standing
from bbbrun.runs.sweep import SweepJob, enroll
from bbbrun.runtime import stops
from bbbrun.schema.config import OBJECTIVES
from bbbrun.schema.quoting import word
from bbbrun.sweeps.command import job_words
from bbbrun.sweeps.job import objective_name
from bbbrun.sweeps.space import settings_of, space_of

STUDY = "study.json"
_LOCK = "search.lock"
_ROUND = 0.5  # s between two looks at a trial's rows
_PATIENCE = 120.0  # s; a worker holds the search's lock while it asks for one trial
_ERROR = "bbbrun: error: "  # how the line of an error begins
# Attributes of a trial: the folder of its run, the reason of a failure, the name of its value.
_JOB, _WHY, OBJECTIVE = "job", "why", "objective"


class Search(NamedTuple):
    """A search. settings: of which some are ranges. trials: how many.

    objective: the metric to be minimised, None for the first of OBJECTIVES that a run has.
    storage: Optuna's address of the study. prune: whether a trial that is worse than most is stopped early.
    """

    folder: Path
    settings: list[str]
    objective: str | None
    trials: int
    storage: str
    prune: bool


def locked(search: Search) -> AbstractContextManager[None]:
    """The lock of the search's folder, which one worker has at a time."""
    return alone(search.folder / _LOCK, _PATIENCE)


def write_search(search: Search) -> None:
    """Write the search into its folder, so that another worker can join."""
    search.folder.mkdir(parents=True, exist_ok=True)
    content = search._asdict() | {"folder": str(search.folder)}
    with locked(search):
        write_atomically(search.folder / STUDY, (json.dumps(content, indent=1) + "\n").encode())


def read_search(folder: Path) -> Search:
    """The search in `folder`; raises UserError where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / STUDY).read_text("utf-8"))
        return Search(**content | {"folder": folder.absolute()})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} is not the folder of a search (it has no {STUDY} that can be read)") from error


def study_of(search: Search) -> optuna.Study:
    """The study, created if it does not exist: under a lock, since two workers would create its tables twice."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5) if search.prune else optuna.pruners.NopPruner()
    with locked(search):
        try:
            return optuna.create_study(
                # Without a pool of connections none stays open in a process that has ended its work.
                storage=optuna.storages.RDBStorage(search.storage, engine_kwargs={"poolclass": NullPool}),
                study_name=search.folder.name,
                direction="minimize",
                load_if_exists=True,
                pruner=pruner,
            )
        except Exception as error:
            raise UserError(f"--storage {search.storage}: {' '.join(str(error).split())[:200]}") from error


def work(search: Search, study: optuna.Study) -> None:
    """Do trials until the study has `search.trials`; first those whose worker was killed.

    Raises UserError where a run has no metric of the objective's name.
    """
    while True:
        with contextlib.ExitStack() as stack:
            claimed = _next(search, study, stack)
            if claimed is None:
                return
            trial, job = claimed
            _finish(search, study, trial, job)


def _next(search: Search, study: optuna.Study, stack: contextlib.ExitStack) -> tuple[optuna.Trial, SweepJob] | None:
    """A trial to do, locked by this worker until `stack` ends; None if no trial is left."""
    fixed, space = space_of(search.settings)
    with locked(search):
        for abandoned in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _claim(search.folder, abandoned.number, stack):
                continue
            # Its worker may have ended it in the meantime.
            if study.get_trials(deepcopy=False)[abandoned.number].state is TrialState.RUNNING:
                trial = optuna.Trial(study, abandoned._trial_id)
                return trial, _job(search, [*fixed, *settings_of(abandoned.params)], trial)
        if len(study.get_trials(deepcopy=False)) >= search.trials:
            return None
        trial = study.ask(fixed_distributions=space)
        _claim(search.folder, trial.number, stack)
        return trial, _job(search, [*fixed, *settings_of(trial.params)], trial)


def _job(search: Search, settings: list[str], trial: optuna.Trial) -> SweepJob:
    """The trial's job; trials of the same settings share one job."""
    [job] = enroll(search.folder, search.settings, [job_words(settings)], lambda words, number: numbered(trial.number))
    trial.set_user_attr(_JOB, job.folder)
    return job


def _finish(search: Search, study: optuna.Study, trial: optuna.Trial, job: SweepJob) -> None:
    """Run the trial's job, or the rest of it, and tell the study its result."""
    folder = search.folder / job.folder
    hydra_words = [text for text in search.settings if text.startswith(("hydra.", "hydra/"))]
    command = [sys.executable, "-m", "bbbrun", "-m", *job.words, *hydra_words]
    command += [word("hydra.sweep.dir", str(search.folder)), word("hydra.sweep.subdir", job.folder)]
    print(f"trial {trial.number}: {' '.join(settings_of(trial.params))}", file=sys.stderr)
    pruned, printed = False, ""
    while (progress := standing(folder)).state != "finished":
        if progress.state == "running":
            time.sleep(_ROUND)  # by the child of a killed worker, or by another trial of the same settings
            continue
        with (
            stops.shown_here(),
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(command, stderr=errors) as child,
        ):
            try:
                pruned = _watched(child, folder, search, trial)
            except BaseException:
                child.terminate()
                child.wait()
                raise
            errors.seek(0)
            lines = [line for line in errors if line.startswith(_ERROR)]
            # Before the job has its log: by a configuration that does not compose.
            printed = lines[-1].removeprefix(_ERROR).strip() if lines and child.returncode > 0 else ""
        if pruned or standing(folder).state not in ("running", "finished"):
            break
    end = standing(folder)
    if end.state != "finished" and not end.detail:
        end = end._replace(detail=printed)
    _tell(search, study, trial, end, folder, pruned)


def _watched(child: "subprocess.Popen[bytes]", folder: Path, search: Search, trial: optuna.Trial) -> bool:
    """Wait for the run's end; return whether it was pruned, since its rows so far are worse than most."""
    steps = set[int]()
    while child.poll() is None:
        time.sleep(_ROUND)
        if not search.prune:
            continue
        for step, value in _rows(folder, search.objective):
            if step not in steps:
                steps.add(step)
                trial.report(value, step)
        if steps and trial.should_prune():
            child.terminate()
            child.wait()
            return True
    return False


def _rows(folder: Path, objective: str | None) -> list[tuple[int, float]]:
    """(epoch or interaction, value of the objective) for each whole row that the run has so far."""
    try:
        rows = whole_rows(folder / METRICS)
    except OSError:
        return []
    name = objective_name(rows[0], objective) if rows else None
    return [(int(row.get("epoch") or row["step"]), float(row[name])) for row in rows if name and row.get(name)]


def _tell(search: Search, study: optuna.Study, trial: optuna.Trial, end: Standing, folder: Path, pruned: bool) -> None:
    """Tell the study how the trial ended, and print it on standard error."""
    if end.state == "finished" and not end.detail:  # which tells of replicas that diverged
        metrics = metrics_of(folder)
        name = objective_name(metrics, search.objective)
        if name is None:
            study.tell(trial, state=TrialState.FAIL)
            wanted = search.objective or f"one of {', '.join(OBJECTIVES)}"
            raise UserError(f"--objective must be {wanted}: the run in {folder} has {', '.join(metrics)}")
        trial.set_user_attr(OBJECTIVE, name)
        study.tell(trial, metrics[name])
        print(f"trial {trial.number}: {name} {metrics[name]:.5g}", file=sys.stderr)
    elif pruned:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"trial {trial.number}: stopped early", file=sys.stderr)
    else:
        reason = end.detail or "its process was killed"
        trial.set_user_attr(_WHY, reason)
        study.tell(trial, state=TrialState.FAIL)
        print(f"bbbrun: error: {reason} (trial {trial.number}, in {folder})", file=sys.stderr)


def best_of(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The best completed trial; None where there is none."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(completed, key=lambda trial: trial.value if trial.value is not None else float("inf"), default=None)


def _claim(folder: Path, number: int, stack: contextlib.ExitStack) -> bool:
    """Lock the trial of this number until `stack` ends; False where another worker has the lock."""
    path = folder / numbered(number)
    path.mkdir(exist_ok=True)
    file: IO[str] = (path / "trial.lock").open("a")
    if not lock(file):
        file.close()
        return False
    stack.enter_context(file)
    return True
