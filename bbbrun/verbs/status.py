"""`bbbrun status`: the progress of a sweep's jobs, or of any runs in and below a folder."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.files import LOG, named_folder
from bbbrun.runs.slurm import SUBMITTED, queued
from bbbrun.runs.standing import STATES, Standing, counted, duration, jobs_in, percent, seconds_left, standing

_ROUND = 2.0  # s between two looks of --watch
_BRIEF = ("finished", "waiting")  # states of which the number is enough


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun status` with `words`; exit code 0, 1 where the folder holds no runs, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="bbbrun status", description="Progress of the runs in a folder.")
    add = parser.add_argument
    add("folder", type=named_folder, help="a sweep's folder, or any with runs in and below it")
    add("--all", action="store_true", help="a line for each run, also for finished and waiting ones")
    add("--watch", action="store_true", help="repeat until all are finished or have failed; Ctrl-C ends it")
    arguments = parser.parse_args(words)
    if not arguments.folder.is_dir():
        raise UserError(f"{arguments.folder} is not a folder: name a sweep's, or one that holds runs")
    if not arguments.watch:
        print("\n".join(_lines(arguments.folder, _standings(arguments.folder), arguments.all)))
        return
    printed: list[str] = []
    while True:
        standings = _standings(arguments.folder)
        lines = _lines(arguments.folder, standings, arguments.all)
        if lines != printed:
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            print(clear + "\n".join(lines), flush=True)
            printed = lines
        if all(each.state in ("finished", "failed") for _, _, each in standings):
            return
        try:
            time.sleep(_ROUND)
        except KeyboardInterrupt:
            return  # the runs continue, so there is nothing to report


def _standings(folder: Path) -> list[tuple[Path, str, Standing]]:
    """Each run's folder, name and standing; raises UserError where there is none."""
    jobs = jobs_in(folder)
    if not jobs:
        raise UserError(f"{folder} holds no runs")
    sweeps = {path.parent for path, _ in jobs if (path.parent / SUBMITTED).is_dir()}
    numbers: dict[Path, str] = {}
    for sweep in sweeps:
        try:
            numbers |= {sweep / name: number for name, number in queued(sweep).items()}
        except UserError as error:
            print(f"bbbrun: warning: {error}", file=sys.stderr)
            break
    runs = []
    for path, name in jobs:
        each = standing(path)
        if path in numbers and each.state in ("waiting", "interrupted"):
            each = each._replace(state="waiting", detail=f"Slurm job {numbers[path]}")
        runs.append((path, name, each))
    return runs


def _lines(folder: Path, runs: list[tuple[Path, str, Standing]], every: bool) -> list[str]:
    """The line of all runs together, and lines of single runs, by state."""
    standings = [each for _, _, each in runs]
    done = percent(sum(each.done for each in standings) / len(standings))
    left = seconds_left(standings)
    remaining = f", about {duration(left)} left" if left else ""
    lines = [f"{folder}: {len(runs)} run{'s' * (len(runs) > 1)}: {counted(standings)}; {done} done{remaining}"]
    for state in STATES:
        for path, name, each in runs:
            listed = every or state not in _BRIEF or (state == "finished" and each.detail)
            if each.state == state and listed:
                lines.append(f"{state:11}  {name}{_detail(path, each)}")
    return lines


def _detail(folder: Path, run: Standing) -> str:
    """Further details of a run, from its folder."""
    parts = []
    if run.state in ("running", "interrupted"):
        parts.append(percent(run.done))
    if run.state == "running":
        parts += [run.rate, f"{duration(run.seconds_left)} left" if run.seconds_left is not None else ""]
    if run.state == "finished":
        parts.append(duration(run.seconds))
    parts.append(run.detail)
    if run.state == "failed" and (folder / LOG).exists():
        parts.append(f"log: {folder / LOG}")
    text = ", ".join(part for part in parts if part)
    return f": {text}" if text else ""
