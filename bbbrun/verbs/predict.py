"""`bbbrun predict`: predictions of finished runs for new inputs, a row for each, with their uncertainty."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bbbrun.errors import UserError
from bbbrun.runs.files import named_folder, replacing, require_not_of_a_run

if TYPE_CHECKING:
    import pandas as pd

    from bbbrun.tasks.prediction import Member

DRAWS = 100
_NAMED = 5  # rows that a warning names


class DrawOptions(NamedTuple):
    """Options of draws. draws, seed: None where not given. trust: whether code that a record names may be imported."""

    draws: int | None
    seed: int | None
    mean: bool
    trust: bool


class Writer(Protocol):
    def __call__(self, table: "pd.DataFrame") -> None:
        """Append the rows of a table."""


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun predict` with `words`, by default the command line's.

    Exit code 0, 1 for what cannot be read, predicted or written, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(
        prog="bbbrun predict",
        description="Predictions of finished runs for the inputs in FILE, in the runs' own raw units, a row for each. "
        "Several runs are an ensemble: the mixture over runs and draws. Rows count from 1, without the header.",
    )
    add = parser.add_argument
    add(
        "words",
        nargs="+",
        type=named_folder,
        metavar="RUN... FILE",
        help="folders of finished runs, then CSV, Parquet, NPY, NPZ, IDX(.gz), or a folder of PNG or JPEG pictures",
    )
    add("-o", "--output", type=named_folder, required=True, metavar="OUT", help="the table to write, .csv or .parquet")
    add_draw_options(parser)
    add("--min-probability", type=float, metavar="P", help="leave the class empty where its probability is below P")
    arguments = parser.parse_intermixed_args(words)
    if len(arguments.words) < 2:
        parser.error("name at least one run, and then the file of inputs")
    if arguments.min_probability is not None and not 0 <= arguments.min_probability <= 1:
        parser.error(f"--min-probability must be from 0 to 1, not {arguments.min_probability}")
    *runs, file = arguments.words
    _predict(runs, file, arguments.output, draw_options(parser, arguments), arguments.min_probability)


def add_draw_options(parser: argparse.ArgumentParser) -> None:
    """Add --draws, --seed, --mean and --trust to a parser."""
    add = parser.add_argument
    add("--draws", type=int, metavar="N", help=f"draws of the weights of each run, by default {DRAWS}")
    add("--seed", type=int, metavar="S", help="the seed of the draws, by default 0")
    add("--mean", action="store_true", help="use the mean weights, w = mu, and draw nothing")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust to a parser."""
    text = "import the code that the runs' records name as their network; without it, nothing of theirs is run"
    parser.add_argument("--trust", action="store_true", help=text)


def draw_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> DrawOptions:
    """The values of `add_draw_options`; ends with exit code 2 where they are out of range, or contradict each other."""
    if arguments.draws is not None and not 1 <= arguments.draws <= 2**20:
        parser.error(f"--draws must be from 1 to {2**20}, not {arguments.draws}")
    if arguments.seed is not None and not 0 <= arguments.seed < 2**31:
        parser.error(f"--seed must be from 0 to {2**31 - 1}, not {arguments.seed}")
    if arguments.mean and (arguments.draws is not None or arguments.seed is not None):
        parser.error("--mean draws nothing: leave out --draws and --seed")
    return DrawOptions(arguments.draws, arguments.seed, arguments.mean, arguments.trust)


def members_of(folders: Sequence[Path], options: DrawOptions) -> "list[Member]":
    """The runs in and below these folders, with their draws.

    Raises UserError for a folder without a finished run, and where --draws or --seed would change nothing.
    """
    from bbbrun.runs.reader import finished_runs
    from bbbrun.tasks.prediction import member_of

    members = [
        member_of(run, options.draws or DRAWS, options.seed or 0, options.mean)
        for run in finished_runs(folders, options.trust)
    ]
    if not any(member.random for member in members) and (options.draws is not None or options.seed is not None):
        method = members[0].run.method
        raise UserError(f"--draws and --seed have no effect: method={method} has no draws of its weights")
    return members


def _predict(runs: Sequence[Path], file: Path, output: Path, options: DrawOptions, threshold: float | None) -> None:
    from bbbrun.data.sources import open_source
    from bbbrun.data.tables.columns import require_parquet
    from bbbrun.runtime.device import keep_freed_memory
    from bbbrun.tasks.prediction import Ensemble, without_unsure
    from bbbrun.training.progress import Progress

    if output.suffix not in (".csv", ".parquet"):
        raise UserError(f"--output must end in .csv or .parquet, not {output}")
    if output.suffix == ".parquet":
        require_parquet(output)
    if output.is_dir() or (output.exists() and file.exists() and output.samefile(file)):
        raise UserError(f"--output {output} {'is a folder' if output.is_dir() else 'is the file of inputs itself'}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    require_not_of_a_run(output)
    members = members_of(runs, options)
    ensemble = Ensemble(members)
    if len(members) > 1:
        print(f"an ensemble of {len(members)} runs", file=sys.stderr)
    if threshold is not None and not ensemble.classes:
        raise UserError("--min-probability is for classes, and this run predicts numbers")
    source = open_source(file, ensemble.layout.size, texts=ensemble.layout.texts)
    keep_freed_memory()
    total = -(-source.rows // ensemble.rows) * ensemble.draws
    progress, rows, far = Progress(total, 0, "predict", "draw"), 0, 0
    farthest: list[str] = []
    try:
        with _writing(output) as write:
            for chunk in source.chunks(ensemble.rows):
                try:
                    table = ensemble.predict(chunk.inputs, rows, lambda: progress.update(1))
                    rows_far = ensemble.layout.far(chunk.inputs, rows)
                except ValueError as error:
                    raise UserError(f"{file}: {error}") from None
                far += len(rows_far)
                farthest = [*farthest, *rows_far][:_NAMED]
                if chunk.files is not None:
                    table.insert(0, "file", chunk.files)
                write(table if threshold is None else without_unsure(table, threshold))
                rows += len(table)
            if not rows:
                raise UserError(f"{file} has no rows")
    except BaseException:
        progress.close(failed=True)
        raise
    progress.close()
    if far:
        print(
            f"bbbrun: warning: {far} of {rows} rows have a number more than 10 standard deviations from the training "
            f"rows' mean ({'; '.join(farthest)}{'; ...' if far > _NAMED else ''}): the network may be certain there, "
            "and be wrong",
            file=sys.stderr,
        )
    print(f"{rows} rows: {output}", file=sys.stderr)


@contextmanager
def _writing(path: Path) -> Iterator[Writer]:
    """A function that appends tables to `path`, which appears whole at the end."""
    with replacing(path, follow=True) as file:
        if path.suffix == ".csv":
            header = True

            def append(table: "pd.DataFrame") -> None:
                nonlocal header
                file.write(table.to_csv(index=False, header=header, lineterminator="\n").encode())
                header = False

            yield append
            return
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        writers: list[ParquetWriter] = []

        def append_batch(table: "pd.DataFrame") -> None:
            rows = pyarrow.Table.from_pandas(table, preserve_index=False)
            if not writers:
                writers.append(ParquetWriter(file, rows.schema))
            writers[0].write_table(rows)

        try:
            yield append_batch
        finally:
            for writer in writers:
                writer.close()
