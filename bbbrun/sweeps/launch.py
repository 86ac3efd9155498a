"""Between Hydra's sweepers and launchers: selects the unfinished jobs of a sweep and gives each its folder."""

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from bbbrun.errors import UserError
from bbbrun.runs.files import ERROR, RECORD, in_use, numbered, write_atomically
from bbbrun.runs.identity import differing_on_resume
from bbbrun.runs.record import configuration_of, metrics_of
from bbbrun.runs.slurm import Submission, being_submitted, queued, submitting
from bbbrun.runs.standing import Standing, standing, writer
from bbbrun.runs.sweep import SweepJob, enroll, is_sweep, read_sweep, settings
from bbbrun.runtime import stops
from bbbrun.schema.config import plain, require_ours
from bbbrun.schema.quoting import word
from bbbrun.sweeps.command import Calls
from bbbrun.sweeps.job import objective
from bbbrun.sweeps.shares import shared, shares_cores
from bbbrun.sweeps.watch import Watch

# Packages whose launchers raise an error of their own if a job's process is killed.
_BREAKING = ("joblib", "submitit", "ray", "concurrent")
_MOST_BREAKS = 2  # a job that was running at this many breaks has failed
_SLURM_ROUND = 2.0  # s between two looks at the queue
_PATIENCE = 30.0  # s; the longest wait for a stopped sweep's jobs to save their checkpoints


def between(calls: Calls) -> None:
    """Make Hydra's sweepers in this process launch through a SweepLauncher with `calls`."""
    plugins: Any = Plugins.instance()
    original = type(plugins).instantiate_launcher

    def instantiate(**arguments: Any) -> Launcher:
        launcher: Launcher = original(plugins, **arguments)
        return SweepLauncher(launcher, arguments["config"], arguments["hydra_context"], calls)

    plugins.instantiate_launcher = instantiate


def _keys(words: Sequence[str]) -> frozenset[str]:
    return frozenset(text.partition("=")[0] for text in settings(words))


