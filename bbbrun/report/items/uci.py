"""The UCI regression benchmark: RMSE and nll of each set over its splits, beside what others published."""

from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.bayes.methods import METHODS
from bbbrun.report.groups import NothingToShow, grouped, short, write_runs, write_table
from bbbrun.report.published.paper import beyond
from bbbrun.report.spread import with_interval
from bbbrun.runs.identity import setting
from bbbrun.runs.reader import Run
from bbbrun.schema.tables import UCI

_COLUMNS = {"test_rmse": "RMSE", "test_nll": "nll"}
_NOTE = (
    "Means over the standard splits, ± the standard deviation over splits; uci.csv has the means' standard errors too. "
    "RMSE is in the target's units, nll in nats per example of it. Published: Bayes by Backprop, same splits and units."
)


def uci(runs: list[Run], output: Path) -> list[str]:
    """Write uci.csv, uci.md and runs.csv into `output`; return messages.

    A row for each method and set: of the settings that were run, the one with most splits, of those the latest. Runs
    that held rows out for validation are left out.
    """
    runs = [run for run in runs if run.dataset in UCI and not run.config["dataset"]["valid_share"]]
    if not runs:
        raise NothingToShow("no finished run of experiment=uci")
    rows, shown = [], []
    for (name, method), group in sorted(grouped(runs, lambda run: (run.dataset, _label(run))).items()):
        chosen = _one_per_split(group)
        shown += chosen
        rows.append({"set": name, "method": method} | _numbers(chosen))
    table = pd.DataFrame(rows)
    write_table(table, output, "uci")
    (output / "uci.md").write_text(_markdown(table), "utf-8")
    write_runs(shown, output, lambda run: {"set": run.dataset, "split": run.config["dataset"]["split"]})
    return [f"{len(shown)} runs of {table['set'].nunique()} sets"]


def _label(run: Run) -> str:
    label: str = METHODS[run.method].label
    return f"{label}, tempered" if run.cold else label


def _one_per_split(group: list[Run]) -> list[Run]:
    """One run for each split, all of one setting and seed."""

    def alike(run: Run) -> tuple[int, frozenset[tuple[str, str]]]:
        return run.seed, setting(run.config, "dataset.split")

    by_split = [{run.config["dataset"]["split"]: run for run in runs} for runs in grouped(group, alike).values()]
    most = max(by_split, key=lambda runs: (len(runs), max(str(run.folder) for run in runs.values())))
    return [most[split] for split in sorted(most)]


def _numbers(runs: list[Run]) -> dict[str, Any]:
    metrics = pd.DataFrame([run.summary["metrics"] for run in runs])
    numbers: dict[str, Any] = {"splits": len(runs)}
    for name, label in _COLUMNS.items():
        numbers |= {name: metrics[name].mean(), f"{name}_std": metrics[name].std(), f"{name}_se": metrics[name].sem()}
        numbers[f"{name}_published"] = _published(f"{runs[0].dataset} {label}")
    return numbers


def _published(row: str) -> float:
    table = beyond()
    return float(table.loc[(table["item"] == "uci") & (table["row"] == row), "value"].iloc[0])


def _markdown(table: pd.DataFrame) -> str:
    lines = [["set", "method", "splits"]]
    for label in _COLUMNS.values():
        lines[0] += [label, f"{label}, published"]
    lines.append(["---"] * len(lines[0]))
    for row in table.to_dict("records"):
        cells = [row["set"], row["method"], str(row["splits"])]
        for name in _COLUMNS:
            cells += [with_interval(row[name], row[f"{name}_std"]), short(row[f"{name}_published"])]
        lines.append(cells)
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", _NOTE, ""])
