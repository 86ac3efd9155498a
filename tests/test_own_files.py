"""A user's own YAML in --config-dir: used, or refused in one line that names the file and the remedy."""

from pathlib import Path

import bbbrun.configs
import pytest
import yaml

from bbbrun.errors import UserError
from bbbrun.schema.own_files import own_folders, require_sound

GOOD = "\n# @package _global_\n# mine\nname: mine\ntrain: {epochs: 1}\nnetwork: {hidden: [4]}\n"
BUILT_IN = Path(str(bbbrun.configs.__file__)).parent


def written(folder: Path, content: str | bytes, name: str = "experiment/mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", [str(path.relative_to(BUILT_IN)) for path in BUILT_IN.rglob("*.yaml")])
def test_a_file_that_would_be_passed_over_is_refused(tmp_path, name):
    path = written(tmp_path, GOOD, name)
    with pytest.raises(UserError, match="passed over: give it a name of its own") as refusal:
        require_sound([tmp_path], [])
    assert str(refusal.value).startswith(f"{path} has the name")


BROKEN = {
    "empty": ("", "is empty"),
    "only comments": ("# @package _global_\n", "is empty"),
    "a list": ("# @package _global_\n- a\n", "holds no keys and values but a list"),
    "a word": ("# @package _global_\nmine\n", "holds no keys and values but the word 'mine'"),
    "no package": (GOOD.replace("# @package _global_\n", ""), "first line # @package _global_"),
    "a package too late": ("name: mine\n# @package _global_\n", "first line # @package _global_"),
    "a comment above the package": ("# mine\n# @package _global_\nname: mine\n", "first line # @package _global_"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark"),
    "UTF-16": (GOOD.encode("utf-16"), "byte order mark"),
    "Latin-1": (GOOD.encode() + "# Universität\n".encode("latin-1"), "is not UTF-8 in line 7"),
    "a tab": ("# @package _global_\nname:\n\tmine: 1\n", "is not YAML in line 3"),
    "settings of Hydra that are nothing": (GOOD + "hydra: null\n", "hydra must hold keys and values"),
    "settings of Hydra that are a list": (GOOD + "hydra: [a]\n", "hydra must hold keys and values"),
    "an open bracket": ("# @package _global_\nname: [\n", "is not YAML"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_wrong_file_that_is_chosen_is_one_line_that_names_it(tmp_path, kind):
    content, expected = BROKEN[kind]
    path = written(tmp_path, content)
    require_sound([tmp_path], ["experiment=digits", "seed=1"])
    for text in ("experiment=mine", "experiment=digits,mine", "+experiment=[mine]", "experiment='mine'"):
        with pytest.raises(UserError, match=expected) as refusal:
            require_sound([tmp_path], [text])
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("default", "name"),
    [
        ("theirs", "experiment/theirs.yaml"),
        ("{override /prior: wide}", "prior/wide.yaml"),
        ("{override /prior@prior: wide.yaml}", "prior/wide.yaml"),
        ("{/prior: [gaussian, wide]}", "prior/wide.yaml"),
        ("/prior/wide", "prior/wide.yaml"),
        ("{optional inner: deep}", "experiment/inner/deep.yaml"),
        ("second", "dataset/odd.yaml"),
    ],
)
def test_a_wrong_file_that_a_chosen_one_names_is_found_and_no_other_is(tmp_path, default, name):
    written(tmp_path, "- a\n", "experiment/unused.yaml")
    written(tmp_path, "# @package _global_\ndefaults: [mine, {/dataset: odd}]\n", "experiment/second.yaml")
    written(tmp_path, GOOD.replace("name:", f"defaults: [digits, {default}, _self_]\nname:"))
    require_sound([tmp_path], ["experiment=mine"])
    path = written(tmp_path, "- a\n", name)
    for words, primary in ((["experiment=mine"], None), (["experiment=second"], None), (["seed=1"], "own")):
        written(tmp_path, "defaults: [bbbrun, {experiment: mine}]\n", "own.yaml")
        with pytest.raises(UserError, match="holds no keys and values but a list") as refusal:
            require_sound([tmp_path], words, primary)
        assert str(path) in str(refusal.value)
    require_sound([tmp_path], ["experiment=digits"])


def test_sound_files_pass(tmp_path):
    written(tmp_path, GOOD)
    written(tmp_path, "defaults: [/schema/prior@_here_: gaussian, _self_]\nname: gaussian\n", "prior/wide.yaml")
    require_sound([tmp_path, BUILT_IN, tmp_path / "absent"], ["experiment=mine", "prior=wide", "~x", "name=a=b"])


def test_folders_are_those_of_the_flag_and_of_the_search_path():
    words = ["seed=1", "hydra.searchpath=[file:///a b,'c,d',pkg://e]"]
    assert own_folders("own", words) == [Path("own"), Path("/a b"), Path("c,d")]
    assert own_folders(None, ["hydra.searchpath=[", "hydra.searchpath=null"]) == []


def test_help_composes_and_lists_them(bbbrun, tmp_path):
    written(tmp_path / "own", GOOD)
    written(tmp_path / "others", GOOD.replace("epochs: 1", "epochs: 7"), "experiment/yours.yaml")
    also = f"hydra.searchpath=[file://{tmp_path}/others]"
    for flags, choice, epochs in (
        (["--config-dir", "own"], "mine", 1),
        (["--config-dir", "own", also], "mine", 1),
        (["--config-dir", "own", also], "yours", 7),
        ([also], "yours", 7),
    ):
        result = bbbrun("--help", f"experiment={choice}", *flags)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"\n  epochs: {epochs}\n" in result.stdout
        (experiments,) = [line for line in result.stdout.splitlines() if line.startswith("experiment: ")]
        assert ("mine" in experiments.split(": ")[1].split(", ")) == ("own" in flags)
        assert ("yours" in experiments) == (also in flags)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"experiment/digits.yaml": GOOD}, "experiment/digits.yaml has the name of a configuration of bbbrun itself"),
        ({"experiment/mine.yaml": b"\xef\xbb\xbf" + GOOD.encode()}, "begins with a byte order mark"),
        # The file that is wrong is not named on the command line, but by the one that is.
        (
            {
                "experiment/mine.yaml": GOOD.replace("name:", "defaults: [theirs, _self_]\nname:"),
                "experiment/theirs.yaml": "- a\n",
            },
            "experiment/theirs.yaml holds no keys and values but a list",
        ),
        # One that is wrong and not chosen is not blamed.
        ({"experiment/mine.yaml": GOOD + "nonsense: 1\n", "experiment/theirs.yaml": "- a\n"}, "nonsense"),
    ],
)
def test_the_command_line_says_it_in_one_line(bbbrun, tmp_path, files, expected):
    for name, content in files.items():
        written(tmp_path / "own", content, name)
    for flags in (["--config-dir", "own"], [f"hydra.searchpath=[file://{tmp_path}/own]"]):
        result = bbbrun(*flags, "experiment=mine", "compile=false", "threads=1")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
        assert expected in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("content", ["", "seed: 1\n"])
