"""The time and the memory of a step against the number of weights, draws, examples and threads."""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from bbbrun.bench.measure import OURS, measure
from bbbrun.bench.steps import contenders, make_setting, mlp_of
from bbbrun.errors import UserError
from bbbrun.schema.methods import Precision

_WEIGHTS = (10**3, 10**4, 10**5, 10**6, 10**7)
_DRAWS = (1, 2, 5, 10)  # of Bayes by Backprop alone, so the others' lines stay level
_BATCHES = (16, 64, 128, 512)
# glibc gives each larger block back as it is freed, so that the peak is what was in use at once.
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


class Place(NamedTuple):
    """A setting to measure: what varies, and all numbers of it."""

    axis: str
    widths: list[int]
    draws: int
    batch: int
    threads: int


def places(cores: int, small: bool) -> Iterator[Place]:
    """Every setting: one number varies along each axis, the others are those of 10^6 weights, 128 examples, one draw.

    small: one setting, which shows only that all of it works.
    """
    middle = Place("", _square(10**6), 1, 128, cores)
    if small:
        yield middle._replace(axis="weights")
        return
    for weights in _WEIGHTS:
        yield middle._replace(axis="weights", widths=_square(weights))
    for draws in _DRAWS:
        yield middle._replace(axis="draws", draws=draws)
    for batch in _BATCHES:
        yield middle._replace(axis="batch", batch=batch)
    for threads in sorted({1, *(2**power for power in range(cores.bit_length()) if 2**power < cores), cores}):
        yield middle._replace(axis="threads", threads=threads)


def _square(weights: int) -> list[int]:
    """Widths of a network with two hidden layers as wide as its inputs, ten outputs, and about as many weights."""
    width = next(width for width in range(1, weights) if mlp_of([width, width, width, 10]).size >= weights)
    return [width, width, width, 10]


def scaling(rounds: int, cores: int, small: bool) -> pd.DataFrame:
    """A row for each setting and step: its median time, ms, and its peak of memory, MiB, on up to `cores` threads."""
    tables = []
    settings = list(places(cores, small))
    bar = tqdm(settings, disable=None, unit="setting")
    for number, place in enumerate(bar, 1):
        if bar.disable:
            print(f"setting {number} of {len(settings)}: {place.axis}", file=sys.stderr, flush=True)
        torch.set_num_threads(place.threads)
        device = torch.device("cpu")
        table = measure(place.widths, place.batch, place.draws, place.threads, rounds, device, Precision.float32, OURS)
        table.insert(0, "axis", place.axis)
        table.insert(1, "weights", mlp_of(place.widths).size)
        table["memory_mib"] = [_peak_of(name, place) for name in table["name"]]
        tables.append(table)
    return pd.concat(tables)


def _peak_of(name: str, place: Place) -> float:
    """The peak of a step's memory, measured in a process of its own; raises UserError where it fails."""
    code = "import sys; from bbbrun.bench.scaling import peak; print(peak(sys.argv[1], sys.argv[2]))"
    command = [sys.executable, "-c", code, name, json.dumps(place)]
    ran = subprocess.run(command, env=os.environ | _GIVE_BACK, capture_output=True, text=True)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise UserError(f"the memory of '{name}' was not measured: {last}")
    return float(ran.stdout)


def peak(name: str, place_json: str) -> float:
    """The most memory, MiB, that the step and its state take beyond the data, Python, torch and its compiler.

    Linux alone tells it.
    """
    place = Place(*json.loads(place_json))
    torch.set_num_threads(place.threads)

    setting = make_setting(place.widths, place.batch, place.draws, torch.device("cpu"), Precision.float32)
    build = contenders(setting)[name]
    for _ in range(2):  # compiles it, then takes it from the compiler's cache: both take more memory than a step
        _take(build())
    _give_back()
    before = _resident("VmRSS")
    step = build()
    _take(step)
    _give_back()
    Path("/proc/self/clear_refs").write_text("5")
    _take(step)
    return max(0, _resident("VmHWM") - before) / 1024


def _take(step: Any) -> None:
    for _ in range(5):
        step()


def _give_back() -> None:
    """Return what is no longer in use to the system, which else counts as memory of the process: glibc keeps it."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _resident(name: str) -> int:
    """VmRSS or its peak VmHWM of this process, KiB."""
    found = re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def plot(table: pd.DataFrame, path: Path) -> None:
    """Plot time and memory over each axis as one figure of two rows, both scales logarithmic."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(table["axis"]))
    figure = Figure(figsize=(3.2 * len(axes), 5.6), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for column, axis in enumerate(axes):
        along = table[table["axis"] == axis]
        for panel, (number, label) in zip(
            panels[:, column], (("median_ms", "step, ms"), ("memory_mib", "memory, MiB")), strict=True
        ):
            for name, rows in along.groupby("name", sort=False):
                panel.plot(rows[axis], rows[number], marker="o", markersize=3, label=str(name))
            panel.set(xscale="log", yscale="log")
            if axis != "weights":  # a few numbers, each with its own tick
                ticks = sorted(along[axis].unique())
                panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                panel.set_xticks([], minor=True)
            if not column:
                panel.set_ylabel(label)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].legend(fontsize="x-small")
    figure.savefig(path)
