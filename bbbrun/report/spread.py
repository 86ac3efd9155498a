"""Several runs of one setting as one number: means, medians and interquartile means with their 95 % intervals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, t, trim_mean

LEVEL = 0.95
_RESAMPLES = 9_999


class Interval(NamedTuple):
    """The two ends; NaN for fewer than two runs."""

    low: float
    high: float


def student_quantile(freedom: float) -> float:
    """Student's quantile of a 95 % interval; NaN for no degree of freedom, so that one run gives no interval."""
    return float(t.ppf(0.5 + LEVEL / 2, freedom)) if freedom > 0 else float("nan")


def mean_half_width(values: "pd.Series[float]") -> float:
    """Half of the mean's 95 % interval by Student's t, (n,) -> t_(n-1) s / sqrt(n); NaN of one value."""
    values = values.dropna()
    return student_quantile(len(values) - 1) * float(values.std()) / len(values) ** 0.5 if len(values) else float("nan")


def with_interval(mean: float, half: float, digits: int = 4) -> str:
    """The mean in so many significant digits ± half its interval; without that where there is none, empty for NaN."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}g}" + ("" if pd.isna(half) else f" ± {half:.2g}")


def least_to_most(values: "pd.Series[float]") -> str:
    """The smallest and the largest value as text, "1 to 3"; one number where they are equal."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def interquartile_mean(values: Any, axis: int = -1) -> Any:
    """The mean of the middle half: a quarter of the values, rounded down, is left out at each end."""
    return trim_mean(values, 0.25, axis=axis)


def resampled(values: Any, statistic: Callable[..., Any]) -> Interval:
    """The 95 % percentile interval of a statistic by the bootstrap, always the same draws; NaN of one value."""
    if len(values) < 2:
        return Interval(float("nan"), float("nan"))
    result = bootstrap(
        (np.asarray(values, dtype=float),),
        statistic,
        n_resamples=_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return Interval(*map(float, result.confidence_interval))


def summary_of(table: pd.DataFrame, key: str, name: str) -> pd.DataFrame:
    """A row for each `key`: how many runs, and of `name` the mean, median and interquartile mean, with intervals."""
    rows = []
    for label, values in table.groupby(key, sort=False)[name]:
        interval = resampled(values, interquartile_mean)
        rows.append(
            {
                key: label,
                "runs": len(values),
                "mean": values.mean(),
                "mean_95": mean_half_width(values),
                "median": values.median(),
                "iqm": float(interquartile_mean(values)),
                "iqm_low": interval.low,
                "iqm_high": interval.high,
            }
        )
    return pd.DataFrame(rows)
