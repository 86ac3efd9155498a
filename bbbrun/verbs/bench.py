"""`bbbrun bench`: times a training step of each method, its parts and floors; or the variance of gradients."""

import argparse
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bbbrun.errors import UserError
from bbbrun.runs.files import require_not_of_a_run
from bbbrun.schema.methods import Precision
from bbbrun.verbs.predict import add_trust

if TYPE_CHECKING:
    import pandas as pd

_STEPS = ("network", "batch", "draws", "threads", "rounds", "device", "precision", "only", "output")
# What each other use of the verb heeds beside its own option.
_HEEDED = {
    "variance": ("rounds", "output", "trust"),
    "machine": ("device", "small", "settings"),
    "scaling": ("rounds", "small"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun bench`: print a table for each setting, and write all of them as one CSV where --output names a file.

    Exit code 0, 1 on an error, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(
        prog="bbbrun bench",
        description="Median time of a training step of each method and other packages, interleaved in one process; "
        "of its parts; or the variance of the estimators' gradients.",
    )
    add = parser.add_argument
    default = ["784-1200-1200-10"]
    add("--network", nargs="+", default=default, help="widths, inputs to outputs; the bandit's is 119-100-100-1")
    add("--batch", type=int, default=128, help="examples in a minibatch")
    add("--draws", type=int, nargs="+", default=[1], help="method.train_samples")
    add("--threads", type=int, nargs="+", default=[0], help="0: torch's choice")
    add("--rounds", type=int, default=100, help="timed calls of each step; with --variance, draws of each gradient")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--precision", choices=[each.name for each in Precision], default="float32", help="of every step's products")
    add("--only", default="", help="time only steps whose name contains this, and those that the ratios need")
    add("--variance", type=Path, metavar="RUN", help="instead: the variance of gradients at this run's network")
    add("--output", type=Path, help="a CSV file to write")
    add("--machine", type=Path, metavar="FOLDER", help="instead: steps and trainings on --device, and a table of them")
    add(
        "--scaling", type=Path, metavar="FOLDER", help="instead: time and memory against weights, draws, batch, threads"
    )
    add(
        "--small",
        action="store_true",
        help="with these two: sizes that show only that it works, --machine in float32 alone",
    )
    add_trust(parser)
    add("settings", nargs="*", help="with --machine: settings of its trainings, such as dataset.root=FOLDER")
    arguments = parser.parse_args(words)
    try:
        if arguments.output:
            _require_writable(arguments.output)
        use = next((name for name in _HEEDED if getattr(arguments, name)), None)
        heeded = (use, *_HEEDED[use]) if use else _STEPS
        for name, value in vars(arguments).items():
            if name not in heeded and value not in ([], parser.get_default(name)):
                option = f"--{name}" if name != "settings" else " ".join(value)
                needed = " or ".join(f"--{other}" for other, names in _HEEDED.items() if name in names)
                raise UserError(f"{option} has no effect with --{use}" if use else f"{option} needs {needed}")
        networks = [[int(width) if width.isdecimal() else 0 for width in net.split("-")] for net in arguments.network]
        if min(map(len, networks)) < 2 or min(itertools.chain(*networks)) < 1:
            raise UserError("--network takes widths of at least 1, two and more joined by -, such as 784-400-400-10")
        least = min([arguments.batch, arguments.rounds - 1, *arguments.draws, *(1 + n for n in arguments.threads)])
        if least < 1:
            raise UserError("--rounds must be at least 2, --threads at least 0, and every other number at least 1")
    except UserError as error:
        parser.error(str(error))
    if arguments.machine:
        _machine(arguments)
        return
    if arguments.scaling:
        _scaling(arguments)
        return
    tables = _tables(arguments, networks)
    if arguments.output:
        import pandas as pd

        pd.concat(tables).to_csv(arguments.output, index=False)


def _machine(arguments: argparse.Namespace) -> None:
    from bbbrun.bench.machine import parts_of, run_parts

    parts = parts_of(arguments.machine, arguments.device, arguments.small, arguments.settings)
    print(run_parts(arguments.machine, parts, arguments.device), end="")


def _scaling(arguments: argparse.Namespace) -> None:
    from bbbrun.bench.scaling import plot, scaling
    from bbbrun.runtime.device import keep_freed_memory
    from bbbrun.sweeps.shares import cores

    arguments.scaling.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    table = scaling(arguments.rounds, cores(), arguments.small)
    _printed(table).to_csv(arguments.scaling / "scaling.csv", index=False)
    for ending in ("png", "svg"):
        plot(table, arguments.scaling / f"scaling.{ending}")


def _tables(arguments: argparse.Namespace, networks: list[list[int]]) -> "list[pd.DataFrame]":
    """Measure and print; a table for each network, number of draws and number of threads."""
    # Imported here: torch takes seconds to load, which wrong words and --help need not wait for.
    from functools import partial

    import torch

    from bbbrun.bench.measure import measure, step_ms
    from bbbrun.bench.variance import variances
    from bbbrun.runtime.device import choose_device, keep_freed_memory, set_products, set_threads

    keep_freed_memory()
    device, precision = choose_device(arguments.device), Precision[arguments.precision]
    set_products(precision, device)
    if arguments.variance:
        cost = partial(step_ms, arguments.rounds)
        return [_printed(variances(arguments.variance, arguments.rounds, cost, arguments.trust))]
    default_threads = torch.get_num_threads()
    tables = []
    for widths, draws, threads in itertools.product(networks, arguments.draws, arguments.threads):
        count = set_threads(threads or default_threads)
        table = measure(widths, arguments.batch, draws, count, arguments.rounds, device, precision, arguments.only)
        tables.append(_printed(table))
    return tables


def _require_writable(path: Path) -> None:
    """Before anything is timed: raise UserError where no file can be written at `path`."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--output must be a file in an existing folder that can be written to, not {path}")
    require_not_of_a_run(path)


def _printed(table: "pd.DataFrame") -> "pd.DataFrame":
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    return table
