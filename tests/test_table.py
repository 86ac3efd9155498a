"""A user's own tables: kinds of columns, the split into parts, the form stored with the run and applied again."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.special import softmax
from scipy.stats import norm
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import bbbrun
from bbbrun.bayes.draws import BlockSampler, Draws
from bbbrun.data.tables.form import form_of, text_of
from bbbrun.data.tables.load import load_table, rows_of
from bbbrun.data.tables.uci import UCI_SETS, uci_split
from bbbrun.data.tables.values import TableLayout
from bbbrun.errors import UserError
from bbbrun.schema.config import composed, validated
from bbbrun.schema.tables import Kind, Missing, Noise
from bbbrun.tasks.evaluation_sets import parts_of
from bbbrun.tasks.export import exported, weights_of

FAST = ("experiment=table", "network.hidden=[7]", "train.epochs=4", "train.evaluate_every=4", "compile=false")


def houses(rows=120, seed=0):
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"rooms": random.integers(1, 9, rows), "area": random.normal(90, 30, rows)})
    table["city"] = random.choice(["Oslo", "Paris", "Rome"], rows)
    table["price"] = 1e5 + 2e4 * table["rooms"] + 500 * table["area"] + random.normal(0, 1e4, rows)
    return table


def written(folder, table, name="houses.csv"):
    path = Path(folder) / name
    table.to_csv(path, index=False) if name.endswith(".csv") else table.to_parquet(path)
    return path


@cache
def option(experiment):
    return validated(composed([f"experiment={experiment}"])).dataset


def dataset(path, *words, experiment="table"):
    """The options that these words of the command line give, without its composing them anew each time."""
    values = {
        key.removeprefix("dataset."): yaml.safe_load(value) for key, _, value in (w.partition("=") for w in words)
    }
    kinds = {"kind": Kind, "missing": Missing, "noise": Noise}
    values = {key: kinds[key](value) if key in kinds else value for key, value in values.items()}
    return replace(option(experiment), **({"path": str(path)} if path else {}), **values)


def finished(folder, target):
    """A finished run that predicts a column of houses, and its table."""
    table = houses()
    words = (*FAST, f"dataset.path='{written(folder, table)}'", f"dataset.target={target}", "method.rho_init=[-3,-2]")
    return bbbrun.run(bbbrun.compose(*words), folder / "run"), table


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("houses"), "price")


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("cities"), "city")


def by_hand(run, table, numbers, category=None):
    """The network's inputs by scikit-learn, fitted on the rows that the run trained on."""
    form = form_of((run.folder / "inputs.json").read_text(), "")
    order = np.random.default_rng(0).permutation(len(table))
    train = table.iloc[order[-form.rows[0] :]]
    scaled = StandardScaler().fit(train[numbers].astype(float)).transform(table[numbers].astype(float))
    if category is None:
        return scaled
    return np.concatenate([scaled, OneHotEncoder(sparse_output=False).fit_transform(table[[category]])], axis=1)


def outputs_of(run, inputs, count, draws, seed):
    """The outputs (S, N, K) of one hidden layer of 7, in float64, of the posterior's first draws."""
    posterior, outputs = run.posterior(), []
    for number in range(draws):
        w = Draws(seed, 0, draws, BlockSampler()).sample(posterior, number)[0].double().numpy()
        outputs.append(outputs_by(w, inputs, count))
    return np.stack(outputs)


def outputs_by(w, inputs, count):
    """The outputs (N, K) for these weights."""
    d = inputs.shape[1]
    a, b, c = w[: 7 * d].reshape(7, d), w[7 * d : 7 * d + 7], w[7 * d + 7 : 7 * d + 7 + 7 * count]
    return np.maximum(inputs @ a.T + b, 0) @ c.reshape(count, 7).T + w[-count:]


