"""Deliberate faults, each planted into a copy of bbbrun whose short run `bbbrun check --smoke` must then call a miss.

python tests/planted.py   plants them all, some minutes, and renews the tables in tests/README.md
"""

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from forked import THIRD_PARTY, Forks

from bbbrun.report.smoke import smoke
from bbbrun.runs.reader import finished_runs

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results" / "smoke"
SOUND = ROOT / "results" / "sound"  # runs of the unbroken code, on seeds that made no band
SEED = 0  # which `bbbrun reproduce --only smoke` trains
_LISTED = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text())
RUNS: dict[str, str] = _LISTED["runs"]  # name -> the words of a short run


class Fault(NamedTuple):
    """In `file` of the package `old`, which stands there once, replaced by `new`; `run` names the run to show it."""

    what: str
    run: str
    file: str
    old: str
    new: str


FAULTS = [Fault(**listed) for listed in _LISTED["faults"]]


def faulty(fault: Fault) -> str:
    """The source of the fault's file with the fault; raises ValueError where the text to replace is not there once."""
    source = (ROOT / "bbbrun" / fault.file).read_text()
    if source.count(fault.old) != 1 or fault.old == fault.new:
        raise ValueError(f"'{fault.what}' replaces what is not there once in bbbrun/{fault.file}: {fault.old}")
    return source.replace(fault.old, fault.new)


def planted(fault: Fault | None, run: str, folder: Path) -> None:
    """A copy of the package in `folder`, with this fault or none, whose one short run is that of RUNS.

    Raises ValueError where configs/reproduce.yaml does not list this run.
    """
    package = folder / "bbbrun"
    shutil.copytree(ROOT / "bbbrun", package)
    shutil.copytree(ROOT / "configs", package / "configs")  # where the wheel has them
    listed = yaml.safe_load((ROOT / "configs" / "reproduce.yaml").read_text())
    alone = [entry for entry in listed["runs"] if entry["words"] == RUNS[run]]
    if [entry["shown"] for entry in alone] != [["smoke"]]:
        raise ValueError(f"configs/reproduce.yaml lists no short run of {RUNS[run]}")
    (package / "configs" / "reproduce.yaml").write_text(yaml.safe_dump({"runs": alone}))
    if fault is not None:
        (package / fault.file).write_text(faulty(fault))


def checked(forks: Forks, fault: Fault | None, run: str, seed: int, folder: Path) -> tuple[int, pd.DataFrame]:
    """Train a short run of RUNS with this fault or none: the exit code and the verdicts of `bbbrun check --smoke`."""
    planted(fault, run, folder / "copy")
    environment = {**os.environ, "PYTHONPATH": str(folder / "copy"), "CUDA_VISIBLE_DEVICES": ""}
    trained = forks.run([*RUNS[run].split(), f"seed={seed}"], folder, environment)
    words = ["check", "results/runs", "--smoke", str(RECORDS), "--seeds", str(seed), "--json", "verdicts.json"]
    check = forks.run(words, folder, environment)
    if trained.returncode != 0 or not (folder / "verdicts.json").exists():
        raise RuntimeError(f"{fault}: {trained.stderr}{check.stderr}")
    return check.returncode, pd.DataFrame(json.loads((folder / "verdicts.json").read_text())["rows"])


def excess(table: pd.DataFrame) -> pd.Series:
    """How far off each number is: 1 at the edge of its band, infinite where it is not a number."""
    middle, half = (table["most"] + table["least"]) / 2, (table["most"] - table["least"]) / 2
    return ((table["ours"].astype(float) - middle).abs() / half).fillna(float("inf"))


def _furthest(table: pd.DataFrame, rule: str) -> str:
    """The columns that this rule calls a miss: the three that are furthest off, and how many more."""
    rows = table[(table["rule"] == rule) & (table["verdict"] == "miss")]
    names = [f"`{rows.loc[row, 'number']}`" for row in excess(rows).sort_values(ascending=False).index]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def faults_table(scratch: Path) -> str:
    """A row for each fault, as Markdown: by which columns the check caught it."""
    forks = Forks(scratch, THIRD_PARTY)
    lines = ["| fault | short run | outside the bands | off the same seed's digits |", "|---|---|---|---|"]
    for number, fault in enumerate(FAULTS):
        code, table = checked(forks, fault, fault.run, SEED, scratch / str(number))
        caught = [_furthest(table, rule) for rule in ("band", "digits")] if code == 1 else ["**not caught**", ""]
        lines.append(f"| {' | '.join([fault.what, fault.run, *caught])} |")
        print(lines[-1], file=sys.stderr, flush=True)
    forks.close()
    return "\n".join(lines)


def sound_table() -> str:
    """A row for each recorded run of the unbroken code on a seed that made no band, as Markdown."""
    verdicts = smoke(finished_runs([SOUND]), finished_runs([RECORDS]))
    lines = ["| run | numbers | outside their bands | furthest, of the band's half width |", "|---|---|---|---|"]
    for run, table in verdicts.groupby("run", sort=False):
        misses = (table["verdict"] != "pass").sum()
        row = excess(table).idxmax()
        lines.append(f"| `{run}` | {len(table)} | {misses} | {excess(table)[row]:.2f}, `{table.loc[row, 'number']}` |")
    return "\n".join(lines)


def main() -> None:
    """Renew the two tables in tests/README.md, each between its two comments."""
    page = Path(__file__).parent / "README.md"
    with tempfile.TemporaryDirectory() as scratch:
        tables = {"faults": faults_table(Path(scratch)), "sound": sound_table()}
    text = page.read_text()
    for name, table in tables.items():
        before, _, after = re.split(rf"(?<=<!-- {name} -->\n)(.*)(?=<!-- /{name} -->)", text, flags=re.DOTALL)
        text = f"{before}{table}\n{after}"
    page.write_text(text)


if __name__ == "__main__":
    main()
