"""The README: its tables are those of the records, its commands compose, its example runs, its links lead somewhere."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from scipy import stats

from bbbrun.report.items.cells import cells
from bbbrun.report.items.pairs import crossed, wrong_images
from bbbrun.report.judge import judge
from bbbrun.report.published.paper import claims
from bbbrun.report.readme import TABLES, between, renewed
from bbbrun.report.spread import mean_half_width
from bbbrun.runs.reader import Run, finished_runs
from bbbrun.schema.config import OPTIONS, composed
from bbbrun.verbs import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAPER = ROOT / "results" / "paper"
SETTINGS = ROOT / "results" / "sweep" / "bandit"
NOT_OURS = (".venv", ".pytest_cache")
PAGES = [path for path in ROOT.rglob("*.md") if not path.relative_to(ROOT).parts[0].startswith(NOT_OURS)]
PLACEHOLDERS = {"resume", "hydra/launcher", "hydra.launcher.n_jobs"}  # resume names a folder; joblib is an extra


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 125


@pytest.mark.parametrize("name", TABLES)
def test_its_tables_are_those_of_the_records(name: str) -> None:
    assert between(README, name) == TABLES[name](PAPER) + "\n"


def test_a_number_of_another_report_is_renewed(tmp_path: Path) -> None:
    """Tables are made anew from the report, and the text around them stays."""
    text = "before\n<!-- costs -->\nzzz\n<!-- /costs -->\nbetween\n<!-- results -->\n<!-- /results -->\nafter\n"
    made = renewed(text, PAPER)
    assert made.startswith("before\n<!-- costs -->\n| ")
    assert made.endswith("|\n<!-- /results -->\nafter\n") or made.endswith(".\n<!-- /results -->\nafter\n")
    assert "zzz" not in made
    with pytest.raises(ValueError, match="<!-- results -->"):
        renewed("<!-- costs -->\n<!-- /costs -->\n", PAPER)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `bbbrun` or `scripts/run` line in the indented blocks and of each one in backticks."""
    blocks = re.findall(r"^    (?:bbbrun|scripts/run)( .*)$", text, re.MULTILINE)
    inline = re.findall(r"`bbbrun( [^`]*)`", text)
    for line in (*blocks, *inline):
        words = shlex.split(line, comments=True)
        if words and words[0] not in ("WORDS", "--help", "--version"):
            yield words


def each_job(words: list[str]) -> Iterator[list[str]]:
    """The words of each job of a sweep, or those of a single run."""
    values = []
    for override in OverridesParser.create().parse_overrides([word for word in words if word != "-m"]):
        if override.key_or_group in PLACEHOLDERS:
            continue
        elements = (
            override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
        )
        values.append([f"{override.get_key_element()}={element}" for element in elements])
    yield from (list(job) for job in itertools.product(*values))


@pytest.mark.parametrize("words", list(commands(README)), ids=" ".join)
def test_its_commands_are_understood(words: list[str]) -> None:
    if words[0] not in VERBS:
        for job in each_job(words):
            OmegaConf.to_object(composed(job))
        return
    usage = help_of(words[0])
    for word in words[1:]:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}\b", usage), f"{words[0]} knows no {word}"


def test_the_experiments_it_names_are_there() -> None:
    names = set(re.findall(r"\b(?:mnist|regression|bandit|wheel)_[a-z]+\b", README))
    assert names >= {"mnist_gaussian", "mnist_dropout", "mnist_mle", "mnist_tempered", "regression_mle"}
    missing = [name for name in names if not (ROOT / "configs" / "experiment" / f"{name}.yaml").is_file()]
    assert not missing