def test_a_regression_predicts_in_its_own_units_what_its_posterior_says(regression):
    run, table = regression
    outputs = outputs_of(run, by_hand(run, table, ["rooms", "area"], "city"), 2, 5, 3)
    target = form_of((run.folder / "inputs.json").read_text(), "").target
    means = target.mean + target.scale * outputs[..., 0]
    sigmas = target.scale * (0.01 + np.logaddexp(0, outputs[..., 1]))
    predicted = run.predict(table, draws=5, seed=3)
    np.testing.assert_allclose(predicted["mean"], means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(predicted["aleatoric"], np.sqrt((sigmas**2).mean(0)), rtol=1e-4)
    np.testing.assert_allclose(predicted["epistemic"], means.std(0), rtol=1e-3)
    below = norm.cdf((predicted["q25"].to_numpy() - means) / sigmas).mean(0)
    np.testing.assert_allclose(below, 0.25, atol=1e-4)


def test_classes_are_predicted_by_their_names(classes):
    run, table = classes
    logits = outputs_of(run, by_hand(run, table, ["rooms", "area", "price"]), 3, 5, 3)
    probabilities = softmax(logits, axis=2).mean(0)
    predicted = run.predict(table, draws=5, seed=3)
    names = ["Oslo", "Paris", "Rome"]
    np.testing.assert_allclose(predicted[[f"p_{name}" for name in names]], probabilities, atol=1e-5)
    assert list(predicted["class"]) == [names[k] for k in probabilities.argmax(1)]
    unsure = run.predict(table, draws=5, seed=3, min_probability=0.99)["class"]
    assert (unsure.isna() == (predicted["probability"] < 0.99)).all()


def test_the_rows_metrics_are_of_the_target_itself(regression):
    run, table = regression
    order = np.random.default_rng(0).permutation(len(table))
    rows = np.sort(order[:12])
    predicted = run.predict(table.iloc[rows], draws=50)
    rmse = float(np.sqrt(np.mean((predicted["mean"].to_numpy() - table["price"].to_numpy()[rows]) ** 2)))
    # 10 draws of another seed's noise there.
    assert run.summary["metrics"]["test_rmse"] == pytest.approx(rmse, rel=0.2)
    frame, y = parts_of(run._record, ["test"], None)[0].load()
    assert list(frame["area"]) == list(table["area"].iloc[rows])
    np.testing.assert_array_equal(y, table["price"].to_numpy()[rows])
    assert len(frame) == 12


def test_columns_come_by_name_in_any_order_and_arrays_in_the_tables(regression, tmp_path):
    run, table = regression
    whole = run.predict(table, draws=3)
    pd.testing.assert_frame_equal(run.predict(table[["price", "city", "area", "rooms"]], draws=3), whole)
    array = table[["rooms", "area", "city"]].to_numpy(dtype=object)
    pd.testing.assert_frame_equal(run.predict(array, draws=3), whole)


def test_predict_names_the_rows_far_from_the_training_rows(regression, run_in, tmp_path):
    run, table = regression
    for name, areas in {"near.csv": [90, 100, 90, 20, 120], "far.csv": [90, 1e4, 90, -1e4, 120]}.items():
        written(tmp_path, table.head(5).assign(area=areas), name)
    warned = [
        run_in(tmp_path, "predict", str(run.folder), name, "-o", "out.csv", "--draws", "2").stderr
        for name in ("near.csv", "far.csv")
    ]
    assert "warning" not in warned[0]
    assert "bbbrun: warning: 2 of 5 rows have a number more than 10 standard deviations" in warned[1]
    assert "(row 2, area; row 4, area)" in warned[1]


FAULTS = {
    "missing": (lambda t: t.drop(columns="area"), "column 'area' is missing: there are rooms, city, price"),
    "case": (lambda t: t.rename(columns={"area": "Area"}), "rooms, Area, city, price; did you mean 'Area'?"),
    "surplus": (lambda t: t.assign(garden=1), "column 'garden' is none of this run's inputs"),
    "text": (lambda t: t.assign(area=["big", *t["area"][1:]]), "row 1, column 'area': 'big' is no number"),
    "truth": (lambda t: t.assign(area=True), "row 1, column 'area': 'True' is no number"),
    "date": (lambda t: t.assign(area=pd.Timestamp("2020-01-01")), "row 1, column 'area': '2020-01-01"),
    "gap": (lambda t: t.assign(area=[*t["area"][:-1], np.nan]), "row 5, column 'area': the value is missing"),
    "endless": (lambda t: t.assign(area=[np.inf, *t["area"][1:]]), "row 1, column 'area': not finite"),
    "city": (lambda t: t.assign(city=[*t["city"][:3], "Bonn", "Rome"]), "row 4, column 'city': 'Bonn' is not among"),
    "width": (lambda t: t.to_numpy()[:, :2], "a row must be the 3 columns rooms, area, city, not 2"),
    "cube": (lambda t: np.zeros((2, 3, 4)), "inputs must be rows of columns"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_named(regression, name):
    run, table = regression
    spoil, message = FAULTS[name]
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        run.predict(spoil(table.head(5)), draws=2)
    assert message in str(error.value)


def test_numbers_are_standardised_on_the_training_part_alone(tmp_path):
    table = houses()
    table["part"] = ["train"] * 60 + ["valid"] * 20 + ["test"] * 40
    words = ("dataset.target=price", "dataset.split_column=part")
    loaded = load_table(dataset(written(tmp_path, table), *words))
    train = table[:60]
    assert loaded.form.rows == (60, 20, 40)
    assert loaded.form.features[1].mean[0] == pytest.approx(train["area"].mean())
    assert loaded.form.features[1].scale == pytest.approx(train["area"].std(ddof=0))
    inputs = loaded.test.inputs[:, 1].numpy()
    expected = ((table["area"][80:] - train["area"].mean()) / train["area"].std(ddof=0)).to_numpy()
    np.testing.assert_allclose(inputs, expected, rtol=1e-5)
    assert loaded.train.labels.mean().abs() < 1e-6


def test_parts_are_drawn_by_share_from_their_own_seed_and_have_no_row_in_common(tmp_path):
    path = written(tmp_path, houses(100).assign(key=range(100)))
    words = ("dataset.target=price", "dataset.test_share=0.2", "dataset.valid_share=0.3")
    rows = rows_of(dataset(path, *words))
    assert [len(part) for part in rows.parts] == [50, 30, 20]
    assert sorted(key for part in rows.parts for key in part["key"]) == list(range(100))
    again, other = (rows_of(dataset(path, *words, f"dataset.split_seed={seed}")) for seed in (0, 1))
    assert list(again.test["key"]) == list(rows.test["key"]) != list(other.test["key"])


def test_files_of_their_own_are_parts(tmp_path):
    path, test = written(tmp_path, houses(50)), written(tmp_path, houses(9, seed=1), "test.csv")
    loaded = load_table(dataset(path, "dataset.target=price", f"dataset.test_path='{test}'"))
    assert loaded.form.rows == (45, 5, 9)
    assert set(loaded.form.files) == {"houses.csv", "test.csv"}


def test_missing_values_name_their_columns_or_are_dropped_or_filled(tmp_path):
    table = houses(40)
    table.loc[[3, 5], "area"] = np.nan
    table.loc[5, "city"] = None
    path = written(tmp_path, table)
    with pytest.raises(UserError, match=r"missing in area \(2\), city \(1\): dataset.missing=drop .* mean"):
        load_table(dataset(path, "dataset.target=price"))
    assert sum(load_table(dataset(path, "dataset.target=price", "dataset.missing=drop")).form.rows) == 38
    loaded = load_table(dataset(path, "dataset.target=price", "dataset.missing=mean"))
    assert sum(loaded.form.rows) == 40
    gaps = pd.DataFrame({"rooms": [2], "area": [np.nan], "city": [None]})
    inputs = TableLayout(loaded.form).scaled(TableLayout(loaded.form).raw(gaps))[0]
    assert inputs[1] == 0  # the mean
    np.testing.assert_allclose(inputs[2:], loaded.form.features[2].mean, rtol=1e-6)  # the mean of the one-hot inputs
    assert inputs[2:].sum() == pytest.approx(1)
    with pytest.raises(UserError, match=r"missing in city \(1\): dataset.missing=drop"):
        load_table(dataset(path, "dataset.target=city", "dataset.missing=mean"))


TARGETS = {
    "fractions": (np.linspace(0, 1, 40), ()),
    "many whole numbers": (np.arange(40), ()),
    "few whole numbers": (np.arange(40) % 3 + 3, (3, 4, 5)),
    "whole numbers as fractions": (np.arange(40) % 2 * 1.0, (0, 1)),
    "words": (["yes", "no"] * 20, ("no", "yes")),
    "truths": ([True, False] * 20, ("False", "True")),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_tells_what_is_learnt(tmp_path, name):
    values, classes = TARGETS[name]
    path = written(tmp_path, houses(40).assign(y=values))
    assert load_table(dataset(path, "dataset.target=y")).form.target.classes == classes


def test_what_is_learnt_can_be_said(tmp_path):
    path = written(tmp_path, houses(40).assign(y=np.arange(40) % 3))
    assert load_table(dataset(path, "dataset.target=y", "dataset.kind=regression")).form.target.classes == ()
    numbers = load_table(dataset(path, "dataset.target=price", "dataset.categorical=[y]")).form.features[3]
    assert numbers.levels == ("0", "1", "2")


def test_a_column_of_texts_that_hardly_repeat_is_named_unless_it_is_said_to_be_a_category(tmp_path):
    table = houses(60).assign(day=[f"2026-{k // 2 % 12 + 1:02}-{k // 24 + 1:02}" for k in range(60)])
    assert table["day"].nunique() == 30  # half of the rows: a category still
    load_table(dataset(written(tmp_path, table), "dataset.target=price"))
    table.loc[0, "day"] = "2027-01-01"
    path = written(tmp_path, table)
    with pytest.warns(UserWarning, match=r"column 'day' has 31 different texts in 60 rows.*dataset.ignore=\[day\]"):
        load_table(dataset(path, "dataset.target=price"))
    load_table(dataset(path, "dataset.target=price", "dataset.categorical=[day]"))
    few = houses(20).assign(name=[f"n{k}" for k in range(20)])
    load_table(dataset(written(tmp_path, few), "dataset.target=price"))


UNFIT = {
    "nothing": ((), None, "dataset.path must be the file of the table"),
    "no file": (("dataset.path=nowhere.csv", "dataset.target=y"), None, "there is no file nowhere.csv"),
    "no target": ((), houses(9), "dataset.target must be the column to predict"),
    "other target": (("dataset.target=cost",), houses(9), "dataset.target=cost:"),
    "mistyped target": (("dataset.target=prise",), houses(9), "city, price; did you mean 'price'?"),
    "other column": (("dataset.target=price", "dataset.ignore=[garden]"), houses(9), "dataset.ignore=garden:"),
    "one value": (("dataset.target=y",), houses(9).assign(y="a"), "one value alone"),
    "row numbers": (
        ("dataset.target=price",),
        houses(9).reset_index().rename(columns={"index": ""}),
        "dataset.ignore=['Unnamed: 0']",
    ),
    "mixed": (("dataset.target=price",), houses(9).assign(age=[*range(8), "?"]), "has numbers, and '?' among them"),
    "empty column": (("dataset.target=price",), houses(9).assign(age=np.nan), "no value in column age"),
    "too many texts": (
        ("dataset.target=price",),
        houses(1500).assign(name=[f"n{k}" for k in range(1500)]),
        "column 'name' has 1500 different texts",
    ),
    "other words": (
        ("dataset.target=price", "dataset.split_column=part"),
        houses(9).assign(part="mine"),
        "row 1 has 'mine', not train, valid, test",
    ),
    "another word after rows that are dropped": (
        ("dataset.target=price", "dataset.split_column=part", "dataset.missing=drop"),
        houses(9).assign(part=["train"] * 5 + ["mine"] * 4, price=[None] * 3 + [k + 0.5 for k in range(6)]),
        "row 6 has 'mine', not train, valid, test",
    ),
    "no training rows": (
        ("dataset.target=price", "dataset.split_column=part"),
        houses(9).assign(part="test"),
        "no row is left for the train part",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_table_that_cannot_be_learnt_is_refused_in_a_line(tmp_path, name):
    words, table, message = UNFIT[name]
    path = written(tmp_path, table) if table is not None else None
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        load_table(dataset(path, *words))
    assert message in str(error.value)


RANGES = {
    "dataset.test_share=0": "dataset.test_share must be above 0 and below 1",
    "dataset.valid_share=0.95": "dataset.valid_share must be below",
    "dataset.missing=guess": "missing",
    "dataset.kind=other": "kind",
    "dataset.split_seed=-1": "dataset.split_seed must be from 0",
    "dataset.path=''": "dataset.path must be a name, or null",
}


@pytest.mark.parametrize("word", RANGES)
def test_values_out_of_range_are_refused_before_data_are_read(word, bbbrun):
    done = bbbrun("experiment=table", word)
    assert done.returncode == 1
    assert RANGES[word] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_parquet_and_arrays_are_tables(tmp_path):
    table = houses(40)
    parquet = load_table(dataset(written(tmp_path, table, "houses.parquet"), "dataset.target=price"))
    csv = load_table(dataset(written(tmp_path, table), "dataset.target=price"))
    assert torch.equal(parquet.train.inputs, csv.train.inputs)
    numbers = table[["rooms", "area"]].to_numpy()
    np.savez(tmp_path / "a.npz", x=numbers, y=table["price"])
    np.save(tmp_path / "a.npy", table[["rooms", "area", "price"]].to_numpy())
    npz = load_table(dataset(tmp_path / "a.npz", "dataset.target=y"))
    npy = load_table(dataset(tmp_path / "a.npy", "dataset.target='3'"))
    assert torch.equal(npz.train.inputs, csv.train.inputs[:, :2])
    assert torch.equal(npz.train.labels, npy.train.labels)


def test_the_form_is_plain_data_that_reads_back(regression, tmp_path):
    run, _ = regression
    text = (run.folder / "inputs.json").read_text()
    assert text_of(form_of(text, "")) == text
    for spoil in (
        lambda form: form["features"].clear(),
        lambda form: form["features"][0].update(scale=0),
        lambda form: form["features"][0].update(mean="1"),
        lambda form: form["features"][2].update(levels=["a"] * 10**6),
        lambda form: form["target"].update(mean=float("nan")),
        lambda form: form.update(files=[]),
    ):
        form = json.loads(text)
        spoil(form)
        with pytest.raises(UserError, match=r"run/inputs.json does not say how columns become inputs"):
            form_of(json.dumps(form), "run/inputs.json")


def piped(run):
    (run / "inputs.json").unlink()
    os.mkfifo(run / "inputs.json")


def endless(run):
    (run / "inputs.json").write_bytes(b" " * ((1 << 24) + 1))


def deep(run):
    (run / "inputs.json").write_text("[" * 100_000)


def wide(run):
    form = json.loads((run / "inputs.json").read_text())
    form["features"] = [{"name": str(number), "mean": 0.0, "scale": 1.0} for number in range(100_000)]
    (run / "inputs.json").write_text(json.dumps(form))


def gone(run):
    (run / "inputs.json").unlink()


HARM = {
    piped: "inputs.json is no regular file",
    endless: "bytes, and bbbrun writes at most",
    deep: "inputs.json does not say how columns become inputs",
    wide: "does not hold the 700023 weights of the network in its record",
    gone: "inputs.json cannot be read",
}


@pytest.mark.parametrize("harm", HARM, ids=[harm.__name__ for harm in HARM])
def test_a_form_made_to_do_harm_is_refused(regression, tmp_path, harm):
    shutil.copytree(regression[0].folder, tmp_path / "run")
    harm(tmp_path / "run")
    (run,) = bbbrun.load_runs(tmp_path / "run")
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        run.predict(regression[1])
    assert HARM[harm] in str(error.value)


def test_a_record_that_names_another_file_shows_nothing_of_it(regression, tmp_path):
    (tmp_path / "secret.csv").write_text("a,price\n1,2\n")
    run = regression[0]._record
    other = run.config["dataset"] | {"path": str(tmp_path / "data" / ".." / "secret.csv")}
    (tmp_path / "data").mkdir()
    [part] = parts_of(run._replace(config=run.config | {"dataset": other}), ["test"], None)
    with pytest.raises(UserError, match=r"not what the run learnt from, by their SHA-256$"):
        part.load()
    # A folder of the user's own comes before the record's, by the file's name alone.
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/data/secret.csv"):
        parts_of(run._replace(config=run.config | {"dataset": other}), ["test"], str(tmp_path / "data"))[0].load()


def test_a_file_that_claims_a_billion_columns_is_refused(regression, run_in, tmp_path):
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9, 1000000000000), }"
    array = header + b" " * (127 - len(header)) + b"\n" + bytes(80)
    (tmp_path / "a.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", array)
    for name in ("a.npy", "a.npz"):
        done = run_in(tmp_path, "predict", str(regression[0].folder), name, "-o", "out.csv")
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert f"{name} is no {name[2:].upper()} file of numbers" in line


def test_a_run_goes_on_with_the_same_data_alone(tmp_path, bbbrun):
    path = written(tmp_path, houses())
    words = (*FAST, "dataset.path=houses.csv", "dataset.target=price", "hydra.run.dir=run")
    assert bbbrun(*words).returncode == 0
    whole = (tmp_path / "run" / "metrics.csv").read_text()
    for name in ("summary.json", "checkpoint.pt"):
        (tmp_path / "run" / name).unlink()
    again = bbbrun(*words, "resume=run")
    assert again.returncode == 0, again.stderr
    drop = [name for name in pd.read_csv(tmp_path / "run" / "metrics.csv") if name != "seconds"]
    with (tmp_path / "before.csv").open("w") as file:
        file.write(whole)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "run" / "metrics.csv")[drop], pd.read_csv(tmp_path / "before.csv")[drop]
    )
    for name in ("summary.json", "checkpoint.pt"):
        (tmp_path / "run" / name).unlink()
    houses(seed=5).to_csv(path, index=False)
    refused = bbbrun(*words, "resume=run")
    assert refused.returncode == 1
    assert "the data have changed since the run" in refused.stderr.splitlines()[-1]


def test_from_the_command_line_to_a_table_of_predictions(tmp_path, bbbrun):
    written(tmp_path, houses())
    fresh = houses(20, seed=2)
    written(tmp_path, fresh, "fresh.csv")
    written(tmp_path, fresh.drop(columns="price"), "new.csv")
    assert bbbrun(*FAST, "dataset.path=houses.csv", "dataset.target=price", "replicas=2").returncode == 0
    done = bbbrun("predict", "results/runs", "new.csv", "-o", "out.csv", "--draws", "5")
    assert done.returncode == 0, done.stderr
    predicted = pd.read_csv(tmp_path / "out.csv")
    assert len(predicted) == 20
    for sets in (("test",), ("fresh.csv",)):
        done = bbbrun("evaluate", "results/runs", "--on", *sets, "-o", "judged", "--draws", "5")
        assert done.returncode == 0, done.stderr
        scores = pd.read_csv(tmp_path / "judged" / "scores.csv").set_index("members")
        assert list(scores.index) == ["seed 0", "seed 1", "ensemble"]
        assert scores["rmse"].gt(0).all()
    rmse = np.sqrt(((predicted["mean"] - fresh["price"]) ** 2).mean())
    assert scores.loc["ensemble", "rmse"] == pytest.approx(rmse, rel=1e-5)
    assert scores.loc["ensemble", "standard_deviation"] == pytest.approx(
        predicted["standard_deviation"].mean(), rel=1e-5
    )
    done = bbbrun("report", "results/runs", "--by", "seed", "-o", "by")
    assert done.returncode == 0, done.stderr
    assert "test_rmse" in (tmp_path / "by" / "by" / "by.md").read_text()


def test_runs_of_two_tables_are_no_ensemble(regression, classes, bbbrun):
    folders = (str(regression[0].folder), str(classes[0].folder))
    done = bbbrun("predict", *folders, str(folders[0] + "/../houses.csv"), "-o", "out.csv")
    assert done.returncode == 1
    assert "do not predict the same" in done.stderr.splitlines()[-1]


def test_an_exported_table_gives_the_same_from_encoded_rows(classes, regression):
    run, table = regression
    network = exported(run._record, weights_of(run._record, None, 0, None))
    rows = torch.tensor(
        np.concatenate([table[["rooms", "area"]], pd.get_dummies(table["city"])], axis=1).astype(np.float32)
    )
    names = {"torch": torch, "rows": rows, "module": network.module}
    call = network.lines("x.pt")[-1].partition("#")[0].partition("=")[2]
    outputs = eval(call, names).detach().double()
    target = form_of((run.folder / "inputs.json").read_text(), "").target
    np.testing.assert_allclose(
        target.mean + target.scale * outputs[:, 0], run.predict(table, mean=True)["mean"], rtol=1e-5
    )


def test_the_standard_splits_are_the_published_ones():
    # The published code: numpy.random.seed(1), then a permutation for each split.
    random = np.random.RandomState(1)
    for number in range(3):
        order = random.choice(range(506), 506, replace=False)
        train, test = uci_split(506, number)
        assert list(train) == list(order[:455])
        assert list(test) == list(order[455:])


def test_uci_sets_are_read_whole_and_split(data_root):
    for name, chosen in UCI_SETS.items():
        if name == "protein":
            continue  # the largest, in the same format
        rows = rows_of(dataset(None, f"dataset.name={name}", "dataset.valid_share=0.2", experiment="uci"))
        indices = np.loadtxt(data_root / "uci" / chosen.folder / "index_features.txt", dtype=int)
        assert list(indices) == list(range(chosen.inputs))
        assert int(np.loadtxt(data_root / "uci" / chosen.folder / "index_target.txt")) == chosen.target
        content = np.loadtxt(data_root / "uci" / chosen.folder / "data.txt")
        train, test = uci_split(len(content), 0)
        np.testing.assert_array_equal(pd.concat(rows.parts[:2])["y"], content[train, chosen.target])
        np.testing.assert_array_equal(rows.test["y"], content[test, chosen.target])
        assert len(rows.valid) == round(0.2 * len(train))


def test_splits_of_a_uci_set_are_replicas_of_one_graph(data_root, tmp_path, run_in):
    words = ("experiment=uci", "dataset.name=yacht", "network.hidden=[5]", "train.epochs=3", "compile=false")
    root = f"dataset.root={data_root}"
    together = run_in(tmp_path, *words, root, "replicas={dataset.split:[0,2]}", "hydra.run.dir=together")
    alone = run_in(tmp_path, *words, root, "dataset.split=2", "hydra.run.dir=alone")
    assert together.returncode == alone.returncode == 0, together.stderr + alone.stderr
    numbers = [
        json.loads((tmp_path / folder / "summary.json").read_text())["metrics"]
        for folder in ("together/dataset.split-2", "alone")
    ]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    forms = [(tmp_path / folder / "inputs.json").read_text() for folder in ("together/dataset.split-2", "alone")]
    assert forms[0] == forms[1]


def test_a_deviation_that_all_rows_share_is_a_weight_of_its_own(tmp_path):
    table = houses()
    words = (*FAST, f"dataset.path='{written(tmp_path, table)}'", "dataset.target=price", "dataset.noise=constant")
    run = bbbrun.run(bbbrun.compose(*words, "method.rho_init=[-3,-2]"), tmp_path / "run")
    predicted = run.predict(table, mean=True)
    mu, target = run.posterior().mu.double().numpy(), form_of((run.folder / "inputs.json").read_text(), "").target
    outputs = outputs_by(mu[:-2], by_hand(run, table, ["rooms", "area"], "city"), 1)
    np.testing.assert_allclose(predicted["mean"], target.mean + target.scale * outputs[:, 0], rtol=1e-5)
    np.testing.assert_allclose(predicted["aleatoric"], target.scale * (0.01 + np.logaddexp(0, mu[-1])), rtol=1e-5)
    draws = run.predict(table, draws=20)
    assert draws["aleatoric"].std() < 1e-6 * draws["aleatoric"].mean()
    assert draws["epistemic"].std() > 1e-3 * draws["epistemic"].mean()
    network = exported(run._record, weights_of(run._record, None, 0, None))
    assert network.usage.comment.endswith(f"deviation {predicted['aleatoric'].iloc[0]}")
    inputs = np.concatenate([table[["rooms", "area"]], pd.get_dummies(table["city"])], axis=1).astype(np.float32)
    scaled = (torch.from_numpy(inputs) - torch.tensor(network.usage.shift)) / torch.tensor(network.usage.scale)
    np.testing.assert_allclose(network.module(scaled).detach()[:, 0], outputs[:, 0], rtol=1e-4, atol=1e-5)
