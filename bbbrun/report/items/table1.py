"""Table 1 of the paper: MNIST's test error, three methods and two priors, three sizes of network."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bbbrun.report.items.cells import METHODS, Cell, cell, cells, epochs
from bbbrun.report.paper import published, standard_error
from bbbrun.runs.reader import NothingToShow, Run, write_runs


def table1(runs: list[Run], output: Path) -> list[str]:
    """Write table1.csv, table1.md and runs.csv into `output`; return what there is to say.

    error: percent, by the posterior predictive with the draws of the last evaluation; error_mean: with w = mu.
    Both are means over seeds, with their standard deviations. difference: error less the paper's, and in units of
    the standard error of the paper's.
    """
    chosen = cells(runs)
    if not chosen:
        raise NothingToShow("no finished run of experiment=mnist with two equal hidden layers")
    output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([row(where, group) for where, group in chosen.items()])
    table.to_csv(output / "table1.csv", index=False, float_format="%.6g")
    (output / "table1.md").write_text(markdown(table))
    kept = [run for group in chosen.values() for run in group]
    write_runs(kept, output, _told)
    return [f"{len(chosen)} cells, {len(kept)} runs"]


def row(where: Cell, group: list[Run]) -> dict[str, Any]:
    """A row of table1.csv."""
    metrics = pd.DataFrame([run.summary["metrics"] for run in group]).reindex(
        columns=["test_error", "test_error_mean", "valid_error", "test_nll", "test_ece"]
    )
    mean, spread = metrics.mean(), metrics.std()
    paper = published("table1", where.method, where.units) if where.temperature == 1 else float("nan")
    difference = mean["test_error"] - paper
    return {
        "method": where.method,
        "units": where.units,
        "temperature": where.temperature,
        "epochs": epochs(group[0]),
        "seeds": len(group),
        "draws": _draws(group[0]),
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


def markdown(table: pd.DataFrame) -> str:
    """The table as the paper lays it out: ours with its spread, w = mu after a slash, the paper's in brackets."""
    sizes = sorted(table["units"].unique())
    lines = [
        "| test error, percent | " + " | ".join(f"{size} units" for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for temperature in sorted(table["temperature"].unique(), reverse=True):
        for method in METHODS:
            rows = table[(table["temperature"] == temperature) & (table["method"] == method)].set_index("units")
            if len(rows):
                name = Cell(method, 0, temperature).row
                lines.append(f"| {name} | " + " | ".join(_entry(rows, size) for size in sizes) + " |")
    counts = [f"{name} {_span(table[name])}" for name in ("epochs", "seeds")]
    draws = f"draws of the posterior predictive {_span(table['draws'])}" if table["draws"].notna().any() else ""
    note = "Error of the posterior predictive, after a slash that with w = mu; the paper's in brackets."
    return "\n".join([*lines, "", " ".join([note, ", ".join(filter(None, [*counts, draws])) + "."]), ""])


def _entry(rows: pd.DataFrame, size: int) -> str:
    if size not in rows.index:
        return ""
    at = rows.loc[size]
    spread = f" ± {at['error_std']:.2f}" if at["seeds"] > 1 else ""
    mean = f" / {at['error_mean']:.2f}" if pd.notna(at["error_mean"]) else ""
    paper = f" ({at['paper']:.2f})" if pd.notna(at["paper"]) else ""
    return f"{at['error']:.2f}{spread}{mean}{paper}"


def _span(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _draws(run: Run) -> int | None:
    method = run.config["method"]
    draws: int | None = method.get("final_samples") or method.get("test_samples")
    return draws


def _told(run: Run) -> dict[str, Any]:
    where = cell(run)
    assert where is not None
    metrics = {name: run.summary["metrics"].get(name) for name in ("test_error", "test_error_mean", "valid_error")}
    return where._asdict() | {"epochs": epochs(run)} | metrics
