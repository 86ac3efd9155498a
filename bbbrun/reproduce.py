"""`scripts/reproduce`: the paper's experiments as ordinary `bbbrun` runs, each run once, resumed where interrupted."""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT, FIGURES, SUMMARY, named_folder
from bbbrun.runs.identity import kept_from_resuming, setting
from bbbrun.runs.jobs import Job, wanted
from bbbrun.runs.reader import RunOnDisk as Begun
from bbbrun.runs.reader import runs_on_disk as begun
from bbbrun.schema.config import Device

_RUNS = Path("results/runs")  # where bbbrun puts them


def match(job: Job, runs: Iterable[Begun]) -> Begun | None:
    """The job's last finished run, else one in progress, else the furthest that it may go on from, else None."""
    alike = [run for run in runs if setting(run.config) == setting(job.config)]
    found = [run for run in alike if run.config["seed"] == job.config["seed"]]
    found = [run for run in found if run.finished or not kept_from_resuming(run.config, job.config)]
    return max(reversed(found), key=lambda run: (run.finished, run.in_progress, run.done), default=None)


def expected_seconds(job: Job, at: Begun | None, runs: Iterable[Begun]) -> float | None:
    """About how long the rest takes: at the job's own rate so far, else that of the same setting with another seed."""
    alike = [run for run in runs if run.done > 0 and setting(run.config) == setting(job.config)]
    source = at if at is not None and at.done > 0 else next(iter(alike), None)
    return None if source is None else (1 - (at.done if at else 0)) * source.seconds / source.done


def main(words: Sequence[str] | None = None) -> None:
    """Run `scripts/reproduce`; exit code 0 when all that was asked for is finished, 1 otherwise, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="scripts/reproduce", description=__doc__)
    add = parser.add_argument
    add("--only", default="", help="tables and figures, joined by commas: table1,figure6; or smoke: short runs")
    add("--seeds", help="seeds, joined by commas, in place of those listed")
    add("--device", choices=[device.value for device in Device], default="auto", help="as for bbbrun")
    add(
        "--records",
        type=named_folder,
        help="a folder whose finished runs count too, and where ours are kept without weights",
    )
    add("--list", action="store_true", help="say what remains, and run nothing")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is not to leave the training behind
    try:
        _require_device(Device(arguments.device))
        seeds = None if arguments.seeds is None else _seeds(arguments.seeds)
        only = [name for name in arguments.only.split(",") if name]
        if arguments.only and not only:
            raise UserError(f"--only takes tables and figures, joined by commas, not {arguments.only!r}")
        jobs = wanted(only, seeds)
        if arguments.records:
            if "smoke" in only:
                raise UserError("--records keeps the paper's runs, which those of --only smoke are not")
            _require_folder(arguments.records)
    except UserError as error:
        parser.error(str(error))
    kept = [arguments.records] if arguments.records else []
    try:
        left = _run([] if arguments.list else jobs, _remaining(jobs, kept), kept, arguments.device)
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on", file=sys.stderr)
        sys.exit(130)
    for said in left:
        print(said, file=sys.stderr)
    sys.exit(1 if left else 0)


def _run(jobs: list[Job], remaining: list[Job], kept: list[Path], device: str) -> list[str]:
    """Run what remains of the jobs, and keep records of all that are finished; return what could not be done."""
    left = []
    for job in jobs:
        if job in remaining and (said := _finish(job, device)):
            left.append(said)
        for records in kept:
            try:
                copy_record(job, records)
            except OSError as error:
                left.append(f"no record of bbbrun {shlex.join(job.words)} in {records}: {error}")
    return left


def _require_folder(records: Path) -> None:
    """Before anything is run: raise UserError where no record could be written."""
    try:
        records.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"--records takes a folder, which may be a new one, not {records} ({reason})") from error


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds takes whole numbers from 0 to 2147483647, each once, joined by commas, not {text!r}")
    return seeds


def _require_device(device: Device) -> None:
    if device is Device.cuda:
        from bbbrun.runtime.device import choose_device  # here, since torch takes seconds to load

        choose_device(device)


def copy_record(job: Job, records: Path) -> None:
    """Copy the job's finished run into `records`, unless it is there: all of it but its weights and figures."""
    at = match(job, begun(_RUNS))
    if at is None or not at.finished:
        return
    place = records / at.folder.relative_to(_RUNS)
    if _same_run(at.folder, place):
        return
    if place.exists():
        raise FileExistsError(f"{place} is something else: move it away")
    place.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: what a kill leaves must not count as a run. hydra.yaml holds paths of this machine.
    with tempfile.TemporaryDirectory(dir=records.parent) as partial:
        copy = Path(partial) / place.name
        shutil.copytree(at.folder, copy, ignore=shutil.ignore_patterns(CHECKPOINT, FIGURES, "hydra.yaml"))
        try:
            copy.rename(place)
        except OSError:
            if not _same_run(at.folder, place):  # else another process was first
                raise


def _same_run(run: Path, record: Path) -> bool:
    kept = record / SUMMARY
    return kept.is_file() and kept.read_bytes() == (run / SUMMARY).read_bytes()


def _remaining(jobs: list[Job], kept: list[Path]) -> list[Job]:
    """The jobs that no finished run answers, here or in `kept`; says which, and about how long they take."""
    runs = [run for folder in (_RUNS, *kept) for run in begun(folder, warn=True)]
    places = [(job, match(job, runs)) for job in jobs]
    places = [(job, at) for job, at in places if at is None or not at.finished]
    times = [expected_seconds(job, at, runs) for job, at in places]
    for (job, at), seconds in zip(places, times, strict=True):
        remains = "never timed" if seconds is None else f"{seconds / 3600:.2f} h"
        elsewhere = f" ({_in_progress(at)})" if at is not None and at.in_progress else ""
        print(f"{remains}: bbbrun {shlex.join(job.words)}{elsewhere}", file=sys.stderr)
    known = [seconds / 3600 for seconds in times if seconds is not None]
    untimed = [f"{times.count(None)} never timed"] if None in times else []
    told = ", and ".join(([f"about {sum(known):.1f} h"] if known else []) + untimed)
    print(f"{len(places)} of {len(jobs)} runs remain{f': {told}' if told else ''}", file=sys.stderr)
    return [job for job, _ in places]


def _finish(job: Job, device: str) -> str | None:
    """Run the job, or what remains of it; return why it is not finished, None where it is."""
    at = match(job, begun(_RUNS))
    if at is not None and at.finished:
        return None  # by another process, in the meantime
    words = shlex.join(job.words)
    if at is not None and at.in_progress:
        return f"skipped: bbbrun {words} ({_in_progress(at)})"
    command = [*job.words, f"device={device}"]
    resumed = at.folder if at is not None and (at.folder / CHECKPOINT).exists() else None
    command += [f"resume={resumed}"] if resumed else []
    print(f"bbbrun {shlex.join(command)}", file=sys.stderr)
    with subprocess.Popen([sys.executable, "-m", "bbbrun", *command]) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # It keeps what it has, and says how to go on.
            child.terminate()
            child.wait()
            raise
    if code == 0:
        return None
    if at is not None and at.in_progress:
        return f"skipped: bbbrun {words} ({_in_progress(at)})"  # begun elsewhere while this one was starting
    remedy = f"; if it cannot go on from {resumed}, delete that folder, and it starts anew" if resumed else ""
    return f"failed: bbbrun {words}{remedy}"


def _in_progress(at: Begun) -> str:
    return f"in progress in another process, in {at.folder}"


if __name__ == "__main__":
    main()
