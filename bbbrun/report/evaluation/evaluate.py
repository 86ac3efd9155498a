"""Runs judged on sets of inputs, methods side by side over seeds: scores by run, means, tables and the page."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bbbrun.bayes.methods import METHODS
from bbbrun.bayes.uncertainty import ClassPrediction
from bbbrun.errors import UserError
from bbbrun.report.evaluation.figures import draw_foreign, draw_levels, draw_reliability, draw_risk
from bbbrun.report.formats import plain_value
from bbbrun.report.groups import by_setting, markdown, one_per_seed, write_runs, write_table
from bbbrun.report.page import EVALUATED, write_page
from bbbrun.report.spread import mean_half_width, with_interval
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import Run
from bbbrun.tasks.evaluation import (
    CLASSES,
    FOREIGN_COLUMNS,
    NAMES,
    NUMBERS,
    class_scores,
    foreign_scores,
    joined,
    number_scores,
    predicted_classes,
)
from bbbrun.tasks.evaluation_sets import FILE, FOREIGN, Part, parts_of, require_readable
from bbbrun.tasks.prediction import Ensemble, Member
from bbbrun.training.task import Column

_TITLES = {
    "test": "Test set",
    "mnist": "MNIST, told from the test set",
    "fashion": "Fashion-MNIST, told from the test set",
    "kmnist": "Kuzushiji-MNIST, told from the test set",
    "noise": "Noise, told from the test set",
    "rotated": "Rotated test images",
    "shifted": "Shifted test images",
    "corrupted": "Corrupted test images",
    "file": "Files with labels",
}
_ENSEMBLE = "ensemble"
_KEYS = ["method", "members", "set", "part", "level"]
TABLES = {  # what the files of an evaluation begin with
    "scores.csv": (",".join(_KEYS),),
    "summary.csv": ("method,set,part,level,runs",),
    "runs.csv": ("seed,seconds,command,commit",),
    "evaluation.json": ('[\n {\n  "method":',),
}
_LEVELS = ("error", "nll", "entropy", "epistemic")


class Judged(NamedTuple):
    """The runs of a method, one a seed, each an ensemble of its own draws."""

    label: str
    members: list[Member]


def judged_of(members: Sequence[Member]) -> list[Judged]:
    """The members by the setting of their runs, under distinct labels; of runs with the same seed the last counts."""
    by_folder = {member.run.folder: member for member in members}
    groups = [one_per_seed(group) for group in by_setting(member.run for member in members).values()]
    names = [METHODS[group[0].method].label for group in groups]
    judged = []
    for name, group in zip(names, groups, strict=True):
        alike = [setting(other[0].config) for each, other in zip(names, groups, strict=True) if each == name]
        keys = sorted(set().union(*(differing(each, alike[0]) for each in alike)))
        values = dict(setting(group[0].config))
        details = ", ".join(f"{key} {values.get(key, 'none')}" for key in keys[:4])
        judged.append(Judged(f"{name} ({details})" if details else name, [by_folder[run.folder] for run in group]))
    return judged


Predictions = dict[str, list[ClassPrediction]]  # by the label of a method or of its ensemble, a run after the other


def evaluate(
    judged: list[Judged], names: list[str], root: str | None, output: Path, after: Callable[[int], None]
) -> list[str]:
    """Judge the runs on the sets of these names and write scores, tables, figures and a page into `output`.

    root: the folder of the data; None for $BBBRUN_DATA or the cache. after: called after each run's prediction for a
    part of a set with how many of them there will be. Returns messages. Raises UserError for sets that the runs do not
    have, and where two runs do not predict the same.
    """
    members = [member for each in judged for member in each.members]
    classes = Ensemble(members).classes
    sets = list(dict.fromkeys(names))
    if classes and set(sets) & set(FOREIGN):
        sets = ["test", *(name for name in sets if name != "test")]
    # Of each run: the points of a curve are drawn from the run's seed.
    parts = [parts_of(member.run, sets, root) for member in members]
    require_readable(parts[0], members[0].predictor.layout)

    def count() -> None:
        after(len(parts[0]) * len(members))

    rows: list[dict[str, Any]] = []
    of_test: Predictions = {}
    for own in zip(*parts, strict=True):
        part = own[0]
        if classes and any(other.rows != part.rows for other in own):
            raise UserError(
                f"--on {part.name}: the runs have different test rows: evaluate those of one split together"
            )
        try:
            if not classes:
                rows += _judge_numbers(judged, list(own), count)
                continue
            inputs, labels = part.load()
            predictions = _predictions(judged, inputs, count)
        except ValueError as error:
            raise UserError(f"--on {part.name}: {error}") from None
        if part.set == "test":
            of_test = predictions
        for label, runs in predictions.items():
            for number, each in enumerate(runs):
                scores = foreign_scores(of_test[label][number], each) if labels is None else class_scores(each, labels)
                rows.append(
                    {"method": label, "members": _members(judged, label, number)} | _part_columns(part) | scores
                )
        _draw(part, predictions, of_test, labels, output, [each.label for each in judged])
    table = pd.DataFrame(rows)
    return _write(table[[*_KEYS, *(name for name in NAMES if name in table)]], [m.run for m in members], output)


def _predictions(judged: list[Judged], inputs: Any, count: Callable[[], None]) -> Predictions:
    """The predictions of each run for these inputs, and of each method's ensemble of runs."""
    predictions: Predictions = {}
    for each in judged:
        alone = predictions[each.label] = []
        for member in each.members:
            alone.append(predicted_classes(Ensemble([member]), inputs))
            count()
        if len(alone) > 1:
            predictions[_ensemble_label(each)] = [joined(alone)]
    return predictions


