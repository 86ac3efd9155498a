"""A search's report: its best run, its trials as a table, and Optuna's own plots, on one page."""

import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
from optuna.trial import TrialState

from bbbrun.report.groups import markdown
from bbbrun.report.page import SEARCH, write_page

_SECTIONS = {"trials": "Trials", "history": "History", "importance": "Importance of each key", "slices": "Each key"}


def write_study_page(study: optuna.Study, output: Path, paragraphs: list[str], objective: str) -> None:
    """Write REPORT.md and report.html of a study into `output`, with trials.csv and a figure in each section.

    paragraphs: the opening of the page. objective: the label of its axes.
    """
    plots = optuna.visualization.matplotlib
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = {
        key for trial in trials for key in trial.params if len({repr(each.params.get(key)) for each in trials}) > 1
    }
    figures: dict[str, Any] = {}
    if trials:
        figures["history"] = lambda: plots.plot_optimization_history(study, target_name=objective)
    if len(trials) > 1 and varied:
        keys = sorted(varied)
        figures["importance"] = lambda: plots.plot_param_importances(study, params=keys, target_name=objective)
        figures["slices"] = lambda: plots.plot_slice(study, params=keys, target_name=objective)
    for name, draw in figures.items():
        (output / name).mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns that its plots are experimental
            try:
                draw()
                for kind in ("png", "svg"):
                    plt.savefig(output / name / f"{name}.{kind}", bbox_inches="tight")
            except (RuntimeError, ValueError):
                if name != "importance":
                    raise
                for path in (output / name).iterdir():  # there is none if all values are equal
                    path.unlink()
            finally:
                plt.close("all")
    (output / "trials").mkdir(parents=True, exist_ok=True)
    table = study.trials_dataframe(attrs=("number", "value", "state", "params", "user_attrs"))
    table.columns = [name.removeprefix("params_").removeprefix("user_attrs_") for name in table.columns]
    table = table.rename(columns={"value": objective}).sort_values(objective, na_position="last")
    table.to_csv(output / "trials" / "trials.csv", index=False, lineterminator="\n")
    (output / "trials" / "trials.md").write_text(markdown(table), "utf-8")
    write_page(output, _SECTIONS, title=SEARCH, paragraphs=paragraphs)