class SweepLauncher(Launcher):
    """Gives a launcher the unfinished jobs, each with its folder in the sweep's."""

    def __init__(self, launcher: Launcher, config: DictConfig, context: HydraContext, calls: Calls) -> None:
        super().__init__()
        require_ours(config)
        self._launcher, self._config, self._context, self._calls = launcher, config, context, calls
        calls.on_slurm = type(launcher).__name__ == "SlurmLauncher"
        self._folder = calls.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self._submission: Submission | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: the inner launcher is set up when it is made."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch the unfinished jobs; return the validation metric of each job's run."""
        calls = self._calls
        if calls.again:
            jobs = [job for job in read_sweep(self._folder).jobs if calls.only is None or job.folder in calls.only]
        else:
            jobs = enroll(self._folder, calls.command, self._as_listed(job_overrides), self._name)
        calls.jobs |= {job.folder: job for job in jobs}
        for job in jobs:
            if self._standing(job).state == "failed":
                (self._folder / job.folder / ERROR).unlink(missing_ok=True)
        breaks: Counter[str] = Counter()
        unfinished = self._open(jobs)
        with Watch(self._folder, sorted(calls.jobs.values()), self._config.objective):
            while unfinished and self._launch_once(unfinished):
                unfinished = self._open(jobs)
                breaks.update(job.folder for job in unfinished if self._standing(job).state == "interrupted")
                for job in [job for job in unfinished if breaks[job.folder] >= _MOST_BREAKS]:
                    text = "its process was killed, twice: does the machine have memory for as many jobs at once?\n"
                    write_atomically(self._folder / job.folder / ERROR, text.encode())
                    unfinished.remove(job)
            while calls.on_slurm and self._has_queued_jobs():
                time.sleep(_SLURM_ROUND)
        return [self._returned(job) for job in jobs]

    def _as_listed(self, jobs: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """The settings of each job, written as in the sweep's list if a job there has the same configuration.

        Configurations are compared, which takes a tenth of a second, only where a job sets other keys than before.
        """
        earlier = read_sweep(self._folder).jobs if is_sweep(self._folder) else []
        keys = {_keys(job.words) for job in earlier}
        if all(_keys(words) in keys for words in jobs) or not earlier:
            return list(jobs)
        records = [(job, self._folder / job.folder / RECORD) for job in earlier]
        recorded = [(job, configuration_of(record)) for job, record in records if record.is_file()]
        translated: list[Sequence[str]] = []
        for words in jobs:
            config = self._context.config_loader.load_sweep_config(self._config, list(words))
            wanted = plain(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
            same = (job.words for job, config in recorded if not differing_on_resume(config, wanted))
            translated.append(next(same, words))
        return translated

    def _open(self, jobs: Sequence[SweepJob]) -> list[SweepJob]:
        """The jobs that have not ended, that no process is doing, and that do not wait in Slurm's queue.

        On Slurm no other process submits them from then on.
        """
        if not self._calls.on_slurm:
            return [job for job in jobs if self._standing(job).state in ("interrupted", "waiting")]
        with submitting(self._folder):
            submitted = being_submitted(self._folder) | set(queued(self._folder))
            candidates = [job for job in jobs if job.folder not in submitted]
            unfinished = [job for job in candidates if self._standing(job).state in ("interrupted", "waiting")]
            if unfinished:
                self._submission = Submission(self._folder, [job.folder for job in unfinished])
        return unfinished

    def _has_queued_jobs(self) -> bool:
        try:
            return bool(being_submitted(self._folder) or queued(self._folder))
        except UserError:
            return True  # Slurm does not answer for a while

    def _launch_once(self, jobs: Sequence[SweepJob]) -> bool:
        """Launch these jobs; return whether the launcher stopped because a process was killed."""
        shares: list[list[str]] = [[] for _ in jobs]
        if shares_cores(self._launcher):
            shares = shared(self._launcher, self._compositions([[*job.words, *self._calls.words] for job in jobs]))
        overrides = [
            [
                *job.words,
                *self._calls.words,
                *share,
                word("hydra.sweep.dir", str(self._folder)),
                word("hydra.sweep.subdir", job.folder),
            ]
            for job, share in zip(jobs, shares, strict=True)
        ]
        folders = [self._folder / job.folder for job in jobs]
        # joblib's semaphore tracker, a process of its own, would warn about processes that a stop ends.
        filter_rule = "ignore:resource_tracker:UserWarning"
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), filter_rule]))
        if self._submission is not None:
            params: Any = self._launcher
            params.params["submitit_folder"] = self._submission.folder
        try:
            # hydra.job.num equals the job's number if no job before it is left out.
            with stops.preceded_by(lambda: _save(folders)):
                self._launcher.launch(overrides, initial_job_idx=list(self._calls.jobs).index(jobs[0].folder))
        except Exception as error:
            if stops.is_stopping() or type(error).__module__.partition(".")[0] not in _BREAKING:
                raise
            # Slurm requeues jobs that it ends itself. Jobs that it lost or the user cancelled are not submitted again.
            return not self._calls.on_slurm
        finally:
            if self._submission is not None:
                self._submission.close()
        return False

    def _compositions(self, jobs: Sequence[Sequence[str]]) -> list[DictConfig]:
        """The configuration of each job, right in `threads` and `device`, which a file of an option may set.

        In other values it may be another job's: to compose one takes a tenth of a second, so that jobs share it.
        """
        groups = self._config.hydra.runtime.choices
        known: dict[tuple[str, ...], DictConfig] = {}
        configs = []
        for words in jobs:
            # A word for a value within a group could not stand without the words left out.
            keys = [text.lstrip("+~").partition("=")[0].partition("@")[0] for text in words]
            chosen = tuple(
                text
                for text, key in zip(words, keys, strict=True)
                if key in groups or key in ("threads", "device") or ("." not in key and key not in self._config)
            )
            if chosen not in known:
                known[chosen] = self._context.config_loader.load_sweep_config(self._config, list(chosen))
            configs.append(known[chosen])
        return configs

    def _name(self, words: Sequence[str], number: int) -> str:
        """The folder of the job with this number, by hydra.sweep.subdir, which a user may have set."""
        sweep: Any = OmegaConf.to_container(self._config.hydra.sweep, resolve=False)
        if sweep["subdir"].startswith("${bbbrun."):
            return numbered(number)
        config = self._context.config_loader.load_sweep_config(self._config, list(words))
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        earlier = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)  # for ${hydra:job.num}
        try:
            return str(config.hydra.sweep.subdir)
        finally:
            HydraConfig.instance().cfg = earlier

    def _standing(self, job: SweepJob) -> Standing:
        return standing(self._folder / job.folder)

    def _returned(self, job: SweepJob) -> JobReturn:
        """A job's result for a sweeper; nan where it is unfinished, so that the other jobs continue."""
        value = objective(metrics_of(self._folder / job.folder), self._config.objective)
        return JobReturn(overrides=list(job.words), status=JobStatus.COMPLETED, _return_value=value)


def _save(folders: Sequence[Path]) -> None:
    """Stop the runs that children of this process write, and wait until they have saved their checkpoints.

    A stopped launcher would kill its processes.
    """
    this_process = {"host": socket.gethostname(), "parent": os.getpid()}
    children = [folder for folder in folders if writer(folder).items() >= this_process.items() and in_use(folder)]
    for folder in children:
        with suppress(OSError, KeyError):
            os.kill(writer(folder)["process"], signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while any(in_use(folder) for folder in children) and time.monotonic() < deadline:
        time.sleep(0.1)