def _judge_numbers(judged: list[Judged], parts: list[Part], count: Callable[[], None]) -> list[dict[str, Any]]:
    """A row for each run, by its own part in `parts`, and for each method's ensemble where its runs share a part."""
    rows, own = [], iter(parts)

    def judge(label: str, members: list[Member], number: int, part: Part, inputs: Any, y: Any) -> None:
        names = {"method": label, "members": _members(judged, label, number)}
        rows.append(names | _part_columns(part) | number_scores(Ensemble(members), inputs, y))

    for each in judged:
        truths: list[Any] = []
        for number, member in enumerate(each.members):
            part = next(own)
            inputs, y = part.load()
            judge(each.label, [member], number, part, inputs, y)
            count()
            truths.append(y)
        # The points of a curve are drawn from each run's seed.
        if len(truths) > 1 and all(np.array_equal(y, truths[0]) for y in truths):
            judge(_ensemble_label(each), each.members, 0, part, inputs, y)
    return rows


def _ensemble_label(judged: Judged) -> str:
    return f"{judged.label}, {_ENSEMBLE} of {len(judged.members)}"


def _members(judged: list[Judged], label: str, number: int) -> str:
    """The label of a run of the method: its seed, or "ensemble"."""
    seeds = [f"seed {each.members[number].run.seed}" for each in judged if each.label == label]
    return seeds[0] if seeds else _ENSEMBLE


def _part_columns(part: Part) -> dict[str, Any]:
    return {"set": part.set, "part": part.name, "level": part.level}


def _draw(
    part: Part, predictions: Predictions, of_test: Predictions, labels: Any, output: Path, methods: list[str]
) -> None:
    """The figures of one part: of the test set and files, and of foreign inputs, these without ensembles of methods."""
    folder = output / part.set
    if labels is None:
        alone = {label: predictions[label] for label in methods}
        draw_foreign(of_test, alone, folder, _TITLES[part.set].split(",")[0])
    elif part.set in ("test", FILE):
        suffix = "" if part.set == "test" else f"_{Path(part.name).stem}"
        draw_reliability(predictions, labels, folder, f"reliability{suffix}")
        draw_risk(predictions, labels, folder, f"risk_coverage{suffix}")


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each method, set and part: means over seeds, and NAME_ci95, half the width of Student's interval.

    An ensemble of a method's seeds is a method of its own, without an interval, as is a single seed.
    """
    table = scores.assign(level=scores["level"].astype(float))
    groups = table.groupby(["method", "set", "part", "level"], sort=False, dropna=False)
    columns: dict[str, Any] = {"runs": groups.size()}
    for name in (name for name in scores if name in NAMES):
        columns |= {name: groups[name].mean(), f"{name}_ci95": groups[name].agg(mean_half_width)}
    return pd.DataFrame(columns).reset_index()


def _write(scores: pd.DataFrame, runs: list[Run], output: Path) -> list[str]:
    write_table(scores, output, "scores")
    write_runs(runs, output)
    means = summary(scores)
    write_table(means, output, "summary")
    records = [{str(name): plain_value(value) for name, value in row.items()} for row in means.to_dict("records")]
    (output / "evaluation.json").write_text(json.dumps(records, indent=1, allow_nan=False) + "\n", "utf-8")
    for name in means["set"].unique():
        rows = means[means["set"] == name]
        (output / name).mkdir(exist_ok=True)
        (output / name / f"{name}.md").write_text(markdown(_shown(rows)) + _legend(rows), "utf-8")
        if rows["level"].notna().any():
            draw_levels(rows, output / name, name)
    paragraphs = [
        "Means over seeds, with half the width of their 95 % interval by Student's t where there are several. "
        "An ensemble is the equal mixture of a method's seeds."
    ]
    titles = {name: _TITLES[name] for name in means["set"].unique()}  # no set that an earlier call left in the folder
    write_page(output, titles, title=EVALUATED, paragraphs=paragraphs)
    return [f"runs: {len(runs)}, sets: {', '.join(means['set'].unique())}, page: {output / 'REPORT.md'}"]


def _columns(rows: pd.DataFrame) -> list[Column]:
    """The columns of a set's table: four of them where a method has levels and kinds."""
    columns = CLASSES if "error" in rows and rows["error"].notna().any() else FOREIGN_COLUMNS
    columns = NUMBERS if "rmse" in rows and rows["rmse"].notna().any() else columns
    several = rows["part"].nunique() > 1 and "error" in rows and rows["error"].notna().any()
    return [column for column in columns if column.name in rows and (not several or column.name in _LEVELS)]


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The set's table as text: mean ± half the interval."""
    table = rows[["method", "runs"]].astype(str)
    if rows["part"].nunique() > 1 or (rows["set"] == "file").any():
        table.insert(1, "on", rows["part"])
    for name in (column.name for column in _columns(rows)):
        table[name] = [with_interval(*pair) for pair in zip(rows[name], rows[f"{name}_ci95"], strict=True)]
    return table


def _legend(rows: pd.DataFrame) -> str:
    return "\n" + "; ".join(f"{column.name}: {column.title}" for column in _columns(rows)) + ".\n"