@pytest.mark.parametrize("flags", [(), ("-m",)], ids=str)
def test_a_primary_configuration_without_bbbruns_own_is_one_line(bbbrun, tmp_path, content, flags):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(content)
    result = bbbrun("--config-dir", "own", "--config-name", "mine", *flags)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert errors[0].startswith(
        "bbbrun: error: the primary configuration is not bbbrun's: its defaults must begin with"
    )
    assert "Traceback" not in result.stderr
    assert "Key 'objective'" not in result.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name: null", "In 'agent/mine': ValidationError raised while composing config: Incompatible value 'None'"),
        ("{}", "Structured config of type `AgentConfig` has missing mandatory value: name"),
    ],
)
def test_an_option_of_ones_own_without_a_name_is_one_line_with_the_key(bbbrun, tmp_path, content, expected):
    (tmp_path / "own" / "agent").mkdir(parents=True)
    (tmp_path / "own" / "agent" / "mine.yaml").write_text(content + "\n")
    result = bbbrun("--config-dir", "own", "agent=mine")
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    assert line.startswith(f"bbbrun: error: {expected}")
    assert line.endswith("(key agent.name)")
    assert line.count(expected) == 1


@pytest.mark.parametrize("path", sorted(BUILT_IN.rglob("*.yaml")), ids=lambda path: str(path.relative_to(BUILT_IN)))
def test_none_of_bbbruns_own_says_whether_it_is_a_sweep(path):
    """So that without files of the user's own only the words can."""
    content = yaml.safe_load(path.read_text()) or {}
    assert "mode" not in content.get("hydra", {})
    assert "mode" not in content or path.parts[-2] != "hydra"


@pytest.mark.parametrize("flags", [("--config-dir", "own"), ("hydra.searchpath=[file://{}/own]",)], ids=["dir", "path"])
def test_one_that_is_a_sweep_by_itself_is_run_as_one(bbbrun, tmp_path, flags):
    sweep = "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params: {seed: '0,1', train.batch_size: '100,200'}\n"
    written(tmp_path / "own", GOOD + sweep)
    flags = [flag.format(tmp_path) for flag in flags]
    words = ["experiment=mine", "compile=false", "threads=1"]
    result = bbbrun(*flags, *words)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "results" / "runs" / "mine").iterdir()
    assert result.stderr.splitlines()[-1] == f"finished: {folder} (4 jobs)"
    again = bbbrun(f"resume={folder}", *flags)
    assert (again.returncode, again.stderr) == (0, f"finished: {folder} (4 jobs)\n")
    shown = bbbrun(*flags, *words, "--cfg", "job")
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "name: mine")
    single = bbbrun(*flags, *words, "hydra.mode=RUN", "hydra.run.dir=single")
    assert single.returncode == 0, single.stderr
    assert (tmp_path / "single" / "summary.json").is_file()
    flag = f"hydra.searchpath=[file://{tmp_path}/own]"
    searched = bbbrun("search", flag, "experiment=mine", "train.batch_size=50,100", "--trials", "1")
    assert searched.returncode == 1
    assert searched.stderr.startswith("bbbrun search: error: a search's trial is one run, but hydra.mode is MULTIRUN")
    for run, more in ((tmp_path / "single", []), (folder / "0000", ["seed=0", "train.batch_size=100"])):
        alone = bbbrun(*flags, *words, *more, f"resume={run}")
        assert (alone.returncode, alone.stderr) == (0, f"already finished: {run}\n")


def test_a_relative_path_of_configurations_is_told_as_hydra_does(bbbrun):
    result = bbbrun("--config-path", "nowhere", "experiment=digits")
    assert result.returncode == 1
    assert "bbbrun/verbs/nowhere" in result.stderr.splitlines()[0].replace(".", "/")


def test_a_word_makes_a_sweep(bbbrun, tmp_path):
    words = ["network.hidden=[4]", "train.epochs=1", "compile=false", "threads=1", "name=mine"]
    for mode in ("hydra.mode=MULTIRUN", "hydra={mode:MULTIRUN}"):
        assert bbbrun(*words, mode).stderr.splitlines()[-1].endswith("(1 job)")
    assert len(list((tmp_path / "results" / "runs" / "mine").iterdir())) == 2
