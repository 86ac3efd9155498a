"""Figure 6 of the paper: cumulative regret on the mushrooms, Bayes by Backprop beside the greedy agents."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bbbrun.bayes.methods import BayesByBackprop, MaximumLikelihood
from bbbrun.report.by import markdown, mean_and_spread
from bbbrun.report.plots import log_regret, save
from bbbrun.runs.reader import NothingToShow, Run, one_setting

_AGENTS = {BayesByBackprop.name: BayesByBackprop.label, MaximumLikelihood.name: "greedy"}
_REGRETS = {"cumulative_regret": "cumulative regret", "cumulative_expected_regret": "cumulative expected regret"}


def figure6(runs: list[Run], output: Path) -> list[str]:
    """Write figure6.png and .svg, summary.csv, curves.csv and each run's regret into `output`; return what to say.

    Only runs of the greatest number of interactions are shown together, at temperature 1, an agent in one setting: that
    of most seeds.
    """
    candidates = [run for run in runs if run.dataset == "mushroom" and not run.cold]
    if not candidates:
        raise NothingToShow("no finished run of experiment=bandit")
    steps = max(run.config["agent"]["steps"] for run in candidates)
    chosen = one_setting((run for run in candidates if run.config["agent"]["steps"] == steps), agent)
    output.mkdir(parents=True, exist_ok=True)
    summary = pd.DataFrame([summarise(run) for run in chosen])
    summary.to_csv(output / "summary.csv", index=False)
    shown = mean_and_spread(summary, ["agent"], [*_REGRETS, "eaten_edible", "eaten_poisonous", "seconds"])
    (output / "summary.md").write_text(markdown(shown))
    tables = []
    for run in chosen:
        table = run.metrics()[["step", *_REGRETS]]
        name = f"{agent(run).replace(' ', '_').replace('%', '_percent')}_seed{run.seed}.csv"
        table.to_csv(output / name, index=False, float_format="%.6g")
        tables.append(table.assign(agent=agent(run), seed=run.seed))
    curves = mean_and_spread(pd.concat(tables), ["agent", "step"], list(_REGRETS))
    curves.to_csv(output / "curves.csv", index=False, float_format="%.6g")
    _draw(pd.concat(tables), output)
    left_out = len(candidates) - len(chosen)
    said = [f"{left_out} runs shorter, older or of other settings: left out"] if left_out else []
    return [*said, f"{len(chosen)} runs of {steps} interactions"]


def agent(run: Run) -> str:
    """The agent's name in tables and figures."""
    epsilon = run.config["agent"]["epsilon"]
    name = _AGENTS.get(run.method, run.method)
    return f"{100 * epsilon:g}% {name}" if epsilon else name


def summarise(run: Run) -> dict[str, Any]:
    """A row of summary.csv: the sums at the end, and where they come from."""
    last = run.metrics().iloc[-1]
    return {
        "agent": agent(run),
        "seed": run.seed,
        "steps": int(last["step"]),
        **{name: last[name] for name in _REGRETS},
        "eaten_edible": int(last["eaten_edible"]),
        "eaten_poisonous": int(last["eaten_poisonous"]),
        "seconds": run.summary["seconds"],
        "updates_per_second": run.summary["steps_per_second"],
        **run.provenance(),
    }


def _draw(table: pd.DataFrame, output: Path) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (column, label) in zip(figure.subplots(1, 2, sharey=True), _REGRETS.items(), strict=True):
        _panel(axes, table, column)
        axes.set(xlabel="interaction", ylabel=label)
    save(figure, output, "figure6")


def _panel(axes: Axes, table: pd.DataFrame, column: str) -> None:
    for name, rows in table.groupby("agent"):
        regret = rows.groupby("step")[column]
        mean, count = regret.mean(), regret.count().max()
        (line,) = axes.plot(mean.index, mean, label=f"{name}, {count} seed{'s' if count > 1 else ''}")
        # Each seed, not a band: one agent that is stuck would make it cover all that the others do.
        for _, of_seed in rows.groupby("seed"):
            axes.plot(of_seed["step"], of_seed[column], color=line.get_color(), linewidth=0.6, alpha=0.5)
    log_regret(axes, table[[column]])
    axes.grid(alpha=0.3, which="both")
    axes.legend()
