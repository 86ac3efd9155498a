"""Figure 6 of the paper: cumulative regret on the mushrooms, Bayes by Backprop beside the greedy agents."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.one_network import MaximumLikelihood
from bbbrun.report.groups import NothingToShow, markdown, mean_and_spread, one_setting, write_table
from bbbrun.report.items.pairs import over_pairs, write_pairs
from bbbrun.report.plots import REGRETS, label_of, log_regret, save, seeds_label
from bbbrun.report.published.paper import points
from bbbrun.report.spread import summary_of
from bbbrun.runs.reader import Run

_DIFFERENCES = (
    "The first agent's regret less the second's, over the seeds that both have: on how many it is lower, equal and "
    "higher; the difference with its 95 % interval."
)
_STUCK = 0.5  # of what passing always loses
_AGENTS = {BayesByBackprop.name: BayesByBackprop.label, MaximumLikelihood.name: "greedy"}


def figure6(runs: list[Run], output: Path) -> list[str]:
    """Write figure6.png and .svg, summary.csv and .md, other tables and each run's regret; return messages.

    statistics.csv: `summary_of` the regrets. differences.csv: `over_pairs` of one seed. curves.csv: means by step.

    The runs shown are those with most interactions, at temperature 1. Each agent is shown in one setting, that with
    most seeds.
    """
    candidates = [run for run in runs if run.dataset == "mushroom" and not run.cold]
    if not candidates:
        raise NothingToShow("no finished run of experiment=bandit")
    steps = max(run.config["agent"]["steps"] for run in candidates)
    chosen = one_setting((run for run in candidates if run.config["agent"]["steps"] == steps), agent)
    output.mkdir(parents=True, exist_ok=True)
    summary = pd.DataFrame([summarise(run) for run in chosen])
    summary.to_csv(output / "summary.csv", index=False)
    statistics = summary_of(summary, "agent", "cumulative_regret").merge(
        summary.groupby("agent", as_index=False)["stuck"].sum()
    )
    write_table(statistics, output, "statistics")
    differences = over_pairs(summary.pivot(index="seed", columns="agent", values="cumulative_regret"))
    text = _readable(statistics, steps) + write_pairs(differences, output, "differences", _DIFFERENCES)
    (output / "summary.md").write_text(text, "utf-8")
    tables = []
    for run in chosen:
        table = run.metrics()[["step", *REGRETS]]
        write_table(table, output, f"{agent(run).replace(' ', '_').replace('%', '_percent')}_seed{run.seed}")
        tables.append(table.assign(agent=agent(run), seed=run.seed))
    regrets = pd.concat(tables)
    write_table(mean_and_spread(regrets, ["agent", "step"], list(REGRETS)), output, "curves")
    _draw(regrets, output)
    rest = len(candidates) - len(chosen)
    messages = [f"{rest} runs shorter, older or of other settings: left out"] if rest else []
    return [*messages, f"{len(chosen)} runs of {steps} interactions"]


def agent(run: Run) -> str:
    """The agent's name in tables and figures."""
    epsilon = run.config["agent"]["epsilon"]
    name = _AGENTS.get(run.method, run.method)
    return f"{100 * epsilon:g}% {name}" if epsilon else name


def summarise(run: Run) -> dict[str, Any]:
    """A row of summary.csv: the sums after the last interaction, and the run's provenance."""
    rows = run.metrics()
    last = rows.iloc[-1]
    return {
        "agent": agent(run),
        "seed": run.seed,
        "steps": int(last["step"]),
        **{name: last[name] for name in REGRETS},
        "eaten_edible": int(last["eaten_edible"]),
        "eaten_poisonous": int(last["eaten_poisonous"]),
        "stuck": is_stuck(rows),
        "seconds": run.summary["seconds"],
        "updates_per_second": run.summary["steps_per_second"],
        **run.provenance(),
    }


def is_stuck(rows: pd.DataFrame) -> bool:
    """Whether an agent is stuck: in the last tenth of its rows it loses over half of what always passing loses.

    rows: metrics.csv. Passing loses the oracle's reward: `reward` + `regret`, means over equally many interactions. An
    agent that eats everything loses even more.
    """
    count = max(1, len(rows) // 10)
    late = rows.tail(count)
    interactions = rows["step"].diff().fillna(rows["step"].iloc[0]).tail(count)
    of_passing = float(((late["reward"] + late["regret"]) * interactions).sum())
    before = rows["cumulative_expected_regret"].shift(fill_value=0.0).tail(count).iloc[0]
    return bool(late["cumulative_expected_regret"].iloc[-1] - before > _STUCK * of_passing)


def _readable(statistics: pd.DataFrame, steps: int) -> str:
    """The table for readers: regret, in units of reward."""
    rows = statistics.to_dict("records")
    # One run gives none.
    mean_interval = [f" ± {row['mean_95']:,.0f}" if row["runs"] > 1 else "" for row in rows]
    iqm_interval = [f" ({row['iqm_low']:,.0f} to {row['iqm_high']:,.0f})" if row["runs"] > 1 else "" for row in rows]
    table = pd.DataFrame(
        {
            "agent": statistics["agent"],
            "runs": statistics["runs"],
            "stuck": statistics["stuck"],
            f"regret after {steps:,}: mean (95 %)": statistics["mean"].map("{:,.0f}".format) + mean_interval,
            "median": statistics["median"].map("{:,.0f}".format),
            "interquartile mean (95 %)": statistics["iqm"].map("{:,.0f}".format) + iqm_interval,
        }
    )
    return markdown(table)


def _draw(table: pd.DataFrame, output: Path) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), REGRETS, strict=True):
        _panel(axes, table, column)
        axes.set(xlabel=label_of("step"), ylabel=label_of(column))
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3)
    save(figure, output, "figure6")


def _panel(axes: Axes, table: pd.DataFrame, column: str) -> None:
    for name, rows in table.groupby("agent"):
        regret = rows.groupby("step")[column]
        mean = regret.mean()
        (line,) = axes.plot(mean.index, mean, label=f"{name}, mean of {seeds_label(regret.count().max())}")
        # A line per seed: one agent that is stuck would widen a band of deviations over all others.
        for _, of_seed in rows.groupby("seed"):
            axes.plot(of_seed["step"], of_seed[column], color=line.get_color(), linewidth=0.6, alpha=0.5)
        paper = points("figure6", str(name))
        paper = paper[paper.index <= mean.index.max()]
        axes.plot(paper.index, paper, "o", color=line.get_color(), alpha=0.5)
    axes.plot([], [], "o", color="grey", alpha=0.5, label="the paper's, mean of 5 runs")
    log_regret(axes, table[[column]])
    axes.grid(alpha=0.3, which="both")
