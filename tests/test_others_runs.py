"""A run may come from anybody: folders made to do harm are refused in one line, and nothing in them is run."""

import io
import json
import os
import pickle
import re
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bbbrun
from bbbrun.errors import UserError
from bbbrun.runs.reader import Run, read
from bbbrun.runs.record import configuration_of
from bbbrun.schema.config import option
from bbbrun.tasks.evaluation_sets import parts_of

FAST = ("network.hidden=[8]", "threads=1", "compile=false", "train.epochs=2", "train.evaluate_every=2")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return bbbrun.run(bbbrun.compose(*FAST), tmp_path_factory.mktemp("good") / "run").folder


class Harm:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def pickled(run, marker):
    torch.save({"tensors": [Harm(marker)]}, run / "checkpoint.pt")


def bare_pickle(run, marker):
    (run / "checkpoint.pt").write_bytes(pickle.dumps(Harm(marker)))


def resolver(run, marker):
    edit(run / ".hydra" / "config.yaml", "seed: 0", "seed: ${oc.env:HOME}")


def escaped_resolver(run, marker):
    """Plain text to the reader of records, an interpolation to OmegaConf."""
    edit(run / ".hydra" / "config.yaml", "init: he", "init: '\\${oc.env:HOME}'")


def own_resolver(run, marker):
    edit(run / ".hydra" / "config.yaml", "name: digits", "name: ${bbbrun.run_folder:null,x}")


def doubling(run, marker):
    lines = [f"b{number}: ${{b{number + 1}}}${{b{number + 1}}}" for number in range(60)]
    with (run / ".hydra" / "config.yaml").open("a") as file:
        file.write("\n".join([*lines, "b60: xx"]) + "\n")


def aliases(run, marker):
    lines = ["c0: &c0 [x, x]", *(f"c{n}: &c{n} [*c{n - 1}, *c{n - 1}]" for n in range(1, 60))]
    with (run / ".hydra" / "config.yaml").open("a") as file:
        file.write("\n".join(lines) + "\n")


def python_object(run, marker):
    edit(run / ".hydra" / "config.yaml", "seed: 0", f"seed: !!python/object/apply:os.system ['touch {marker}']")


def target(run, marker):
    edit(run / ".hydra" / "config.yaml", "network:\n", f"network:\n  _target_: os.system\n  command: touch {marker}\n")


def module(run, marker):
    """A network that would be made by a call of os.system."""
    path = run / ".hydra" / "config.yaml"
    before, _, rest = path.read_text().partition("network:\n")
    after = rest[re.search(r"^\w", rest, re.MULTILINE).start() :]
    own = f"network:\n  name: module\n  target: os.system\n  args: {{command: touch {marker}}}\n"
    path.write_text(f"{before}{own}  deterministic: []\n  weights: null\n{after}")


def deep_record(run, marker):
    (run / ".hydra" / "config.yaml").write_text("a: " + "[" * 100_000)


def deep_summary(run, marker):
    (run / "summary.json").write_text("[" * 100_000)


def long_record(run, marker):
    with (run / ".hydra" / "config.yaml").open("a") as file:
        file.write("#" * (1 << 21))


def wide_table(run, marker):
    (run / "metrics.csv").write_text("a," * (1 << 20) + "a\n")


def pipe(run, marker):
    (run / "checkpoint.pt").unlink()
    os.mkfifo(run / "checkpoint.pt")


def piped_summary(run, marker):
    (run / "summary.json").unlink()
    os.mkfifo(run / "summary.json")


