"""The sets that runs are judged on: the test set, harder versions of its images, foreign images, labelled files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bbbrun.data.corruptions import ANGLES, CORRUPTIONS, corrupted, rotated, shifted, shifts
from bbbrun.data.curve import curve_points
from bbbrun.data.foreign import SETS, foreign_images, noise_images
from bbbrun.data.images import IMAGES
from bbbrun.data.layouts import Layout
from bbbrun.data.sources import open_source
from bbbrun.data.tables.form import Form
from bbbrun.data.tables.load import rows_of, target_values
from bbbrun.data.tables.rows import read_table
from bbbrun.errors import UserError
from bbbrun.runs.reader import Run
from bbbrun.schema.datasets import ImageDatasetConfig, MnistConfig, RegressionCurveConfig
from bbbrun.schema.tables import TabularConfig, UciConfig
from bbbrun.tasks.kinds import form_in

FOREIGN = (*SETS, "noise")
HARDER = ("rotated", "shifted", "corrupted")
NAMES = ("test", *FOREIGN, *HARDER)
FILE = "file"  # the set of all files


class Part(NamedTuple):
    """A part of a set: `load` gives its inputs, in the runs' own units, and their labels, None for foreign inputs.

    level: its distance from the test set, such as an angle; None where that is not a number. rows: the rows of the data
    set, where runs of one data set may have learnt from different ones.
    """

    set: str
    name: str
    level: float | None
    load: Callable[[], tuple[Any, NDArray[Any] | None]]
    rows: str = ""


def parts_of(run: Run, names: Sequence[str], root: str | None) -> list[Part]:
    """The parts of the sets with these names, or of these files, for the run and others of its data set.

    root: the folder of the data in place of the record's, which may come from anybody; None for $BBBRUN_DATA or the
    cache, of a user's table for the record's own dataset.path. Raises UserError for a set that the run does not have,
    and for a missing file.
    """
    dataset = run.options("dataset")
    if isinstance(dataset, ImageDatasetConfig):
        if isinstance(dataset, MnistConfig):
            dataset = replace(dataset, root=root)
        return [part for name in names for part in _image_parts(dataset, name, root)]
    if isinstance(dataset, RegressionCurveConfig):
        return [_curve_part(dataset, run.seed, name) for name in names]
    if isinstance(dataset, TabularConfig):
        return [_table_part(dataset, form_in(run), name, root) for name in names]
    raise UserError(f"dataset={run.dataset}: its network judges actions; name runs of images, curves or tables")


def require_readable(parts: Sequence[Part], layout: Layout) -> None:
    """Raise UserError for a file whose rows are not of this layout, and for two files of one name."""
    files = [part for part in parts if part.set == FILE]
    for number, part in enumerate(files):
        if part.name in [other.name for other in files[:number]]:
            raise UserError(f"--on: two files are called {part.name}, as a row in the tables would be: rename one")
        try:
            layout.raw(part.load()[0])
        except ValueError as error:
            raise UserError(f"--on {part.name}: {error}") from None


def _image_parts(dataset: ImageDatasetConfig, name: str, root: str | None) -> list[Part]:
    (_, height, width), classes, load_images, brightest = IMAGES[dataset.name]

    @cache
    def test() -> tuple[NDArray[np.float32], NDArray[Any]]:
        _, _, pixels, labels = load_images(dataset)
        return pixels.numpy().astype(np.float32), labels.numpy()

    def harder(change: Callable[[Any, Any], Any], how: Any) -> tuple[Any, NDArray[Any]]:
        pixels, labels = test()
        return change(pixels / brightest, how) * brightest, labels

    match name:
        case "test":
            return [Part(name, name, None, test)]
        case "noise":
            return [Part(name, name, None, lambda: (noise_images(len(test()[0]), (height, width), brightest), None))]
        case "rotated":
            return [Part(name, f"{angle} degrees", angle, partial(harder, rotated, angle)) for angle in ANGLES]
        case "shifted":
            return [Part(name, f"{count} pixels", count, partial(harder, shifted, count)) for count in shifts(width)]
        case "corrupted":
            return [Part(name, kind, None, partial(harder, corrupted, kind)) for kind in CORRUPTIONS]
        case _ if name in SETS:
            if SETS[name] == dataset.name:
                raise UserError(f"--on {name} is what this run learnt: say test")
            if (height, width) != (28, 28):
                raise UserError(f"--on {name}: its images are 28 x 28, and this run's {height} x {width}")
            return [Part(name, name, None, lambda: (foreign_images(name, root), None))]
    path = _file(name)
    return [Part(FILE, path.name, None, lambda: _labelled(path, (height, width), "label", classes))]


def _curve_part(dataset: RegressionCurveConfig, seed: int, name: str) -> Part:
    if name == "test":
        test = curve_points(dataset, seed)[1]
        return Part(name, name, None, lambda: (test.inputs.numpy(), test.labels.numpy()))
    if name in NAMES:
        raise UserError(f"--on {name} is of images, and this run's inputs are numbers: say test, or a file")
    path = _file(name)
    return Part(FILE, path.name, None, lambda: _labelled(path, None, "y", 0))


def _table_part(dataset: TabularConfig, form: Form, name: str, root: str | None) -> Part:
    def labelled(frame: Any) -> tuple[Any, NDArray[Any]]:
        return frame.drop(columns=form.target.name), target_values(form.target, frame[form.target.name])

    if name == "test":
        # A UCI set's record may come from anybody: the folder that it names is not read.
        own = replace(dataset, root=root) if isinstance(dataset, UciConfig) else dataset
        return Part(name, name, None, lambda: labelled(rows_of(own, root, form.files).test), repr(own))
    if name in NAMES:
        raise UserError(f"--on {name} is of images, and this run's inputs are columns: say test, or a file")
    path = _file(name)

    def load() -> tuple[Any, NDArray[Any]]:
        frame = read_table(path, form.target.name if path.suffix == ".npz" else None, form.texts)
        if form.target.name not in frame.columns:
            raise UserError(f"{path}: column {form.target.name!r}, the target, is missing")
        return labelled(frame)

    return Part(FILE, path.name, None, load)


def _file(name: str) -> Path:
    if not name or not Path(name).exists():
        raise UserError(f"--on {name} is none of {', '.join(NAMES)}, and there is no such file or folder")
    return Path(name)


def _labelled(path: Path, size: tuple[int, int] | None, label: str, classes: int) -> tuple[Any, NDArray[Any]]:
    """The whole file: a list of chunks joined, and its labels, classes 0 .. classes - 1 or finite numbers."""
    import pandas as pd

    chunks = list(open_source(path, size, label).chunks(1 << 16))
    if not chunks:
        raise UserError(f"{path} has no rows")
    inputs = [chunk.inputs for chunk in chunks]
    labels = np.concatenate([chunk.labels for chunk in chunks if chunk.labels is not None])
    if labels.ndim != 1:
        raise UserError(f"{path}: its labels must be one a row, (N,), not an array {labels.shape}")
    values = pd.to_numeric(pd.Series(labels), errors="coerce").to_numpy(np.float64)
    good = np.isfinite(values)
    if classes:
        good &= (values == np.floor(values)) & (values >= 0) & (values < classes)
    if not good.all():
        row = int(np.argmin(good))
        expected = f"a class from 0 to {classes - 1}" if classes else "a finite number"
        raise UserError(f"{path}: row {row + 1} has the label {str(labels[row])!r}, not {expected}")
    all_inputs = pd.concat(inputs, ignore_index=True) if isinstance(inputs[0], pd.DataFrame) else np.concatenate(inputs)
    return all_inputs, values.astype(np.int64) if classes else values
