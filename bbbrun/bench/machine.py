"""Measures a machine: steps and trainings as parts that each leave a file, and one table of them."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from bbbrun.bench.measure import OURS
from bbbrun.errors import UserError
from bbbrun.runs.files import RECORD, SUMMARY, write_atomically
from bbbrun.runs.provenance import commit
from bbbrun.runs.record import read_summary
from bbbrun.runtime.device import choose_device, name_of, set_products
from bbbrun.schema.methods import Precision
from bbbrun.schema.quoting import word

_NETWORKS = ("784-1200-1200-10", "784-800-800-10", "784-400-400-10")
_BANDIT = "119-100-100-1"


class Part(NamedTuple):
    """A command of bbbrun, and the file that tells that it has ended."""

    name: str
    words: list[str]
    result: Path


def parts_of(folder: Path, device: str, small: bool, words: Sequence[str]) -> list[Part]:
    """The parts of a table of this device: steps in each precision that it has, then two trainings in float32.

    small: sizes that show only that all parts work. words: settings of the trainings, such as dataset.root=FOLDER.
    """
    networks, bandit = (["64-8-8-10"], "11-4-4-1") if small else (list(_NETWORKS), _BANDIT)
    rounds = "3" if small else "200"
    parts: list[Part] = []

    def add_bench(name: str, networks: Sequence[str], batch: str, precision: str) -> None:
        table = folder / f"{name}.csv"
        own = ["bench", "--device", device, "--precision", precision, "--batch", batch, "--network", *networks]
        parts.append(Part(name, [*own, "--only", OURS, "--rounds", rounds, "--output", str(table)], table))

    def add_run(name: str, own: Sequence[str], last: str = "") -> None:
        size = ["experiment=digits", "train.epochs=2"] if small else ["experiment=mnist", "train.evaluate_every=10"]
        key = "resume" if (folder / name / RECORD).exists() else "hydra.run.dir"
        run = [*size, f"device={device}", *own, *words, word(key, str(folder / name))]
        parts.append(Part(name, run, folder / name / last / SUMMARY))

    chosen = choose_device(device)
    known = [precision.name for precision in Precision if _has(precision, chosen)][: 1 if small else None]
    for precision in known:
        add_bench(f"steps-{precision}", networks, "128", precision)
    add_bench("bandit", [bandit], "64", "float32")
    wide, narrow = ("[16,16]", "[8,8]") if small else ("[1200,1200]", "[400,400]")
    add_run("wide", [f"network.hidden={wide}"])
    add_run("replicas", [f"network.hidden={narrow}", "replicas=5"], last="seed-4")
    return parts


def _has(precision: Precision, device: torch.device) -> bool:
    try:
        set_products(precision, device)
    except UserError:
        return False
    return True


def run_parts(folder: Path, parts: Sequence[Part], device: str) -> str:
    """Run each part that has no result yet, and return the table, which is written after each part.

    Raises UserError where a part fails, naming its log, and where the folder's results are of another machine, version
    or command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = _about(device) | {"commands": {part.name: _without_place(part.words) for part in parts}}
    earlier = folder / "parts.json"
    try:
        found = json.loads(earlier.read_text("utf-8")) if earlier.exists() else expected
    except ValueError as error:
        raise UserError(f"{earlier} cannot be read: delete {folder} and begin again") from error
    if found != expected:
        raise UserError(f"{folder} holds results of another machine, version or command: name another folder")
    write_atomically(earlier, json.dumps(expected, indent=1).encode())
    for part in tqdm([part for part in parts if not part.result.exists()], disable=None, unit="part"):
        start = time.perf_counter()
        log = folder / f"{part.name}.log"
        with log.open("w") as file:
            code = subprocess.run([sys.executable, "-m", "bbbrun", *part.words], stdout=file, stderr=file).returncode
        if code:
            last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise UserError(f"{part.name} failed: {log} ends with '{last}'")
        print(f"{part.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        write_table(folder, parts, device)
    return write_table(folder, parts, device)


def _about(device: str) -> dict[str, Any]:
    return {
        "device": name_of(choose_device(device)),
        "cores": os.cpu_count(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "commit": commit(),
    }


def _without_place(words: Sequence[str]) -> list[str]:
    """The words of a part but its folder, which says hydra.run.dir at first and resume later."""
    return [each for each in words if not each.startswith(("hydra.run.dir=", "resume="))]


def write_table(folder: Path, parts: Sequence[Part], device: str) -> str:
    """Write machine.md and machine.json from the results that `parts` have so far, and return the former's text.

    The first part, a table of steps, has one.
    """
    about, parts = _about(device), [part for part in parts if part.result.exists()]
    steps = pd.concat([_steps(part.result) for part in parts if part.result.suffix == ".csv"])
    runs = [_training(part) for part in parts if part.result.name == SUMMARY]
    (folder / "machine.json").write_text(
        json.dumps(about | {"steps": steps.to_dict("records"), "trainings": runs}, indent=2)
    )
    ours = steps[steps["name"] == OURS]
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += [
        "| network | batch | precision | step, ms | to eager SGD | to eager dropout |",
        "|---|---|---|---|---|---|",
    ]
    for row in ours.to_dict("records"):
        times = " | ".join(f"{row[column]:.3g}" for column in ("median_ms", "to_eager_sgd", "to_eager_dropout"))
        lines.append(f"| {row['network']} | {row['batch']} | {row['precision']} | {times} |")
    if runs:
        lines += ["", "| training | replicas | steps/s | seconds in all | test error, % |", "|---|---|---|---|---|"]
    for run in runs:
        errors = ", ".join(f"{error:.2f}" for error in run["test_errors"])
        rate, seconds = run["steps_per_second"], run["seconds"]
        lines.append(f"| {run['name']} | {run['replicas']} | {rate:.0f} | {seconds:.0f} | {errors} |")
    text = "\n".join(lines) + "\n"
    (folder / "machine.md").write_text(text, "utf-8")
    return text


def _steps(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: delete it, and give the same command again") from error


def _training(part: Part) -> dict[str, Any]:
    """A training's figures: those of its first replica, and the test error of each."""
    last = part.result.parent
    folders = sorted(last.parent.glob("seed-*")) if last.name.startswith("seed-") else [last]
    summaries = [read_summary(folder) for folder in folders]
    first = summaries[0]
    return {
        "name": part.name,
        **{key: first[key] for key in ("command", "replicas", "seconds", "steps_per_second")},
        "test_errors": [summary["metrics"]["test_error"] for summary in summaries],
    }