def packed(run, marker):
    content = io.BytesIO()
    torch.save({"tensors": [torch.zeros(30_000_000), torch.zeros(30_000_000)]}, content)
    with zipfile.ZipFile(content) as plain, zipfile.ZipFile(run / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert (run / "checkpoint.pt").stat().st_size < 1_000_000


def stretched(run, marker):
    """A network of a billion weights, all of them the same number in the checkpoint."""
    edit(run / ".hydra" / "config.yaml", "hidden:\n  - 8", "hidden:\n  - 30000\n  - 30000")
    size = 65 * 30_000 + 30_001 * 30_000 + 10 * 30_001
    torch.save({"tensors": [torch.zeros(1).expand(size)] * 2}, run / "checkpoint.pt")


def huge_network(run, marker):
    edit(run / ".hydra" / "config.yaml", "hidden:\n  - 8", "hidden:\n  - 1000000\n  - 1000000")


def other_network(run, marker):
    edit(run / ".hydra" / "config.yaml", "hidden:\n  - 8", "hidden:\n  - 9")


def words(run, marker):
    torch.save({"tensors": ["mu", "rho"]}, run / "checkpoint.pt")


def infinite(run, marker):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["tensors"][0][3] = float("nan")
    torch.save(state, run / "checkpoint.pt")


# what is done to the run -> what the line says
HARM = [
    (pickled, "checkpoint.pt cannot be read"),
    (bare_pickle, "checkpoint.pt cannot be read"),
    (resolver, "config.yaml: seed holds '${oc.env:HOME}', which is not looked up"),
    (escaped_resolver, "Invalid value '${oc.env:HOME}', expected one of [he, uniform]"),
    (own_resolver, "holds '${bbbrun.run_folder:null,x}', which is not looked up"),
    (doubling, "which is not looked up"),
    (aliases, "config.yaml holds YAML aliases"),
    (python_object, "cannot be read"),
    (target, "run: network=mlp of another version of bbbrun: Key '_target_' not in 'MlpConfig'"),
    (module, "its network is os.system, code that would be imported and run: say --trust"),
    (deep_record, "cannot be read"),
    (deep_summary, "cannot be read"),
    (long_record, "bytes, and bbbrun writes at most"),
    (wide_table, "metrics.csv: its first line is longer than"),
    (pipe, "checkpoint.pt cannot be read"),
    (piped_summary, "summary.json is no regular file"),
    (packed, "checkpoint.pt cannot be read"),
    (stretched, "checkpoint.pt cannot be read"),
    (huge_network, "network.hidden must be layers of at most"),
    (other_network, "does not hold the 685 weights of the network in its record"),
    (words, "checkpoint.pt cannot be read"),
    (infinite, "its weights are not finite"),
]


@pytest.mark.parametrize(("harm", "text"), HARM, ids=[harm.__name__ for harm, _ in HARM])
def test_a_run_made_to_do_harm_is_refused(good, run_in, tmp_path, harm, text):
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(good, run)
    harm(run, marker)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8)))
    commands = ["predict run x.npy -o out.csv"]
    if harm in (pickled, resolver, target, module):
        commands += ["evaluate run --on test -o out", "export run -o out.pt"]
    if harm is module:
        commands += ["bench --variance run --rounds 2"]
    for command in commands:
        start = time.monotonic()
        done = run_in(tmp_path, *command.split())
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith(f"bbbrun {command.split()[0]}: error: "), line
        assert text in line, line
        assert len(line) < 1000
        assert "can still be loaded" not in line  # as torch advises
        assert time.monotonic() - start < 60
    assert not marker.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.npy"]


@pytest.mark.parametrize("word", ["name=${oc.env:HOME}", "hydra.searchpath=[file:///tmp/evil]", "+hydra/a=b"])
def test_words_that_look_something_up_are_not_composed(good, run_in, tmp_path, word):
    shutil.copytree(good, tmp_path / "run")
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(f"- '{word}'\n")
    done = run_in(tmp_path, "bench", "--variance", "run", "--rounds", "2")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"overrides.yaml holds '{word}', which is not looked up" in done.stderr


@pytest.mark.parametrize("text", ["cost ${EUR}", "\\${oc.env:HOME}", "a\\\\${x} ${b}", "${a:${b}}", "${"])
def test_a_text_of_a_record_is_read_as_it_stands(text):
    mnist = {"name": "mnist", "root": text, "valid_size": 10, "pixel_divisor": 126.0, "test": True}
    assert option("dataset", mnist).root == text


def test_a_report_runs_nothing_either(good, run_in, tmp_path):
    for number, harm in enumerate((pickled, resolver, python_object, aliases)):
        run = tmp_path / "runs" / str(number)
        shutil.copytree(good, run)
        harm(run, tmp_path / "marker")
    done = run_in(tmp_path, "report", "runs", "--by", "seed", "-o", "out")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("left out: ") == 3
    assert not (tmp_path / "marker").exists()


def test_the_records_folder_of_data_is_not_used(good, tmp_path):
    """It may climb out of the run's folder, or name anything on this machine."""
    config = read(good).config
    mnist = {"name": "mnist", "root": "../../etc", "valid_size": 10, "pixel_divisor": 126.0}
    run = Run(good, config | {"dataset": mnist}, {})
    [part] = parts_of(run, ["test"], str(tmp_path))
    with pytest.raises(UserError, match=str(tmp_path)):
        part.load()


def test_numbers_texts_and_keys_of_records_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1e-3\nb:\n  c: ${a}\n  d: '\\${a} and \\${oc.env:HOME}'\ne: [1, '${b.f}', x]\n")
    with pytest.raises(UserError, match=r"config.yaml: e holds '\$\{b.f\}', which is not looked up"):
        configuration_of(path)
    edit(path, "b.f", "a")
    assert configuration_of(path) == {
        "a": 1e-3,
        "b": {"c": 1e-3, "d": "${a} and ${oc.env:HOME}"},
        "e": [1, 1e-3, "x"],
    }


def test_the_good_run_is_good(good, run_in, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8)))
    assert run_in(tmp_path, "predict", str(good), "x.npy", "-o", "out.csv").returncode == 0
    assert json.loads((good / "summary.json").read_text()) == read(good).summary