@pytest.mark.parametrize("group", OPTIONS)
def test_the_page_of_the_configurations_lists_every_option(group: str) -> None:
    page = (ROOT / "configs" / "README.md").read_text()
    (row,) = re.findall(rf"^\| `{group}` \| (.*?) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(OPTIONS[group])


@cache
def help_of(verb: str) -> str:
    """What `bbbrun VERB --help` prints."""
    command = [sys.executable, "-m", "bbbrun", verb, "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert verb in result.stdout
    return result.stdout


@pytest.mark.slow
def test_its_example_runs(tmp_path: Path) -> None:
    """In a folder of its own, as a script; what it leaves and prints is a trained network's."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    checks = (
        "\nassert probabilities.shape == (200, 2)"
        "\nassert (probabilities.sum(dim=1) - 1).abs().max() < 1e-5"
        "\nassert (probabilities.argmax(dim=1) == y).float().mean() > 0.8"
    )
    command = [sys.executable, "-W", "error", "-c", example + checks]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    error, complexity = map(float, result.stdout.split()[-2:])
    assert 0 <= error < 50
    assert complexity > 0
    assert (tmp_path / "results" / "runs" / "mine" / "summary.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page: Path) -> None:
    """Relative links and pictures of every page, and each path below bbbrun/, configs/ or tests/ that one names."""
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    named = re.findall(r"`((?:bbbrun|configs|tests|scripts|results/paper|results/sweep)/[\w./-]*)`", text)
    missing += [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_its_prose_begins_with_a_plus(page: Path) -> None:
    """Markdown would take the rest of a wrapped formula for an item of a list."""
    assert not re.findall(r"^ *\+ .*", page.read_text(), re.MULTILINE)


def test_its_tree_and_its_files_are_there() -> None:
    folders = re.findall(r"^    (bbbrun/\w+) ", README, re.MULTILINE)
    assert len(folders) == 10
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", README)
    assert len(files) >= 5
    missing = [name for name in (*folders, *(f"bbbrun/{file}" for file in files)) if not (ROOT / name).exists()]
    assert not missing


def regret_curves(agent: str) -> pd.DataFrame:
    """The cumulative regrets of one agent of Figure 6: a row for each interaction recorded, a column for each seed."""
    files = (PAPER / "figure6").glob(f"{agent}_seed*.csv")
    curves = {int(file.stem.rpartition("seed")[2]): pd.read_csv(file, index_col="step") for file in files}
    return pd.DataFrame({seed: curves[seed]["cumulative_regret"] for seed in sorted(curves)})


def text_of(path: Path) -> str:
    """The text of a page with all its white space single."""
    return " ".join(path.read_text().split())


DECIDING = [12, 16, 19]  # the seeds of greedy that lose much


def test_the_page_tells_which_greedy_agents_decide_their_mean() -> None:
    text = text_of(PAPER / "README.md")
    greedy = regret_curves("greedy").loc[50_000].astype(int)
    assert list(greedy.index) == list(range(20))
    assert list(greedy.index[greedy > 10_000]) == DECIDING
    others = greedy.drop(DECIDING)
    found = finished_runs([PAPER / "runs" / "bandit_greedy"])
    runs = {run.seed: run.metrics().set_index("step") for run in found if run.config["agent"]["epsilon"] == 0}
    last = pd.DataFrame({seed: run.loc[50_000] for seed, run in runs.items()})
    assert last.loc["eaten_edible", [16, 19]].tolist() == [0, 0]
    # The oracle gets 5 for each edible mushroom that was met.
    met = (last.loc["cumulative_regret", 12] + 100 * runs[12]["reward"].sum()) / 5
    early = pd.Series({seed: run.loc[1_000, "eaten_edible"] for seed, run in runs.items()}).drop([16, 19])
    rows = pd.read_csv(PAPER / "figure6" / "statistics.csv").set_index("agent")
    row = rows.loc["greedy"]
    for sentence in (
        f"Ours ends at {row['mean']:,.0f} ± {row['mean_95']:,.0f} by the mean, above 1 % greedy.",
        f"The agents of 16 and 19 eat {last.loc['eaten_poisonous', 16]:.0f} and {last.loc['eaten_poisonous', 19]:.0f} "
        f"mushrooms, all poisonous, and then no more (regrets of {greedy[16]:,} and {greedy[19]:,}); that of 12 eats "
        f"{100 * last.loc['eaten_edible', 12] / met:.0f} % of the edible ones to the end ({greedy[12]:,}).",
        f"The other {len(others)} have {others.mean():,.0f} in the mean.",
        f"is {row['iqm']:,.0f} (95 % interval {row['iqm_low']:,.0f} to {row['iqm_high']:,.0f}).",
        f"but for seeds 16 and 19: {early.min():.0f} to {early.max():.0f} edible mushrooms in the first 1,000.",
        f"so do {(greedy < 8_100).sum()} of the 20 agents of greedy,",
    ):
        assert sentence in text, sentence
    pairs = pd.read_csv(PAPER / "figure6" / "differences.csv").set_index(["method", "other"])
    of_greedy = pairs.loc[["greedy" in pair for pair in pairs.index]]
    assert set(of_greedy["compared"]) == {"same within error"}
    assert rows.loc["1% greedy", "iqm_low"] < row["iqm_high"] < rows.loc["5% greedy", "iqm_low"]
    one, five = (f"{rows.loc[agent, 'iqm']:,.0f}" for agent in ("1% greedy", "5% greedy"))
    below = [pairs.loc[(agent, "greedy"), "higher"] for agent in ("1% greedy", "5% greedy")]
    assert below[0] == below[1]
    assert f"below 1 % and 5 % greedy's, {one} and {five}; its interval, given below, reaches that of 1 %" in text
    assert f"It is lower in {below[0]} of the 20 pairs with each." in text


def test_the_page_compares_bayes_by_backprop_with_greedy() -> None:
    text = text_of(PAPER / "README.md")
    greedy, bayes = (regret_curves(agent).loc[50_000] for agent in ("greedy", "Bayes_by_Backprop"))
    rows = pd.read_csv(PAPER / "figure6" / "statistics.csv").set_index("agent")
    both = [
        f"({rows.loc['Bayes by Backprop', name]:,.0f} against {rows.loc['greedy', name]:,.0f})"
        for name in ("mean", "median", "iqm")
    ]
    ours, theirs = rows.loc["Bayes by Backprop"], rows.loc["greedy"]
    assert theirs["iqm_low"] < ours["iqm_low"] < ours["iqm_high"] < theirs["iqm_high"]
    more = (bayes - greedy).drop(DECIDING)
    again = pd.read_csv(SETTINGS / "more" / "by" / "by.csv").query("`agent.steps` == 5000").set_index("seed")
    assert (list(again.index.sort_values()), again["eaten_edible"].min() > 2_000) == (list(range(10)), True)
    before = regret_curves("greedy").loc[5_000][:10]
    for sentence in (
        f"Ours does by the mean {both[0]}, the median {both[1]} and the interquartile mean {both[2]}.",
        f"mean, {ours['iqm_low']:,.0f} to {ours['iqm_high']:,.0f}, lies within greedy's.",
        f"Bayes by Backprop was above ({bayes.mean():,.0f} against {greedy[:10].mean():,.0f}).",
        f"Over the {len(more)} pairs without seeds 12, 16 and 19,",
        f"it loses {more.mean():,.0f} more, ± {mean_half_width(more):,.0f}.",
        f"is {bayes.std():,.0f}, greedy's {greedy.std():,.0f}, and {greedy.drop(DECIDING).std():,.0f} without",
        f"regret is {again['cumulative_regret'].mean():,.0f} in the mean, where it was {before.mean():,.0f} ",
        f"A single seed moves by up to {(again['cumulative_regret'] - before).abs().max():,.0f}.",
    ):
        assert sentence in text, sentence


def test_the_page_has_the_regrets_and_hours_of_all_agents() -> None:
    text = text_of(PAPER / "README.md")
    agents = {"Bayes by Backprop": "Bayes_by_Backprop", "greedy": "greedy"}
    for row, agent in (agents | {"1 % greedy": "1_percent_greedy", "5 % greedy": "5_percent_greedy"}).items():
        regrets = regret_curves(agent).loc[50_000]
        assert f"| {row} | {', '.join(f'{regret:,.0f}' for regret in regrets)} | {regrets.mean():,.0f} |" in text
    shown = finished_runs([PAPER / "runs" / name for name in ("bandit", "bandit_greedy")])
    hours = sum(run.summary["seconds"] for run in shown) / 3600
    assert f"All {len(shown)} runs took {hours:.1f} hours of one core" in text
    ten = [regret_curves(agent).loc[50_000][:10] for agent in ("greedy", "1_percent_greedy", "5_percent_greedy")]
    first, second, third = (f"{regrets.mean():,.0f} ± {mean_half_width(regrets):,.0f}" for regrets in ten)
    assert f"until 30 November: {first}, {second} and {third}." in text_of(PAPER / "choices.md")


def test_the_trials_of_one_other_setting_of_the_bandit_are_the_records() -> None:
    text = text_of(SETTINGS / "README.md")
    trials = pd.read_csv(SETTINGS / "others" / "by" / "by.csv")
    changed = {
        "pi 1/4": "`prior.pi` == 0.25",
        "pi 3/4": "`prior.pi` == 0.75",
        "sigma2 = e^-7": "0.0009 < `prior.sigma2` < 0.001",
        "sigma2 = e^-8": "`prior.sigma2` < 0.0009",
        "complexity weighted as in the paper, section 3.4": "`method.minibatch_weights` == 'paper'",
        "starting weights half as wide": "`network.init_scale` == 0.5",
        "local reparameterisation": "`method.estimator` == 'local'",
        "beta2 0.99": "`optimizer.beta2` == 0.99",
    }
    for name, query in changed.items():
        regrets = trials.query(query).set_index("seed")["cumulative_regret"]
        four = regrets[[100, 101, 102, 103]]
        assert four.mean() > 2_524
        # Half a point goes up here, as a reader rounds.
        cells = f"4 | {int(four.mean() + 0.5):,}"
        if 107 in regrets:
            cells = f"4, and 107 | {int(four.mean() + 0.5):,}, and {regrets[107]:,}"
        assert f"| {name} | {cells} |" in text
    sgd = trials.query("optimizer == 'sgd'").set_index("seed")["cumulative_regret"]
    assert f"at 1e-4 these have {sgd[101]:,} and {sgd[107]:,}." in text


def test_what_forty_more_seeds_of_the_bandit_show_is_in_their_records() -> None:
    text = text_of(SETTINGS / "README.md")
    runs = pd.read_csv(SETTINGS / "more" / "by" / "by.csv").query("`agent.steps` == 1500")
    keys = ["method", "optimizer.decay_epochs"]
    stopped = runs.query("eaten_edible == 0").groupby(keys)["seed"].apply(sorted).to_dict()
    assert stopped == {("mle", 300): [117, 127, 131], ("mle", 1000): [112, 131]}
    assert (
        "three of the 40 eat no edible mushroom, 117, 127 and 131; at 3e-3 / (1 + t / 1000) two, 112 and 131." in text
    )
    table = runs.pivot(index="seed", columns=keys, values="cumulative_regret")
    assert list(table.index) == list(range(110, 150))
    bayes, greedy, slower = table["bbb", 300], table["mle", 300], table["mle", 1000]
    assert f"{bayes.mean():,.0f} in the mean, greedy's {greedy.mean():,.0f} and {slower.mean():,.0f}:" in text
    more, much, less = (
        f"{pairs.mean():.0f} ± {mean_half_width(pairs):.0f}"
        for pairs in (bayes - greedy, bayes - slower, slower - greedy)
    )
    assert f"Bayes by Backprop has {more} and {much} more over the pairs." in text
    assert f"not told apart ({less})." in text
    eaten = runs.query("method == 'mle' and `optimizer.decay_epochs` == 300").set_index("seed")["eaten_edible"]
    eaten = eaten[eaten > 0].sort_values()
    assert eaten.index[0] == 133
    assert (
        f"133, eats a part alone, {eaten.iloc[0]} edible ones; of those that eat the next has {eaten.iloc[1]}." in text
    )
    paper = text_of(PAPER / "README.md")
    assert f"after 1,500 interactions, Bayes by Backprop has {more} more, though three greedy agents" in paper
    shown = (regret_curves("Bayes_by_Backprop") - regret_curves("greedy")).loc[1_500]
    assert (
        f"On Figure 6's twenty seeds it has {shown.mean():.0f} ± {mean_half_width(shown):.0f} more after 1,500."
        in paper
    )


def test_what_results_paper_says_of_misses_is_what_the_records_say() -> None:
    """Sentences on orders, Figure 3's axis, Figure 6's growth and better cells, each from the table it speaks of."""
    text = text_of(PAPER / "README.md")
    runs = pd.read_csv(PAPER / "table1" / "runs.csv").query("temperature == 1")
    errors = runs.pivot(index=["units", "seed"], columns="method", values="test_error")
    lost = (errors["Bayes by Backprop, scale mixture"] - errors["SGD, dropout"]).dropna()
    assert f"has the higher error in {(lost > 0).sum()} of {len(lost)} pairs" in text
    for units, differences in lost.groupby("units"):
        assert re.search(rf"{differences.mean():.2f}( points)? at {units}", text)

    drawn = runs[runs["method"].str.startswith("Bayes")]
    gain = drawn["test_error_mean"] - drawn["test_error"]
    gains = gain.groupby(drawn["method"]).agg(["mean", "sem", "size"])
    assert gains["size"].tolist() == [9, 9]
    (gaussian, gaussian_half), (mixture, mixture_half) = zip(
        gains["mean"], gains["sem"] * stats.t.ppf(0.975, 8), strict=True
    )
    assert f"{mixture:.2f} ± {mixture_half:.2f} points below that with w = mu" in text
    mixtures = gain[drawn["method"] == "Bayes by Backprop, scale mixture"]
    small, middle, large = mixtures.groupby(drawn["units"]).mean()
    assert (mixtures < 0).groupby(drawn["units"]).sum().tolist() == [0, 0, 1]
    by_size = f"{small:.2f} at 400 units, {middle:.2f} at 800, {large:.2f} at 1200, where one of three seeds has the"
    assert by_size in text
    halves = {}
    for name, least in (("mnist_gaussian", -1.0), ("mnist", 0.0)):
        shown = [
            run for run in finished_runs([PAPER / "runs" / name]) if run.config["method"].get("final_samples") == 1000
        ]
        metrics = [run.summary["metrics"] for run in shown]
        valid = pd.Series([each["valid_error_mean"] - each["valid_error"] for each in metrics])
        assert len(valid) == 9
        assert valid.min() > least
        halves[name] = f"{valid.mean():.2f} ± {valid.sem() * stats.t.ppf(0.975, 8):.2f}"
    assert f"{by_size} opposite; on validation images {halves['mnist']}, in all nine" in text
    below = f"{gaussian:.2f} ± {gaussian_half:.2f}"
    assert f"Of the Gaussian prior it is {below} below, on validation images {halves['mnist_gaussian']}" in text

    cells = pd.read_csv(PAPER / "table1" / "table1.csv")
    ours = cells[cells["method"].str.endswith("scale mixture")].pivot(index="units", columns="temperature")
    mixed = [run for name in ("mnist", "mnist_tempered") for run in finished_runs([PAPER / "runs" / name])]
    scores = pd.DataFrame(
        [
            {
                "units": run.config["network"]["hidden"][0],
                "seed": run.seed,
                "temperature": run.config["method"]["temperature"],
                **run.summary["metrics"],
            }
            for run in mixed
            if run.method == "bbb" and run.config["prior"]["name"] == "scale_mixture"
        ]
    )

    def less(column: str) -> list[tuple[float, float]]:
        """The tempered network's less the other's at each size: means with half of their intervals over seeds."""
        values = scores.pivot(index=["units", "seed"], columns="temperature", values=column)
        by_units = (values[0.05] - values[1.0]).groupby("units")
        assert by_units.size().tolist() == [3, 3, 3]
        return list(zip(by_units.mean(), by_units.sem() * stats.t.ppf(0.975, 2), strict=True))

    surprise = {
        (run.config["method"]["temperature"], run.config["network"]["hidden"][0], run.seed): -np.log(
            run.predictions()["probability"].clip(lower=np.finfo(np.float32).tiny).to_numpy(float)
        )
        for run in mixed
        if run.method == "bbb" and run.config["prior"]["name"] == "scale_mixture"
    }
    assert len(surprise) == 18
    nll, ece = ours["nll"], ours["ece"]
    points = [surprise[0.05, units, seed] - surprise[1.0, units, seed] for units in nll.index for seed in range(3)]
    more = [crossed(np.stack(each)) for each in (points[:3], points[3:6], points[6:], points)]
    assert [difference.value > difference.half for difference in more] == [False, False, True, True]
    differences = [f"{difference.value:.3f} ± {difference.half:.3f}" for difference in more]
    both = [f"({nll[0.05][units]:.3f} against {nll[1.0][units]:.3f})" for units in nll.index]
    said = f"Its nll is higher by {differences[0]} nats at 400 units {both[0]}, {differences[1]} at 800 {both[1]} and"
    assert f"{said} {differences[2]} at 1200 {both[2]}, over the nine pairs by {differences[3]}: told apart at" in text
    eces = [f"{ece[0.05][units]:.2f} against {ece[1.0][units]:.2f}" for units in ece.index]
    (small, small_half), (middle, middle_half), (large, large_half) = less("test_ece")
    assert abs(large) < large_half
    lower = (
        f"lower by {-small:.2f} ± {small_half:.2f} points at 400 ({eces[0]} %) and {-middle:.2f} ± {middle_half:.2f}"
    )
    assert f"{lower} at 800 ({eces[1]}), over three seeds alone" in text
    assert f"At 1200 the two are not ({eces[2]})." in text
    excess = -cells["difference_in_standard_errors"]
    better = cells[excess > 2]
    assert better["method"].unique().tolist() == ["Bayes by Backprop, Gaussian"]
    assert better["units"].tolist() == [400, 800, 1200]
    one, two, three = excess[better.index]
    cells_of = "three of the twelve cells of Table 1 lie further off on the better side, the Gaussian prior's,"
    assert f"{cells_of} by {one:.1f}, {two:.1f} and {three:.1f} standard errors" in text
    least = runs.query("method == 'SGD' and units == 1200").sort_values("seed")["test_error"]
    assert (
        f"our three networks end at {', '.join(f'{value:.2f}' for value in least[:2])} and {least.iloc[2]:.2f}" in text
    )

    orders = judge(PAPER, ["table1"], claims().to_dict("records")).query("published.isna()")
    assert len(orders) == 18
    apart = orders[orders["compared"].isin(["better", "worse"])]
    names = {"SGD, dropout": "dropout", "Bayes by Backprop, scale mixture": "mixture"}
    names |= {"Bayes by Backprop, Gaussian": "Gaussian"}
    told = [
        (names.get(row.row, row.row), row.column, names.get(row.expected[6:], row.expected[6:]), row.compared)
        for row in apart.itertuples()
    ]
    assert told == [
        ("dropout", 400, "SGD", "better"),
        ("Gaussian", 400, "SGD", "better"),
        ("mixture", 400, "SGD", "better"),
        ("mixture", 400, "Gaussian", "worse"),
        ("SGD", 800, "Gaussian", "worse"),
        ("dropout", 800, "SGD", "better"),
        ("mixture", 800, "SGD", "better"),
        ("SGD", 1200, "Gaussian", "worse"),
        ("dropout", 1200, "SGD", "better"),
        ("mixture", 1200, "SGD", "better"),
    ]
    assert f"the check tells {len(apart)} of 18 apart:" in text

    table = PAPER / "table1"
    by_pairs = pd.read_csv(table / "differences.csv").set_index(["method", "other"])
    assert (by_pairs["pairs"] == 9).all()
    assert (by_pairs["images"] == 10_000).all()
    by_size = pd.read_csv(table / "paired.csv").set_index(["units", "method", "other"])
    short = {"SGD": "SGD", "dropout": "SGD, dropout"}
    short |= {
        name: f"Bayes by Backprop, {long}"
        for name, long in (
            ("mixture", "scale mixture"),
            ("Gaussian", "Gaussian"),
            ("tempered", "scale mixture, temperature 0.05"),
        )
    }

    def difference(one: str, other: str, units: int | None = None) -> tuple[str, bool]:
        """One row's error less the other's with its interval, at one size or over all, and whether it excludes 0."""
        found = by_size.loc[units] if units else by_pairs
        pair = (short[one], short[other])
        sign = 1 if pair in found.index else -1
        row = found.loc[pair[::sign]]
        return f"{sign * row['difference']:z.2f} ± {row['half']:.2f}", row["compared"] in ("better", "worse")

    said = re.findall(r"(\w+) less (\w+) (-?\d\.\d+ ± \d\.\d+)", text)
    assert len(said) == 6
    assert [(one, other) for one, other, _ in said if difference(one, other)[1]] == [
        ("dropout", "SGD"),
        ("mixture", "SGD"),
        ("Gaussian", "SGD"),
        ("Gaussian", "mixture"),
    ]
    for one, other, value in said:
        assert value == difference(one, other)[0]
    assert f"Over the 9 it is {difference('mixture', 'dropout')[0]} more." in text
    sizes = [difference("mixture", "Gaussian", units)[0] for units in (400, 800, 1200)]
    lower = (
        f"It has {sizes[0]} points less than the mixture at 400 units, {sizes[1]} less at 800 and {sizes[2]} less at"
    )
    assert lower in text
    tempered = difference("mixture", "tempered"), difference("tempered", "dropout")
    assert not any(apart for _, apart in tempered)
    wide = difference("tempered", "dropout", 1200)
    assert wide[1]
    assert (
        f"over the nine pairs {tempered[0][0]} below it, nor from dropout's, which is {tempered[1][0]} below; at 1200 "
        f"units alone dropout's is {wide[0]} below."
    ) in text
    for pair in ("SGD", short["Gaussian"]), (short["Gaussian"], short["mixture"]):
        row = by_pairs.loc[pair]
        assert row["pairs"] == 9 == max(row["lower"], row["higher"])
    assert "a lower error than SGD and the mixture in all nine pairs of a size and a seed" in text
    row = by_pairs.loc[short["dropout"], short["Gaussian"]]
    sizes = [f"{row[f'{units} units']:.2f} at {units}" for units in (400, 800, 1200)]
    assert f"Dropout less Gaussian is {sizes[0]} units, {sizes[1]} and {sizes[2]}." in text
    differences = (errors["SGD, dropout"] - errors[short["Gaussian"]]).groupby("units")
    assert (differences.max()[1200], differences.min()[400]) == (pytest.approx(-0.05), pytest.approx(0.06))
    regrets = pd.read_csv(PAPER / "figure6" / "differences.csv").set_index(["method", "other"])
    row = regrets.loc["Bayes by Backprop", "greedy"]
    less = f"it loses {-row['difference']:,.0f} less, ± {row['half']:,.0f}"
    assert f"over the {row['pairs']} pairs of one seed {less}, and is below in {row['lower']}," in text

    densities = pd.read_csv(PAPER / "figure3" / "figure3.csv")
    width = densities["weight"].diff().mean()
    outside = 100 * (1 - width * densities["Bayes by Backprop, scale mixture"].sum())
    assert f"{outside:.0f} % of Bayes by Backprop's weights lie outside" in text

    regrets = regret_curves("Bayes_by_Backprop")
    growth = []
    for a, b in itertools.pairwise((5_000, 10_000, 20_000, 50_000)):
        rates = 1_000 * (regrets.loc[b] - regrets.loc[a]) / (b - a)
        assert len(rates) == 20
        growth.append(f"{rates.mean():.0f} ± {mean_half_width(rates):.0f}")
    assert f"ours {', '.join(growth)}," in text
    late = regrets.loc[50_000] - regrets.loc[10_000]
    assert (
        f"From 10,000 to 50,000 it grows by {late.mean():,.0f} ± {mean_half_width(late):,.0f}, the paper's by 1,900 ±"
        in text
    )

    widths = pd.concat(
        [
            pd.read_csv(ROOT / "results" / "sweep" / "sigma_scale" / "summary.csv"),
            pd.read_csv(PAPER / "figure5" / "summary.csv").assign(sigma_scale=0.03),
        ]
    ).pivot(index="seed", columns=["method", "sigma_scale"], values=["iqr_at_1", "iqr_inside"])
    ratios = re.findall(r"\| (0\.\d+) \| ([\d.]+) \| (\d[\d., *]*\d)", text)
    assert len(ratios) == 4
    for bayes, standard, listed in ratios:
        values = widths["iqr_at_1", "bbb", float(bayes)] / widths["iqr_at_1", "mle", float(standard)]
        # Starred where the network did not fit: its interval inside the data is ten times the true one's width or more.
        stars = ["*" if width > 0.71 else "" for width in widths["iqr_inside", "bbb", float(bayes)]]
        assert listed.split(", ") == [f"{value:.2g}{star}" for value, star in zip(values, stars, strict=True)]

    curves = pd.read_csv(PAPER / "figure2" / "figure2.csv").pivot(index="epoch", columns="method", values="mean")
    below = curves.index[curves["Bayes by Backprop, scale mixture"] <= curves["SGD, dropout"]]
    assert f"every epoch shown but {' and '.join(map(str, below))}." in text


def test_the_table_of_results_uncertainty_is_that_of_its_scores() -> None:
    folder = ROOT / "results" / "uncertainty"
    means = pd.read_csv(folder / "summary.csv")
    numbers = (("test", "error", 2), ("test", "nll", 4), ("test", "ece", 2))
    numbers += (("fashion", "auroc_entropy", 3), ("noise", "auroc_entropy", 3))
    expected = []
    for method, rows in means.groupby("method", sort=False):
        cells = [f"{rows.loc[rows['set'] == name, column].item():.{digits}f}" for name, column, digits in numbers]
        expected.append(f"| {' | '.join([str(method), *cells])} |")
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("|")]
    of_scores, of_changes = lines[2 : 2 + len(expected)], lines[4 + len(expected) :]
    assert of_scores == expected

    methods = ["Bayes by Backprop", "MC dropout", "SGD", "SGD, dropout"]
    changed = means[means["method"].isin(methods) & (means["level"] != 0)]
    expected = []
    for name, kind in (
        ("rotated", "at | 12 angles"),
        ("shifted", "at | 7 distances"),
        ("corrupted", "of | 8 corruptions"),
    ):
        for column in ("error", "nll"):
            table = changed[changed["set"] == name].pivot(index="part", columns="method", values=column)
            assert len(table) == int(re.findall(r"\d+", kind)[0])
            lowest = table.idxmin(axis="columns").value_counts().reindex(methods, fill_value=0)
            halves = changed[changed["set"] == name].pivot(index="part", columns="method", values=f"{column}_ci95")
            apart = 0
            for part, values in table.iterrows():
                first, second = values.nsmallest(2).index
                apart += values[first] + halves.loc[part, first] < values[second] - halves.loc[part, second]
            expected.append(f"| {name}, lowest {column} {kind} | {' | '.join(map(str, [*lowest, apart]))} |")
    for part in ("blur", "contrast", "gaussian noise", "impulse noise", "occlusion"):
        errors = changed[changed["part"] == part].set_index("method").loc[methods]
        cells = [f"{error:.1f} ± {half:.1f}" for error, half in zip(errors["error"], errors["error_ci95"], strict=True)]
        expected.append(f"| error under {part.replace('gaussian', 'Gaussian')}, percent | | {' | '.join(cells)} | |")
    assert of_changes == expected
    ensembles = means[means["method"].str.contains("ensemble") & (means["level"] != 0)]
    counts = []
    for name in ("rotated", "shifted"):
        table = ensembles[ensembles["set"] == name].pivot(index="part", columns="method", values="nll")
        lowest = table.idxmin(axis="columns").str.split(",").str[0].value_counts()
        counts.append((lowest["MC dropout"], lowest["Bayes by Backprop"]))
    assert counts == [(10, 2), (2, 5)]


def test_the_table_of_the_regressions_estimators_is_that_of_its_records() -> None:
    folder = ROOT / "results" / "sweep" / "regression"
    records = pd.read_csv(folder / "local" / "summary.csv")
    standard = records[records["method"] == "mle"].set_index("seed")["iqr_at_1"]
    (table,) = re.findall(r"\| estimator \| points .*\n(?:\|.*\n)+", (folder / "README.md").read_text())
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    settings = records.groupby("command", sort=False)
    assert len(rows) == len(settings)
    for (estimator, points, *_, seeds, coverage, ratio, nll), (command, runs) in zip(rows, settings, strict=True):
        assert ("method.estimator=local" in command) == (estimator == "local")
        assert (f"dataset.train_points={points} " in command) == (points != "12000")
        held = runs["coverage_50"]
        assert coverage == f"{held.mean():.1f} ({held.min():.1f} to {held.max():.1f})"
        assert seeds == f"{runs['seed'].min()} to {runs['seed'].max()}"
        ratios = runs["iqr_at_1"] / runs["seed"].map(standard)
        assert ratio == ("-" if ratios.isna().any() else f"{ratios.min():.1f}, {ratios.median():.1f}")
        assert nll == f"{runs['test_nll'].mean():.3f}"


def test_what_is_said_of_the_regression_inside_the_data_is_what_its_records_say() -> None:
    """The two networks over the pairs of one seed: on fresh seeds, and on those of Figure 5."""
    folder = ROOT / "results" / "sweep" / "regression"

    def worse(records: pd.DataFrame, column: str) -> tuple[float, float, int]:
        values = records.pivot(index="seed", columns="method", values=column)
        more = values["bbb"] - values["mle"]
        return more.mean(), more.sem() * stats.t.ppf(0.975, len(more) - 1), (more > 0).sum()

    fresh = pd.read_csv(folder / "fresh_10000" / "summary.csv")
    columns = ("test_nll", "median_rmse_inside", "iqr_inside", "test_rmse")
    nll, median, width, rmse = (worse(fresh, column) for column in columns)
    assert (nll[2], median[2], width[2], rmse[2]) == (18, 20, 20, 18)
    said = (
        f"its test nll is {nll[0]:.3f} ± {nll[1]:.3f} nats higher, on 18; its median's error {median[0]:.4f} ± "
        f"{median[1]:.4f} higher and its width inside {width[0]:.4f} ± {width[1]:.4f} wider, on all; its test RMSE "
        f"{rmse[0]:.4f} ± {rmse[1]:.4f} higher, on 18."
    )
    assert said in text_of(folder / "README.md")
    shown = worse(pd.read_csv(PAPER / "figure5" / "summary.csv"), "test_nll")
    assert shown[2] == 5
    said = "its test nll is lower on each of the five seeds, "
    said += f"in the mean by {shown[0]:.3f} ± {shown[1]:.3f} nats, and on 18 of twenty"
    assert said in text_of(PAPER / "README.md")


def test_the_table_of_two_amd_processors_is_that_of_their_measurements() -> None:
    machines, page = ROOT / "results" / "machines", (ROOT / "bbbrun" / "bench" / "README.md").read_text()
    ours = "bbb scale_mixture weights, bbbrun"
    for machine in ("Zen 4", "Zen 5"):
        folder = machines / machine.lower().replace(" ", "")
        for ending, words in (("", ""), ("-avx2", " by AVX2")):
            steps = pd.concat([pd.read_csv(folder / f"{name}{ending}.csv") for name in ("steps", "bandit")])
            steps = steps[steps["name"] == ours]
            assert steps["network"].tolist()[::3] == ["784-1200-1200-10", "119-100-100-1"]
            for column, other in (("to_eager_dropout", "dropout"), ("to_eager_sgd", "SGD")):
                cells = " | ".join(f"{v:.2f}" for v in steps[column])
                assert f"| {machine}{words}, relative to {other} | {cells} |\n" in page
    parts = pd.read_csv(machines / "zen5" / "parts-avx2.csv").set_index("name")["to_eager_dropout"]
    products, noise, memory = (parts[name] for name in ("matrix products", "noise", "memory"))
    text = " ".join(page.split())
    assert f"our matrix products alone take {products:.2f}, the noise {noise:.2f}, and reading and writing" in text
    said = f"the gradient once {memory:.2f} (`bbbrun bench --rounds 60`, `parts-avx2.csv`):"
    assert f"{said} {products + noise + memory:.2f} before" in text
    rounded = pd.read_csv(machines / "zen4" / "steps-bfloat16.csv").pivot(
        index="network", columns="name", values="median_ms"
    )
    ratio = rounded[ours] / rounded[ours.replace(",", " in float32,")]
    wide, middle, narrow = (f"{ratio[f'784-{units}-{units}-10']:.2f}" for units in (1200, 800, 400))
    assert f"it takes {wide} at 2 x 1200, {middle} at 2 x 800 and {narrow} at 2 x 400" in text


def test_the_table_of_an_h200_is_that_of_its_measurement() -> None:
    folder, page = ROOT / "results" / "machines" / "h200", (ROOT / "bbbrun" / "bench" / "README.md").read_text()
    machine = json.loads((folder / "machine.json").read_text())
    steps = pd.DataFrame(machine["steps"]).set_index(["network", "precision", "name"])
    ours = steps.xs("bbb scale_mixture weights, bbbrun", level="name")

    def cell(network: str, precision: str) -> str:
        row = ours.loc[(network, precision)]
        return f"{row['median_ms']:.3f} ms ({row['to_eager_sgd']:.3f})"

    for units in (1200, 800, 400):
        cells = " | ".join(cell(f"784-{units}-{units}-10", precision) for precision in ("float32", "tf32", "bfloat16"))
        assert f"| 2 x {units} | {cells} |\n" in page
    text = " ".join(page.split())
    assert f"The bandit's step takes {cell('119-100-100-1', 'float32')}." in text
    sgd = steps.xs("sgd, PyTorch eager", level="name").drop("119-100-100-1", level="network")["median_ms"]
    assert f"eager SGD in the same run, whose {sgd.min():.2f} to {sgd.max():.2f} ms" in text
    assert machine["commit"].endswith("+changes")
    assert f"(commit `{machine['commit'][:7]}` with changes, none in the code;" in text
    seconds = pd.read_csv(folder / "wide.csv").set_index("epoch")["seconds"]
    rest = seconds[600] - seconds[20]
    step = 1e3 * rest / (580 * 391)
    assert f"took {seconds[600]:.1f} s: {seconds[20]:.1f} s to the end of epoch 20, compilations included" in text
    assert f"and {rest:.1f} s for the other 580, or {step:.3f} ms a step with the evaluations" in text


def test_both_priors_errors_by_both_optimizers_are_those_of_the_records() -> None:
    folder = ROOT / "results" / "sweep" / "search"
    by_sgd = pd.read_csv(folder / "sgd" / "by" / "by.csv")
    by_adam = pd.read_csv(folder / "by" / "by.csv").query("`prior.pi` == 0.5 or `prior.sigma` == 1")
    lines = (folder / "README.md").read_text().splitlines()
    for prior, name in (("scale_mixture", "mixture"), ("gaussian", "Gaussian")):
        for weighting, words in (("paper", "the paper's"), ("uniform", "spread evenly")):
            (line,) = [line for line in lines if line.startswith(f"| {name}, {words} |")]
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")[1:]]
            expected = []
            for table in (by_sgd, by_adam):
                alike = table[(table["method.minibatch_weights"] == weighting) & (table["prior"] == prior)]
                errors = alike.set_index("optimizer.lr")["valid_error"]
                expected += [f"{errors[rate]:.2f}" if rate in errors else "(no record)" for rate in (3e-4, 1e-3, 3e-3)]
            assert [re.sub(r"diverged in epoch \d+ ", "", cell) for cell in cells] == expected


def test_the_grid_of_the_baselines_is_that_of_its_records() -> None:
    folder = ROOT / "results" / "sweep" / "search"
    text = (folder / "README.md").read_text()
    grid = pd.concat([pd.read_csv(path) for path in (folder / "baselines/by/by.csv", folder / "by" / "by.csv")])
    wider = pd.read_csv(folder / "wider" / "by" / "by.csv")
    places = [
        ("sgd", 1e-3),
        ("sgd", 3e-3),
        ("sgd", 6e-3),
        ("adam", 1e-4),
        ("adam", 3e-4),
        ("adam", 1e-3),
        ("adam", 3e-3),
    ]
    dropout, plain = wider["method"] == "dropout", wider["method"] == "mle"
    less = "dropout of 10 % of inputs and 30 % of hidden units"
    none_of_inputs = "dropout of no inputs and 50 % of hidden units"
    narrow, wide = "without, `init_scale` 0.5", "without, `init_scale` 2"
    for name, records in (
        ("dropout", grid[grid["method"] == "dropout"]),
        ("without", grid[grid["method"] == "mle"]),
        (less, wider[dropout & (wider["method.input_rate"] == 0.1)]),
        (none_of_inputs, wider[dropout & (wider["method.hidden_rate"] == 0.5)]),
        (narrow, wider[plain & (wider["network.init_scale"] == 0.5)]),
        (wide, wider[plain & (wider["network.init_scale"] == 2)]),
    ):
        errors = records.set_index(["optimizer", "optimizer.lr"])["valid_error"]
        (line,) = re.findall(rf"^\| {name} \|(.*)\|$", text, re.MULTILINE)
        for place, cell in zip(places, map(str.strip, line.split("|")), strict=True):
            if place in errors:
                assert f"{errors[place]:.2f}" == cell
            else:
                assert (name, *place, cell) in {
                    ("dropout", "adam", 3e-3, ""),
                    ("without", "sgd", 6e-3, "diverged at once (no record)"),
                    (less, "adam", 3e-3, ""),
                    (none_of_inputs, "adam", 3e-3, ""),
                    (narrow, "sgd", 6e-3, "diverged (no record)"),
                    (narrow, "adam", 1e-4, ""),
                    (wide, "sgd", 3e-3, "diverged (no record)"),
                    (wide, "sgd", 6e-3, "diverged (no record)"),
                    (wide, "adam", 1e-4, ""),
                }
    adam = pd.read_csv(folder / "plain_adam" / "by" / "by.csv").iloc[0]
    assert f"At 400 units row one has {adam['test_error']:.2f} % by Adam," in " ".join(README.split())
    (row,) = re.findall(r"^\| Adam, 1e-3 \(`plain_adam/`\) \| (.*) \|$", text, re.MULTILINE)
    errors_of_seeds, mean, nll, valid = row.split(" | ")
    assert (mean, nll) == (f"{adam['test_error']:.2f}", f"{adam['test_nll']:.3f}")
    for listed, column in ((errors_of_seeds, "test_error"), (valid, "valid_error")):
        values = pd.Series([float(each) for each in listed.split(", ")])
        assert values.mean() == pytest.approx(adam[column], abs=1e-3)
        assert values.std() == pytest.approx(adam[f"{column}_std"], abs=1e-3)


def test_the_baselines_other_settings_on_table_1s_seeds_are_what_their_records_say() -> None:
    folder = ROOT / "results" / "sweep" / "search"
    text, page = text_of(folder / "README.md"), text_of(PAPER / "README.md")
    dropout, plain = "SGD, dropout", "SGD"
    gaussian, mixture = "Bayes by Backprop, Gaussian", "Bayes by Backprop, scale mixture"
    kinds = ("mnist", "mnist_gaussian", "mnist_dropout", "mnist_mle")
    found = cells(finished_runs([PAPER / "runs" / name for name in kinds]))
    rows = {cell.row: runs for cell, runs in found.items() if cell.units == 400}
    less, start = "dropout_rates", "plain_start"
    rows |= {name: list(finished_runs([folder / name])) for name in (less, start)}
    runs_of = {
        row: sorted(rows[row], key=lambda run: run.seed) for row in (dropout, plain, gaussian, mixture, less, start)
    }
    assert all([run.seed for run in runs] == [0, 1, 2] for runs in runs_of.values())
    numbers = {row: pd.DataFrame([run.summary["metrics"] for run in runs]) for row, runs in runs_of.items()}
    images = wrong_images({(400, row): runs for row, runs in runs_of.items()})
    wrong = {row: 100.0 * np.stack(list(of_seed.values())) for row, of_seed in images.items()}
    for row, name in (
        (less, "dropout of 10 % and 30 %, 1e-3 (`dropout_rates/`)"),
        (dropout, "dropout of 20 % and 50 %, 3e-3 (Table 1)"),
        (start, "without, `init_scale` 0.5, 3e-3 (`plain_start/`)"),
        (plain, "without, `init_scale` 1, 3e-3 (Table 1)"),
    ):
        test, valid = (", ".join(f"{x:.2f}" for x in numbers[row][key]) for key in ("test_error", "valid_error"))
        means = numbers[row].mean()
        assert f"| {name} | {test} | {means['test_error']:.2f} | {means['test_nll']:.3f} | {valid} |" in text

    def beside(one: str, other: str) -> str:
        difference = crossed(wrong[one] - wrong[other])
        return f"{difference.value:.2f} ± {difference.half:.2f}".replace("-0.00", "0.00")

    for one, shown in ((less, dropout), (start, plain)):
        left = numbers[shown]["valid_error"] - numbers[one]["valid_error"]
        assert f" {left.mean():.2f} ± {mean_half_width(left):.2f}" in text[text.index("Of the 0.16 points") :]
    assert (
        f" {beside(less, dropout)} from Table 1's dropout, {beside(less, gaussian)} from the Gaussian prior and "
        f"{beside(less, mixture)} from the mixture at 400 units" in text
    )
    assert f" {beside(start, plain)} from Table 1's, " in text
    assert f"has {numbers[less]['test_error'].mean():.2f}, where Table 1's has " in page
    for contrast in (
        beside(dropout, less) + " less",
        beside(less, gaussian),
        beside(mixture, less) + " below",
        beside(plain, start) + " less",
        beside(start, mixture) + " more",
    ):
        assert contrast in page
    narrow, rates = (numbers[name]["test_error"].mean() for name in (start, less))
    assert f"{narrow:.2f} by a narrower start; row two {rates:.2f}, within error, by" in " ".join(README.split())
    assert crossed(wrong[less] - wrong[dropout]).verdict(0.0) == "same within error"
    for row in (dropout, gaussian, mixture):
        assert numbers[less]["test_nll"].mean() > numbers[row]["test_nll"].mean()
        assert f"{beside(start, row)} from" in text


def test_the_regressions_fresh_seeds_are_those_of_their_records() -> None:
    folder = ROOT / "results" / "sweep" / "regression"
    records = pd.read_csv(folder / "fresh_10000" / "summary.csv")
    bayes, standard = (records[records["method"] == name].set_index("seed") for name in ("bbb", "mle"))
    assert sorted(bayes.index) == sorted(standard.index) == list(range(210, 230))
    assert records["command"].str.contains("dataset.test_points=10000").all()
    text = text_of(folder / "README.md")
    paper = text_of(PAPER / "README.md")
    for first, sentence in (
        (220, "On seeds 220 to 229 Bayes by Backprop holds {} % ({} to {})"),
        (210, "on 210 to 219 {} ({} to {})"),
    ):
        held = bayes["coverage_50"].loc[first : first + 9]
        assert sentence.format(f"{held.mean():.2f}", f"{held.min():.1f}", f"{held.max():.1f}") in text
        assert f" {held.mean():.2f}" in paper
    half = mean_half_width(bayes["coverage_50"])
    assert f"on all twenty {bayes['coverage_50'].mean():.1f} ± {half:.1f}" in text
    assert f"the standard network holds {standard['coverage_50'].mean():.1f}" in text
    ratios = bayes["iqr_at_1"] / standard["iqr_at_1"]
    for page in (text, paper):
        assert (
            f"it is {ratios.min():.1f} to {ratios.max():.0f} times as wide as the standard network on each of" in page
        )


def test_the_table_of_the_tables_settings_is_that_of_its_records() -> None:
    folder = ROOT / "results" / "sweep" / "table"
    keys, digits = ["dataset.name", "method.temperature"], {"test_nll": 2, "test_rmse": 3, "coverage_50": 1}
    means = pd.read_csv(folder / "by" / "by.csv").groupby(keys)[list(digits)].mean().unstack()
    lines = []
    for name, row in means.iterrows():
        cells = [f"{row[column, at]:.{places}f}" for column, places in digits.items() for at in (1, 0.5)]
        lines.append(f"| {' | '.join([str(name), *cells])} |")
    text = (folder / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == lines
    better = (means["test_nll", 1.0] - means["test_nll", 0.5]).mean()
    assert f"lower by {better:.2f} in the mean" in text
    assert f"lower by {better:.2f} in the mean" in (ROOT / "CHANGELOG.md").read_text()


def test_the_chance_of_the_draws_is_that_of_the_recorded_sets() -> None:
    """Of each network the rows of results/sweep/draws; of all the ranges on each page that names them."""
    folder = ROOT / "results" / "sweep" / "draws"
    errors, doubt = (pd.read_csv(folder / f"{name}.csv") for name in ("errors", "doubt"))
    text, paper, choices = (text_of(path) for path in (folder / "README.md", PAPER / "README.md", PAPER / "choices.md"))
    variances = errors.groupby(["draws", "sets", "network", "order"])["error"].agg(["var", "size"])
    deviations = variances["var"].groupby(["draws", "sets", "network"]).mean().pow(0.5)
    hundred, thousand = (deviations[draws, "all"] for draws in (100, 1000))
    of_all = errors[errors["sets"] == "all"].set_index(["network", "draws"])["error"].sort_index()
    for name, network, count in (
        ("scale mixture, 2 x 1200, seed 0", "mixture-1200", 200),
        ("scale mixture, 2 x 400, seed 0", "mixture-400", 100),
        ("Gaussian prior, 2 x 400, seed 0", "gaussian-400", 100),
        ("scale mixture at temperature 0.05, 2 x 400, seed 1", "tempered-400", 100),
    ):
        small, large = (of_all.loc[network, draws] for draws in (100, 1000))
        assert (
            f"| {name} | {count} | {small.mean():.2f} ({small.min():.2f} to {small.max():.2f}) "
            f"| {hundred[network]:.3f} | {count // 10} | {large.mean():.2f} | {thousand[network]:.3f} |"
        ) in text
        assert len(small) == count
        sizes = variances["size"].xs(network, level="network")
        assert sizes[1000, "all"].tolist() == [count // 10] * 20
        assert all(sizes[1000, str(part)].tolist() == [5] * 20 for part in range(count // 50))
    low, high = thousand.min(), thousand.max()
    assert f"the chance of the draws is {low:.3f} to {high:.3f} points, as one standard deviation" in text
    assert f"If a cell's three networks are alike, its mean has {low / 3**0.5:.3f} to {high / 3**0.5:.3f}." in text
    assert f"its standard deviation is {low:.3f} to {high:.3f} points" in text_of(ROOT / "CHANGELOG.md")
    assert f"change the error of one network by a standard deviation of {low:.3f} to {high:.3f} points" in paper
    parts = {draws: deviations[draws].drop("all").unstack("network") for draws in (100, 1000)}
    wide = [f"{each['mixture-1200'].min():.3f} to {each['mixture-1200'].max():.3f}" for each in parts.values()]
    others = [each.drop(columns="mixture-1200").stack() for each in parts.values()]
    narrow = [f"{each.min():.3f} to {each.max():.3f}" for each in others]
    assert {others[0].idxmin()[1], others[0].idxmax()[1]} == {"mixture-400"}
    second = f"{thousand['mixture-400']:.3f}"
    assert f"have {wide[1]}, and the two of each other network's {narrow[1]}, all of the second's {second}." in text
    assert f"By 100 draws the parts have {wide[0]} and {narrow[0]}, these two of the second network." in text
    ratio, of_parts = hundred / thousand, (parts[100] / parts[1000]).stack()
    assert (
        f"divide the standard deviation by {ratio.min():.1f} to {ratio.max():.1f}, in the parts of fifty sets by "
        f"{of_parts.min():.1f} to {of_parts.max():.1f}."
    ) in text
    images = doubt.pivot(index="network", columns="draws", values="images")
    fewer = images[100] / images[1000]
    assert (
        f"{images[100].min()} to {images[100].max()} images are wrong in 5 to 95 % of the sets by 100 draws and "
        f"{images[1000].min()} to {images[1000].max()} by 1,000 (`doubt.csv`), fewer by {fewer.min():.1f} to "
        f"{fewer.max():.1f}."
    ) in text
    assert f"by the root of that, {fewer.min() ** 0.5:.1f} to {fewer.max() ** 0.5:.1f}." in text
    earlier = [
        run.summary["metrics"]["test_error"]
        for run in finished_runs([ROOT / "results" / "sweep" / "hundred_draws"])
        if run.config["network"]["hidden"] == [1200, 1200]
    ]
    assert f"had {earlier[0]:.2f} % and, by other 100 draws, 1.35" in text
    moved, far = 2**0.5 * hundred["mixture-1200"], 1.35 - earlier[0]
    assert f"deviates by {moved:.3f} in the first network here, so {far:.2f} is {far / moved:.1f} of these" in text
    assert (
        f"By the 0.055 by 100 draws that was said before, without a record, it would be {far / 0.055 / 2**0.5:.1f}"
        in text
    )
    at_400 = [each.drop("mixture-1200") for each in (thousand, hundred)]
    ranges = [f"{each.min():.3f} to {each.max():.3f}" for each in at_400]
    at_1200 = [f"{each['mixture-1200']:.3f}" for each in (thousand, hundred)]
    assert f"its standard deviation is {ranges[0]} points at 400 units (three networks) and {at_1200[0]} at" in paper
    assert f"Over sets of 100 it is about {hundred.mean():.2f} in all four." in paper
    assert hundred.round(2).nunique() == 1
    assert f"At 400 units it is {ranges[1]} by 100 draws and {ranges[0]} by 1,000." in choices
    assert f"At 1200 it is {at_1200[1]} and {at_1200[0]}." in choices
    runs = pd.read_csv(folder / "by" / "runs.csv")["command"]
    told = [sorted(words) for words in commands((folder / "README.md").read_text().replace("\\\n", ""))]
    assert all(sorted(shlex.split(command)[1:]) in told for command in runs)


def test_what_other_trainings_of_the_same_seeds_change_is_what_their_records_say() -> None:
    sweep = ROOT / "results" / "sweep"
    text = (PAPER / "README.md").read_text()
    mixture, gaussian, dropout = "Bayes by Backprop, scale mixture", "Bayes by Backprop, Gaussian", "SGD, dropout"

    def shown(*folders: Path) -> dict[tuple[str, int, int], Run]:
        found = cells(finished_runs([PAPER / "runs" / "mnist", *others, *folders]))
        return {(cell.row, cell.units, run.seed): run for cell, group in found.items() for run in group}

    def compared(runs: dict[tuple[str, int, int], Run], alone: bool, one: str, other: str, units: int | None) -> str:
        pairs = [
            (runs[key], runs[other, *key[1:]]) for key in sorted(runs) if key[0] == one and units in (None, key[1])
        ]
        assert len(pairs) == (3 if units else 9)
        less = pd.Series([np.subtract(*(run.summary["metrics"]["test_error"] for run in pair)) for pair in pairs])
        if alone:
            half = mean_half_width(less)
        else:
            wrong = [[100.0 * (t["class"] != t["label"]) for t in map(Run.predictions, pair)] for pair in pairs]
            half = crossed(np.array([first - second for first, second in wrong])).half
        return f"{less.mean():.2f} ± {half:.2f}" + (f" ({(less < 0).sum()})" if units is None else "")

    others = [PAPER / "runs" / name for name in ("mnist_gaussian", "mnist_dropout", "mnist_mle")]
    now, wide, first = shown(), shown(sweep / "rounding"), shown(sweep / "no_predictions")
    assert {key for key in now if now[key].folder != wide[key].folder} == {(mixture, 1200, seed) for seed in range(3)}

    def with_mixtures(folder: str, **chosen: str) -> dict[tuple[str, int, int], Run]:
        found = [
            run for run in finished_runs([sweep / folder]) if not run.cold and chosen.items() <= run.config.items()
        ]
        return now | {(mixture, run.config["network"]["hidden"][0], run.seed): run for run in found}

    rows = [
        ("shown", now, False),
        ("`rounding`: mixture, 1200 units", wide, False),
        (
            "`bfloat16`: mixture, 400 units, 100 draws, in float32",
            with_mixtures("bfloat16", precision="float32"),
            False,
        ),
        ("the same in bfloat16", with_mixtures("bfloat16", precision="bfloat16"), False),
        ("shown, intervals over the pairs alone", now, True),
        ("`hundred_draws`: mixture, six of nine, 100 draws, the same", with_mixtures("hundred_draws"), True),
        ("`no_predictions`: dropout and SGD, six of nine each, the same", first, True),
    ]
    columns = [
        (gaussian, mixture, None),
        (gaussian, mixture, 400),
        (dropout, mixture, None),
        (dropout, mixture, 1200),
        (dropout, "SGD", 800),
    ]
    for name, runs, alone in rows:
        cells_of_row = [compared(runs, alone, *column) for column in columns]
        assert f"\n| {' | '.join([name, *cells_of_row])} |\n" in text
        over_all = [compared(runs, alone, row, "SGD", None) for row in (dropout, mixture, gaussian)]
        assert all(float(cell.split(" ± ")[0]) + float(cell.split()[2]) < 0 for cell in over_all)
