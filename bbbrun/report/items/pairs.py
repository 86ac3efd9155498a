"""Two rows of one table over the runs that both have: pairs of one size and seed, and their test images."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bbbrun.errors import UserError
from bbbrun.report.compare import LEAST_SEEDS, NORMAL_QUANTILE, Difference, Ours
from bbbrun.report.groups import markdown, write_table
from bbbrun.report.spread import student_quantile
from bbbrun.runs.reader import Run

Wrong = dict[tuple[int, int], NDArray[np.bool_]]  # (units, seed) -> whether each test image is wrong, (N,)
_SHOWN = {
    "method": "first",
    "other": "second",
    "lower": "first is lower",
    "higher": "higher",
    "only_method": "only the first is wrong",
    "only_other": "only the second",
}


def wrong_images(runs: Mapping[tuple[int, str], Sequence[Run]]) -> dict[str, Wrong]:
    """The images that each run gets wrong, by row of the table, of those runs that keep their predictions.

    runs: by (units, row). Raises UserError where predictions are not of classes, not of as many images as others, or
    not of the run's test error.
    """
    wrong: dict[str, Wrong] = {}
    images = None
    for (units, row), group in runs.items():
        for run in group:
            if run.has_predictions:
                of_run = _wrong(run)
                images = images or len(of_run)
                if len(of_run) != images:
                    raise UserError(f"{run.folder}: its predictions are of {len(of_run)} images, others' of {images}")
                wrong_share, error = 100 * of_run.mean(), run.summary["metrics"]["test_error"]
                if abs(wrong_share - error) > 1e-3:
                    raise UserError(
                        f"{run.folder}: its predictions have {wrong_share:g} % wrong, its summary {error:g}"
                    )
                wrong.setdefault(row, {})[units, run.seed] = of_run
    return wrong


def crossed(points: NDArray[np.floating]) -> Difference:
    """The mean of a difference of two methods, (n, N), over n pairs of runs and N images that all of them share.

    half^2 = (t^2 P + z^2 max(I - R, 0)) / (n N), at least z^2 I / (n N): P, I and R are the mean squares of the pairs,
    of the images and of the rest in the two-way analysis of variance, whose expectations are N v(pairs) + v(rest),
    n v(images) + v(rest) and v(rest), so each variance counts once. t: Student's quantile for n - 1 degrees of freedom.
    z: the normal one. It holds 95 to 99 %, most where the pairs hardly differ. NaN wide of fewer than three pairs.
    """
    pairs, images = points.shape
    mean = float(points.mean())
    if pairs < LEAST_SEEDS:
        return Difference(mean, math.nan)
    of_pairs, of_images = points.mean(axis=1), points.mean(axis=0)
    rest = ((points - of_pairs[:, None] - of_images + mean) ** 2).sum() / ((pairs - 1) * (images - 1))
    square_of_images = pairs * of_images.var(ddof=1)
    squares = student_quantile(pairs - 1) ** 2 * images * of_pairs.var(ddof=1)
    squares += NORMAL_QUANTILE**2 * max(square_of_images - rest, 0.0)
    # Pairs that happen to agree do not make the chance of the images less.
    squares = max(squares, NORMAL_QUANTILE**2 * square_of_images)
    return Difference(mean, math.sqrt(squares / points.size))


def by_size(wrong: Mapping[str, Wrong]) -> pd.DataFrame:
    """A row for each two methods of one size, on the seeds of both that keep predictions.

    only_method, only_other: images that only this one gets wrong, the mean over seeds. difference: the error of
    `method` less that of `other`, in points, with half the width of its 95 % interval, as in `crossed`. compared: the
    verdict of the interval, see `Difference`.
    """
    rows: list[dict[str, Any]] = []
    for (method, mine), (other, others) in combinations(wrong.items(), 2):
        both = mine.keys() & others.keys()
        for units in sorted({size for size, _ in both}):
            pairs = sorted(pair for pair in both if pair[0] == units)
            one, two = (np.stack([each[pair] for pair in pairs]) for each in (mine, others))
            difference = crossed(100.0 * one - 100.0 * two)
            rows.append(
                {
                    "units": units,
                    "method": method,
                    "other": other,
                    "seeds": len(pairs),
                    "only_method": (one & ~two).sum(axis=1).mean(),
                    "only_other": (two & ~one).sum(axis=1).mean(),
                    "difference": difference.value,
                    "half": difference.half,
                    "compared": difference.verdict(0.0),
                }
            )
    return pd.DataFrame(rows)


def over_pairs(values: pd.DataFrame, wrong: Mapping[str, Wrong] | None = None) -> pd.DataFrame:
    """A row for each two methods, over the pairs of runs that both have, such as those of one size and seed.

    values: a column for each method, a row for each pair, NaN where there is no run. wrong: of test errors, the images
    that runs get wrong, the pairs as in `values`. lower, equal, higher: the number of pairs in which the value of
    `method` is so. difference: the mean over n pairs of the value of `method` less that of `other`, with half the width
    of its 95 % interval. images: the number of test images, where this is `crossed`; 0 where not all runs keep their
    predictions: then half = t s / sqrt(n), s the standard deviation of the differences. compared: the verdict of the
    interval, see `Difference`.
    """
    rows = []
    images_of: Mapping[Any, Wrong] = wrong or {}
    for method, other in combinations(values, 2):
        less = (values[method] - values[other]).dropna()
        if len(less):
            ours = Ours(less.mean(), len(less), less.std())
            difference, images = Difference(ours.value, ours.half), 0
            mine, others = images_of.get(method, {}), images_of.get(other, {})
            if all(pair in mine and pair in others for pair in less.index):
                points = np.stack([100.0 * mine[pair] - 100.0 * others[pair] for pair in less.index])
                difference, images = crossed(points), points.shape[1]
            rows.append(
                {
                    "method": method,
                    "other": other,
                    "pairs": len(less),
                    "lower": (less < 0).sum(),
                    "equal": (less == 0).sum(),
                    "higher": (less > 0).sum(),
                    "difference": difference.value,
                    "half": difference.half,
                    **({"images": images} if wrong is not None else {}),
                    "compared": difference.verdict(0.0),
                }
            )
    return pd.DataFrame(rows)


def write_pairs(pairs: pd.DataFrame, output: Path, name: str, note: str) -> str:
    """Write rows of `over_pairs` or `by_size` as NAME.csv; return them in Markdown, a note below.

    Of no rows return "" and delete NAME.csv: one of an earlier report would be judged beside this one's table.
    """
    if pairs.empty:
        (output / f"{name}.csv").unlink(missing_ok=True)
        return ""
    write_table(pairs, output, name)
    shown = pairs.rename(columns=_SHOWN)
    halves = shown.pop("half")
    shown["difference"] = [Difference(*each).text for each in zip(shown["difference"], halves, strict=True)]
    return f"\n{markdown(shown)}\n{note}\n"


def _wrong(run: Run) -> NDArray[np.bool_]:
    """Whether the run gets each test image wrong, (N,)."""
    table = run.predictions()
    if not {"label", "class"} <= set(table):
        raise UserError(f"{run.folder}: its predictions are not of classes")
    return (table["label"] != table["class"]).to_numpy()
