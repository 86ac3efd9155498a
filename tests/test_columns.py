"""Files of tables as users have them: texts that look like numbers, damaged files, outputs of another's name."""

import os
import zipfile

import numpy as np
import pandas as pd
import pytest

import bbbrun
from bbbrun.data.arrays import read_npy, read_npz
from bbbrun.data.tables.columns import csv_frames
from bbbrun.data.tables.load import load_table
from bbbrun.data.tables.rows import read_table
from bbbrun.data.tables.values import positions
from bbbrun.errors import UserError
from bbbrun.schema.config import composed, validated

FAST = ("experiment=table", "network.hidden=[7]", "train.epochs=2", "train.evaluate_every=2", "compile=false")


def options(path, *words):
    return validated(composed(["experiment=table", f"dataset.path={path}", "dataset.target=y", *words])).dataset


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A run that learnt from a column of codes, of which some look like numbers and truth values."""
    folder = tmp_path_factory.mktemp("coded")
    codes = ["01", "1", "x1", "TRUE", "false"] * 12
    table = pd.DataFrame({"code": codes, "size": np.linspace(0, 1, 60), "y": np.linspace(0, 2, 60) ** 2})
    table.to_csv(folder / "codes.csv", index=False)
    return bbbrun.run(bbbrun.compose(*FAST, f"dataset.path={folder / 'codes.csv'}", "dataset.target=y"), folder / "run")


def test_a_row_means_the_same_whatever_its_file_holds_else(coded, run_in, tmp_path):
    rows = {"01": "01,0.5\n", "1": "1,0.5\n", "TRUE": "TRUE,0.5\n", "false": "false,0.5\n"}
    files = {"all.csv": "".join(rows.values())} | {f"{name}.csv": row * 2 for name, row in rows.items()}
    tables = {}
    for name, content in files.items():
        (tmp_path / name).write_text("code,size\n" + content)
        done = run_in(tmp_path, "predict", str(coded.folder), name, "-o", f"out_{name}", "--draws", "3")
        assert done.returncode == 0, done.stderr
        tables[name] = pd.read_csv(tmp_path / f"out_{name}")
    assert len(set(tables["all.csv"]["mean"])) == 4
    for number, name in enumerate(rows):
        alone = tables[f"{name}.csv"].iloc[0]
        np.testing.assert_allclose(alone, tables["all.csv"].iloc[number], rtol=1e-5)


def test_levels_are_matched_by_text_then_by_value():
    levels = ["01", "1", "TRUE", "x"]
    assert list(positions(pd.Series(["1", "01", "x"]), levels)) == [1, 0, 3]
    assert list(positions(pd.Series([1.0, 1.0]), levels)) == [1, 1]
    assert list(positions(pd.Series(["1.0", "true"]), levels)) == [1, 2]
    assert list(positions(pd.Series([True]), levels)) == [2]
    with pytest.raises(ValueError, match="'001' is not among"):
        positions(pd.Series(["001"]), levels)


def test_columns_of_numbers_that_stand_for_kinds_keep_their_zeros(tmp_path):
    path = tmp_path / "zip.csv"
    path.write_text("zip,y\n" + "".join(f"{code},{number / 7}\n" for number, code in enumerate(["012", "12"] * 20)))
    assert load_table(options(path, "dataset.categorical=[zip]")).form.features[0].levels == ("012", "12")


# name -> (the file, words, what the line says)
UNFIT = {
    "twice": ("a,a,y\n" + "1,2,3\n" * 9, (), "has the column 'a' twice"),
    "constant": ("a,y\n" + "".join(f"{k},5.5\n" for k in range(20)), (), "one value alone, '5.5'"),
    "constant in training": (
        "a,y,part\n" + "".join(f"{k},{k if k > 15 else 5.5},{'train' if k < 16 else 'test'}\n" for k in range(20)),
        ("dataset.split_column=part", "dataset.kind=regression"),
        "one value alone, '5.5'",
    ),
    "endless class": ("a,y\n" + "1,0\n2,1\n" * 9 + "1,inf\n", (), "column 'y' has a value that is not finite"),
    "huge": ("a,y\n" + "1,0.5\n2,1\n" * 9 + "1,1e308\n", (), "beyond 1e150"),
    "huge in the test part": (
        "a,y,part\n" + "".join(f"{k},{k}.5,train\n" for k in range(9)) + "1,1e100,test\n",
        ("dataset.split_column=part",),
        "column 'y': 1e+100 is more than 1e+15 standard deviations",
    ),
    "empty in training": (
        "a,b,y,part\n" + "".join(f"{k},,{k}.5,train\n" for k in range(9)) + "1,2,3.5,test\n",
        ("dataset.split_column=part", "dataset.missing=mean"),
        "column 'b' has no value in the training part",
    ),
    "commas": ('a,y\n"1,5",1\n"2,5",2.5\n' * 9, (), "column 'a' has decimal commas"),
    "all ignored": ("a,y\n" + "1,0.5\n2,1\n" * 9, ("dataset.ignore=[a]",), "no column left beside the target 'y'"),
    "one text": ("a,y\n" + "1,0.5\n2,1\n" * 9 + "1,?\n", (), "say dataset.kind=classification"),
    "missing target": ("a,y\n" + "1,0.5\n2,1\n" * 9 + "1,\n", (), "dataset.missing=drop leaves their rows out"),
    "blank": ("a,y\n\n\n", (), "has no rows"),
    "other key": ("a,y\n1,2\n", ("dataset.valid_path=none.csv",), "dataset.valid_path=none.csv: there is no file"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_learnt_is_refused_in_a_line(tmp_path, name):
    content, words, message = UNFIT[name]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        load_table(options(tmp_path / "t.csv", *words))
    assert message in str(error.value)
    assert ("mean" in str(error.value)) == (name in ("huge in the test part",))


def test_csv_files_are_read_as_they_come(tmp_path):
    path = tmp_path / "t.csv"
    for content in (
        "\n\na,b\n1,x\n2,y\n",  # blank lines first
        'a,"b"\n1,"x"\n2,y\n',
        "a,b\r1,x\r2,y\r",  # lone carriage returns
        "a,b\r\n1,x\r\n\r\n2,y",
    ):
        path.write_bytes(content.encode())
        assert read_table(path, None).to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}, content
    path.write_text('"a\nb",c\n1,"x\ny"\n2,z\n')  # a line's end within a name and a value
    assert read_table(path, None).to_dict("list") == {"a\nb": [1, 2], "c": ["x\ny", "z"]}
    path.write_text("1,2\n3,4\n")  # no header
    assert list(read_table(path, None)) == ["1", "2"]
    [frame] = csv_frames(path).chunks(9)
    assert isinstance(frame.columns, pd.RangeIndex)


def test_whole_numbers_beyond_64_bits_are_numbers(tmp_path):
    path = tmp_path / "wei.csv"
    path.write_text("a,b,y\n" + "".join(f"{10**21 if k == 7 else k},{k % 3 == 0},{k}.5\n" for k in range(40)))
    frame = read_table(path, None)
    assert frame["a"].tolist() == [float(10**21 if k == 7 else k) for k in range(40)]
    assert frame["b"].dtype == bool
    features = load_table(options(path)).form.features
    assert [(each.name, each.levels != ()) for each in features] == [("a", False), ("b", True)]


def test_long_codes_are_not_made_equal(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("a,b,y\n" + "".join(f"{10**24 + k % 3},{10**400 + k},{k}.5\n" for k in range(40)))
    frame = read_table(path, None)
    assert (frame["a"].nunique(), frame["b"].nunique()) == (3, 40)
    [code, *_] = load_table(options(path, "dataset.ignore=[b]")).form.features
    assert code.levels == tuple(str(10**24 + k) for k in range(3))


def test_parquet_has_the_columns_that_pandas_took_for_row_names(tmp_path):
    path = tmp_path / "t.parquet"
    table = pd.DataFrame({"a": [5, 2, 7], "b": [3, 4, 6]})
    table.set_index("a").to_parquet(path)
    assert set(read_table(path, None)) == {"a", "b"}
    table.iloc[::-1].to_parquet(path)  # row numbers without a name
    assert list(read_table(path, None)) == ["a", "b"]
    pd.DataFrame({"a": [[1], [2]]}).to_parquet(path)
    with pytest.raises(UserError, match="column 'a' holds list"):
        read_table(path, None)
    content = bytearray(table.to_parquet())
    content[4:30] = b"\xff" * 26
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet is no Parquet file that can be read: [^\n]*$"):
        read_table(path, None)


def _npy(header):
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(80)


DAMAGED = {
    "brackets": _npy("{'descr': '<f8', ((((\n"),
    "indent": _npy("\n  {'descr': '<f8'\n"),
    "overflow": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1" + "0" * 26 + ", 64), }\n"),
    "negative": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, 64), }\n"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_arrays_that_are_damaged_are_refused(tmp_path, name):
    (tmp_path / "a.npy").write_bytes(DAMAGED[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", DAMAGED[name])
    with pytest.raises(UserError, match="no NPY file of numbers, or damaged"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(UserError, match="no NPZ file of numbers, or damaged"):
        read_npz(tmp_path / "a.npz", ("x",))


def test_arrays_of_another_kind_than_their_name_says_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "b.npy")
    with pytest.raises(UserError, match="no NPY file of numbers"):
        read_npy(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.zeros(3))
    (tmp_path / "c.npy").rename(tmp_path / "d.npz")
    with pytest.raises(UserError, match="no NPZ file of numbers"):
        read_npz(tmp_path / "d.npz", ("x",))


def test_arrays_of_other_machines_are_read(tmp_path):
    values = np.array([[1.0, 2], [3, 4]])
    np.save(tmp_path / "a.npy", values.astype(">f8"))
    np.savez(tmp_path / "a.npz", x=values.astype(">f4"), y=np.array([5, 6], ">i4"))
    assert read_table(tmp_path / "a.npy", None).to_numpy().tolist() == values.tolist()
    assert read_table(tmp_path / "a.npz", "y").to_numpy().tolist() == [[1, 2, 5], [3, 4, 6]]


def test_an_output_never_replaces_what_is_not_its_own(coded, run_in, tmp_path):
    (tmp_path / "new.csv").write_text("code,size\n01,0.5\n")
    (tmp_path / "out.csv.tmp").write_text("mine")
    run = str(coded.folder)
    before = (coded.folder / "checkpoint.pt").read_bytes()
    (tmp_path / "link.xml").symlink_to(coded.folder / "metrics.csv")
    for words, message in (
        (("predict", run, "new.csv", "-o", f"{run}/metrics.csv"), "is a file of a run: name another"),
        (("export", run, "-o", f"{run}/checkpoint.pt"), "is a file of a run: name another"),
        (("evaluate", run, "--on", "test", "-o", run), "is the folder of a run: name another"),
        (
            ("check", run, "--json", f"{run}/summary.json"),
            f"--json {run}/summary.json is a file of a run: name another",
        ),
        (("check", run, "--junit", "link.xml"), "is a file of a run: name another"),
        (("check", run, "--json", f"{run}/.hydra/config.yaml"), "is a file of a run: name another"),
        (("export", run, "-o", f"{run}/.hydra/net.pt"), "is a file of a run: name another"),
        (("report", run, "--by", "seed", "-o", run), "is the folder of a run: name another"),
        (("log", run, "--to", "tensorboard", "-o", run), "is the folder of a run: name another"),
        (("export", run, "-o", "."), "--output must end in .pt or .pt2, not ."),
        (("predict", run, "new.csv", "-o", "."), "--output must end in .csv or .parquet, not ."),
    ):
        done = run_in(tmp_path, *words)
        assert done.returncode == 1, words
        assert message in done.stderr.splitlines()[-1]
    assert (coded.folder / "checkpoint.pt").read_bytes() == before
    assert run_in(tmp_path, "predict", run, "new.csv", "-o", "out.csv", "--draws", "2").returncode == 0
    assert (tmp_path / "out.csv.tmp").read_text() == "mine"
    done = run_in(tmp_path, "check", run, "--json", ".")
    assert (done.returncode, "--json takes a file, and . is a folder" in done.stderr) == (2, True)
    for ending in ("pt", "py"):
        (tmp_path / f"link.{ending}").symlink_to(tmp_path / f"real.{ending}")
    assert run_in(tmp_path, "export", run, "-o", "link.pt").returncode == 0
    assert all((tmp_path / f"link.{ending}").is_symlink() for ending in ("pt", "py"))
    assert "link.pt" in (tmp_path / "real.py").read_text()
    os.mkfifo(tmp_path / "net.py")
    done = run_in(tmp_path, "export", run, "-o", "net.pt")
    assert done.returncode == 1
    assert "is not bbbrun's: name another file" in done.stderr


def test_predictions_that_are_no_numbers_are_refused(coded, run_in, tmp_path):
    (tmp_path / "far.csv").write_text("code,size\n01,0.5\n01,1e308\n")
    done = run_in(tmp_path, "predict", str(coded.folder), "far.csv", "-o", "out.csv", "--draws", "2")
    assert done.returncode == 1
    assert "far.csv: row 2: its prediction is no finite number" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.csv").exists()


def test_evaluation_writes_nothing_unless_all_its_files_can_be_judged(coded, run_in, tmp_path):
    (tmp_path / "good.csv").write_text("code,size,y\n01,0.5,1\n")
    (tmp_path / "bad.csv").write_text("code,size,y\n02,0.5,1\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "good.csv").write_text("code,size,y\n1,0.5,1\n")
    for files, message in (
        (("good.csv", "bad.csv"), "'02' is not among"),
        (("good.csv", "other/good.csv"), "two files are called good.csv"),
    ):
        done = run_in(tmp_path, "evaluate", str(coded.folder), "--on", *files, "-o", "out")
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert message in line
        assert not (tmp_path / "out").exists()
