"""The README's tables, made from results/paper, so that no number is typed: `python -m bbbrun.report.readme`."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bbbrun.report.items.cells import METHODS
from bbbrun.report.judge import ITEMS, judge, of_paper
from bbbrun.report.opening import near
from bbbrun.report.plots import seeds_label
from bbbrun.report.published.paper import claims, published
from bbbrun.report.sections import hours
from bbbrun.report.spread import least_to_most

_SIZES = (400, 800, 1200)
_REMOVED = (0, 50, 75, 95, 98)
_AGENTS = ("Bayes by Backprop", "greedy", "1% greedy", "5% greedy")
_STEPS = 50_000

# Items of the paper, and the words of --only that train and draw them.
_COSTS = {
    "Table 1 (and a tempered row that is not the paper's)": ("table1",),
    "Table 2, Figures 2 to 4": ("table2", "figure2", "figure3", "figure4"),
    "Figure 5": ("figure5",),
    "Figure 6": ("figure6",),
}


def results_table(folder: Path) -> str:
    """Ours beside the paper's numbers with the check's verdict, and each miss in words, as Markdown.

    folder: a report, such as results/paper. Errors in percent, regret in units of reward; means over seeds.
    Raises KeyError or OSError where the report lacks one of the paper's numbers.
    """
    verdicts = judge(folder, ITEMS, claims().to_dict("records"))
    table1 = pd.read_csv(folder / "table1" / "table1.csv")
    table1 = table1[table1["temperature"] == 1].set_index(["method", "units"])
    table2 = of_paper(pd.read_csv(folder / "table2" / "table2.csv")).set_index("removed")
    regret = pd.read_csv(folder / "figure6" / "statistics.csv").set_index("agent")

    def row(label: str, ours: list[str], item: str, name: str, columns: tuple[int, ...], style: str) -> str:
        paper = [format(published(item, name, column), style) for column in columns]
        return f"| {label} | {' / '.join(ours)} | {' / '.join(paper)} | {_verdict(verdicts, item, name)} |"

    def errors(method: str) -> list[str]:
        return [f"{table1['error'][method, size]:.2f}" for size in _SIZES]

    seeds = [least_to_most(table1["seeds"].xs(size, level="units")) for size in _SIZES]
    seeds = seeds[:1] if len(set(seeds)) == 1 else seeds
    alike = seeds_label(int(table2["runs"].min()))
    title1 = f"Table 1: test error, %, {_joined(_SIZES)} units, means over {' / '.join(seeds)} seeds"
    title2 = f"Table 2: the same, {_joined(_REMOVED)} % of weights removed, means over {alike}"
    title6 = f"Figure 6: mean regret after {_STEPS:,} interactions ({least_to_most(regret['runs'])} seeds)"
    pruned = [f"{table2['error'][removed]:.2f}" for removed in _REMOVED]
    mixture = METHODS[-1]
    lines = [
        "| | ours | paper | verdict |",
        "|---|---|---|---|",
        f"| **{title1}** | | | |",
        *(row(method, errors(method), "table1", method, _SIZES, ".2f") for method in METHODS),
        f"| **{title2}** | | | |",
        row(mixture, pruned, "table2", "removed", _REMOVED, ".2f"),
        f"| **{title6}** | | | |",
        *(row(agent, [_regret(regret, agent)], "figure6", agent, (_STEPS,), ",.0f") for agent in _AGENTS),
        "",
        f"{_numbers(verdicts)} {_orders(verdicts)}",
    ]
    return "\n".join(lines)


def cost_table(folder: Path) -> str:
    """The time of each item's recorded runs, hours of one core and of a GPU, and its folder, as Markdown."""
    lines = ["| | command | core hours | GPU hours | in `results/paper` |", "|---|---|---|---|---|"]
    for title, items in _COSTS.items():
        runs = pd.concat([pd.read_csv(_runs(folder / item)) for item in items]).drop_duplicates(["command", "commit"])
        places = ", ".join(f"`{item}/`" for item in items)
        cores = runs["device"].str.startswith("cpu")
        spent = " | ".join(f"{hours(part):.2g}" if len(part) else "" for part in (runs[cores], runs[~cores]))
        lines.append(f"| {title} | `bbbrun reproduce --only {','.join(items)}` | {spent} | {places} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Path], str]] = {"results": results_table, "costs": cost_table}  # by name of their markers


def between(text: str, name: str) -> str:
    """The text between the lines `<!-- name -->` and `<!-- /name -->`; raises ValueError where they are missing."""
    return _parts(text, name)[1]


def renewed(text: str, folder: Path) -> str:
    """The README `text` with each of TABLES made anew from the report in `folder`."""
    for name, table in TABLES.items():
        before, _, after = _parts(text, name)
        text = f"{before}{table(folder)}\n{after}"
    return text


def _parts(text: str, name: str) -> tuple[str, str, str]:
    """The text before, between and after the markers, which stay with the first and the last part."""
    parts = re.fullmatch(f"(.*^<!-- {name} -->\n)(.*?)(^<!-- /{name} -->$.*)", text, re.DOTALL | re.MULTILINE)
    if not parts:
        raise ValueError(f"no lines <!-- {name} --> and <!-- /{name} -->")
    return parts[1], parts[2], parts[3]


def _runs(item: Path) -> Path:
    """The file of a table or figure that names its runs."""
    return next(path for path in (item / "runs.csv", item / "summary.csv") if path.is_file())


def _numbers(verdicts: pd.DataFrame) -> str:
    """How many of the paper's numbers ours meets, and which of these it does not come near but undercuts."""
    numbers = verdicts[verdicts["published"].notna()]
    met = numbers["verdict"] == "pass"
    lower = numbers[met & ~near(numbers)]
    text = f"{met.sum()} of {len(numbers)} numbers are met"
    if lower.empty:
        return f"{text}."
    return f"{text}; of these {len(lower)} are lower by more than the tolerance ({'; '.join(lower['row'].unique())})."


def _orders(verdicts: pd.DataFrame) -> str:
    """How many of the paper's orders, two methods at one size or two agents, ours keeps."""
    orders = verdicts[verdicts["published"].isna()]
    shares = [
        f"{(orders['verdict'][orders['item'] == item] == 'pass').sum()} of {(orders['item'] == item).sum()} in {title}"
        for item, title in (("table1", "Table 1"), ("figure6", "Figure 6"))
    ]
    text = f"Of the paper's orders of two rows our means keep {' and '.join(shares)}."
    if (orders["verdict"] == "pass").all():
        return text
    return f"{text} [results/paper](results/paper/README.md) names the others, and what Figures 2, 4 and 5 lack."


def _verdict(verdicts: pd.DataFrame, item: str, name: str) -> str:
    """pass if all columns of a row pass, else the columns that do not."""
    rows = verdicts[(verdicts["item"] == item) & (verdicts["row"] == name)]
    # The orders have a sentence of their own.
    rows = rows[rows["published"].notna()]
    if (rows["verdict"] == "pass").all():
        return "pass"
    if len(rows) == 1:
        return str(rows["verdict"].iloc[0])
    failed = [f"{row['verdict']} at {row['column']}" for _, row in rows.iterrows() if row["verdict"] != "pass"]
    return "pass, " + ", ".join(failed)


def _regret(regret: pd.DataFrame, agent: str) -> str:
    mean, half, median = (float(regret[name][agent]) for name in ("mean", "mean_95", "median"))
    stuck = f", {regret['stuck'][agent]} stuck" if regret["stuck"][agent] else ""
    return f"{mean:,.0f} ± {half:,.0f}{stuck} (median {median:,.0f})"


def _joined(numbers: tuple[int, ...]) -> str:
    return " / ".join(map(str, numbers))


if __name__ == "__main__":
    readme = Path("README.md")
    readme.write_text(renewed(readme.read_text("utf-8"), Path("results/paper")), "utf-8")
