"""Table 1 of the paper: MNIST's test error, three methods and two priors, three sizes of network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bbbrun.report.groups import NothingToShow, write_runs, write_table
from bbbrun.report.items.cells import Cell, by_protocol, cell_of, cells, epochs_of, last_draws
from bbbrun.report.items.pairs import Wrong, by_size, over_pairs, write_pairs, wrong_images
from bbbrun.report.published.paper import published, standard_error
from bbbrun.report.spread import least_to_most
from bbbrun.runs.reader import Run

_DIFFERENCES = (
    "The first method's test error less the second's, over the pairs of runs of one size and seed: in how many it is "
    "lower, equal and higher; the difference in points, with its 95 % interval; the number of test images that the "
    "interval covers beside the pairs, 0 where it covers the pairs alone; the mean difference at each size."
)
_PAIRED = (
    "Image by image, means over the seeds that both have; the difference in points, with its 95 % interval over seeds "
    "and images."
)


def table1(runs: list[Run], output: Path) -> list[str]:
    """Write table1.csv, table1.md, runs.csv, differences.csv and paired.csv into `output`; return messages.

    error: percent, of the posterior predictive with the draws of the last evaluation. error_mean: percent, with
    w = mu. Both are means over seeds, beside their standard deviations. difference: our error minus the paper's, in
    points and in standard errors of the paper's. differences.csv: `over_pairs`. paired.csv: `by_size`, where runs keep
    their predictions.
    """
    chosen = cells(runs)
    if not chosen:
        raise NothingToShow("no finished run of experiment=mnist with two equal hidden layers")
    table = pd.DataFrame([row(cell, group) for cell, group in chosen.items()])
    wrong = wrong_images({(cell.units, cell.row): group for cell, group in chosen.items()})
    write_table(table, output, "table1")
    text = _markdown(table)
    text += write_pairs(_differences(chosen, wrong), output, "differences", _DIFFERENCES)
    text += write_pairs(by_size(wrong), output, "paired", _PAIRED)
    (output / "table1.md").write_text(text, "utf-8")
    shown = [run for group in chosen.values() for run in group]
    write_runs(shown, output, _details)
    rest = sum(run.dataset == "mnist" and not by_protocol(run.config) for run in runs)
    messages = [f"{len(chosen)} cells, {len(shown)} runs"]
    if rest:
        unlike = "another split, estimator or weighting than the paper's, or without a test error"
        messages.insert(0, f"{rest} runs of {unlike}: left out")
    return messages


def row(cell: Cell, group: list[Run]) -> dict[str, Any]:
    """A row of table1.csv."""
    metrics = pd.DataFrame([run.summary["metrics"] for run in group]).reindex(
        columns=["test_error", "test_error_mean", "valid_error", "test_nll", "test_ece"]
    )
    mean, spread = metrics.mean(), metrics.std()
    paper = published("table1", cell.method, cell.units) if cell.temperature == 1 else float("nan")
    difference = mean["test_error"] - paper
    return {
        "method": cell.method,
        "units": cell.units,
        "temperature": cell.temperature,
        "epochs": epochs_of(group[0]),
        "seeds": len(group),
        "draws": last_draws(group[0]),
        "error": mean["test_error"],
        "error_std": spread["test_error"],
        "error_mean": mean["test_error_mean"],
        "error_mean_std": spread["test_error_mean"],
        "valid_error": mean["valid_error"],
        "nll": mean["test_nll"],
        "ece": mean["test_ece"],
        "paper": paper,
        "difference": difference,
        "difference_in_standard_errors": difference / standard_error(paper),
        "seconds": np.mean([run.summary["seconds"] for run in group]),
    }


def _markdown(table: pd.DataFrame) -> str:
    """Errors in the paper's layout, w = mu after a slash, the paper's in brackets; nll and calibration below."""
    counts = f"{least_to_most(table['epochs'])} epochs, {least_to_most(table['seeds'])} seeds in a cell"
    if table["draws"].notna().any():
        counts += f", {least_to_most(table['draws'])} draws of the posterior predictive"
    note = "Error of the posterior predictive, after a slash that with w = mu; the paper's in brackets."
    errors = _by_size(table, "test error, percent", _error)
    scores = _by_size(table, "nll, nats / calibration error, percent", _scores)
    return "\n".join([*errors, "", f"{note} {counts}.", "", *scores, ""])


def _differences(chosen: dict[Cell, list[Run]], wrong: dict[str, Wrong]) -> pd.DataFrame:
    """`over_pairs` of the test errors, a pair being of one size and seed, and the mean difference at each size."""
    found = [
        {"units": cell.units, "seed": run.seed, "row": cell.row, "error": run.summary["metrics"].get("test_error")}
        for cell, runs in chosen.items()
        for run in runs
    ]
    errors = pd.DataFrame(found).pivot(index=["units", "seed"], columns="row", values="error").astype(float)
    table = over_pairs(errors[list(dict.fromkeys(cell.row for cell in chosen))], wrong)
    for units, of_size in errors.groupby("units"):
        table[f"{units} units"] = [(of_size[pair.method] - of_size[pair.other]).mean() for pair in table.itertuples()]
    return table


def _by_size(table: pd.DataFrame, title: str, entry: Callable[[pd.Series], str]) -> list[str]:
    """A table with a line for each method and a column for each size."""
    sizes = sorted(table["units"].unique())
    lines = [f"| {title} | " + " | ".join(f"{size} units" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    entries: dict[str, dict[int, str]] = {}
    for _, row in table.iterrows():
        name = Cell(row["method"], row["units"], row["temperature"]).row
        entries.setdefault(name, {})[row["units"]] = entry(row)
    rows = {name: " | ".join(row.get(size, "") for size in sizes) for name, row in entries.items()}
    return lines + [f"| {name} | {row} |" for name, row in rows.items()]


def _error(row: pd.Series) -> str:
    mean = f" / {row['error_mean']:.2f}" if pd.notna(row["error_mean"]) else ""
    paper = f" ({row['paper']:.2f})" if pd.notna(row["paper"]) else ""
    return f"{row['error']:.2f}{mean}{paper}"


def _scores(row: pd.Series) -> str:
    return f"{row['nll']:.4f} / {row['ece']:.2f}" if pd.notna(row["nll"]) else ""


def _details(run: Run) -> dict[str, Any]:
    cell = cell_of(run)
    assert cell is not None
    metrics = {name: run.summary["metrics"].get(name) for name in ("test_error", "test_error_mean", "valid_error")}
    return cell._asdict() | {"epochs": epochs_of(run)} | metrics
