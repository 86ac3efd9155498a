"""The schema's accepted and refused values; each cell of the paper is an experiment with the recorded settings."""

from collections import Counter
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbbrun.errors import UserError
from bbbrun.runs.identity import differing_on_resume, setting, whole
from bbbrun.runs.jobs import wanted
from bbbrun.schema.config import OPTIONS, Config, TrainConfig, composed, plain

CONFIGS = Path(str(resources.files("bbbrun.configs")))
RECORDS = Path(__file__).parent.parent / "results" / "paper" / "runs"


def validated(*words: str) -> Config:
    config = OmegaConf.to_object(composed(words))
    assert isinstance(config, Config)
    return config


def composed_plain(words: str) -> dict:
    return plain(composed(words.split()))


# An experiment of one cell, and the words that say the same with another experiment.
SAME = [
    ("mnist_gaussian", "mnist prior=gaussian prior.sigma=1 optimizer.lr=3e-4"),
    ("mnist_dropout", "mnist method=dropout"),
    ("mnist_mle", "mnist method=mle"),
    ("mnist_tempered", "mnist method.minibatch_weights=uniform method.temperature=0.05"),
    ("regression_mle", "regression method=mle"),
    ("bandit_greedy", "bandit method=mle"),
    ("wheel_greedy", "wheel method=mle"),
]


@pytest.mark.parametrize(("experiment", "words"), SAME)
def test_a_named_cell_is_what_the_method_by_key_composes(experiment, words):
    named, by_key = composed_plain(f"experiment={experiment}"), composed_plain(f"experiment={words}")
    assert named["name"] == experiment
    assert named == by_key | {"name": experiment}
    assert setting(named) == setting(by_key)


@pytest.mark.parametrize("path", sorted((CONFIGS / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_begins_with_its_command_and_has_its_own_name(path):
    package, command, *_ = path.read_text().splitlines()
    assert package == "# @package _global_"
    assert command.startswith("# bbbrun experiment=")
    words = command.removeprefix("# bbbrun ").replace("'", "").split()
    assert words[0] == f"experiment={path.stem}"
    assert validated(*words).name == path.stem


@pytest.mark.skipif(not RECORDS.is_dir(), reason="the records of the paper's runs are not here")
def test_the_listed_runs_are_the_recorded_ones():
    records = Counter()
    for path in RECORDS.glob("*/*/.hydra/config.yaml"):
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(config, dict)
        records[setting(config), config["seed"]] += 1
    jobs = wanted([], None)
    assert len(jobs) == 135
    assert all(records[setting(job.config), job.config["seed"]] for job in jobs)
    words = {word.partition("=")[0] for job in jobs for word in job.words}
    judged = {"method.test_samples", "method.final_samples", "train.evaluate_every"}
    assert words == {"experiment", "network.hidden", "agent.epsilon", "seed"} | judged


def test_a_run_of_an_earlier_version_is_read_in_the_words_of_this_one():
    now = composed_plain("experiment=mnist_mle")
    earlier = now | {"network": {key: value for key, value in now["network"].items() if key != "name"}}
    earlier["method"] = {"name": "sgd"}
    del earlier["precision"]
    earlier["dataset"] = {key: value for key, value in now["dataset"].items() if key != "test"}
    assert whole(earlier) == whole(now)
    assert setting(earlier) == setting(now)
    assert not differing_on_resume(earlier, now)
    # What it was given is left alone.
    assert "name" not in earlier["network"]


HUGE = 2**63

# (experiment, key, value, what the line says)
TOO_LARGE = [
    ("digits", "seed", HUGE, "from 0 to 2147483647"),
    ("digits", "threads", HUGE, "from 1 to 4096"),
    ("digits", "replicas", 10**12, "from 1 to 1000"),
    ("digits", "train.epochs", HUGE, "from 1 to 2147483647"),
    ("digits", "train.batch_size", HUGE, "from 1 to 2147483647"),
    ("digits", "train.evaluate_every", HUGE, "from 1 to 2147483647"),
    ("digits", "dataset.valid_size", HUGE, "from 0 to 2147483647"),
    ("digits", "network.hidden", [HUGE], "need at least 34359738368 GiB"),
    ("digits", "network.hidden", [10**8, 10**8], "need at least 37252903 GiB"),
    ("digits", "network.hidden", [1] * 101, "a list of at most 100 layers"),
    ("digits", "method.train_samples", 10**9, "from 1 to 65536"),
    ("digits", "method.test_samples", 10**9, "from 1 to 65536"),
    ("digits", "method.final_samples", 10**9, "from 1 to 65536"),
    ("digits", "optimizer.decay_epochs", HUGE, "from 1 to 2147483647"),
    ("regression", "dataset.grid_points", 10**11, "need at least 745 GiB"),
    ("regression", "dataset.train_points", HUGE, "need at least 68719476736 GiB"),
    ("regression", "dataset.test_points", HUGE, "need at least 68719476736 GiB"),
    ("wheel", "agent.steps", 10**12, "need at least 19557 GiB"),
    ("wheel", "agent.buffer_size", HUGE, "need at least 68719476736 GiB"),
    ("ensemble", "method.members", 10**6, "from 2 to 1000"),
    ("table", "dataset.split_seed", HUGE, "from 0 to 2147483647"),
    ("uci", "dataset.split", HUGE, "from 0 to 19"),
    ("wheel", "agent.updates", HUGE, "from 1 to 2147483647"),
]


@pytest.fixture(scope="module")
def experiments():
    return {name: composed([f"experiment={name}"]) for name in ("digits", "regression", "wheel", "table", "uci")} | {
        "ensemble": composed(["method=ensemble"])
    }


@pytest.mark.parametrize(("experiment", "key", "value", "expected"), TOO_LARGE)
def test_a_size_beyond_any_machine_is_refused_with_what_it_would_need(experiments, experiment, key, value, expected):
    for size in (value, [10**400] if isinstance(value, list) else 10**400):
        config = experiments[experiment].copy()
        OmegaConf.update(config, key, size, merge=False)
        with pytest.raises(UserError) as refused:
            OmegaConf.to_object(config)
        line = str(refused.value)
        assert len(line.splitlines()) == 1
        assert line.startswith(f"{key} must be ")
        assert size != value or expected in line


def test_every_whole_number_has_a_bound():
    bounded = {key for _, key, _, _ in TOO_LARGE}
    for group, options in OPTIONS.items():
        for kind in options.values():
            counts = {f"{group}.{field.name}" for field in fields(kind) if field.type in (int, int | None)}
            assert counts <= bounded
    assert {f"train.{field.name}" for field in fields(TrainConfig) if field.type in (int, int | None)} <= bounded


@pytest.mark.parametrize("word", ["1e5", "1.50", "-1e3", "true", "nan", "inf"])
def test_a_name_that_is_not_kept_as_it_is_written_is_refused(word):
    with pytest.raises(UserError, match=r"^name must be a "):
        validated(f"name={word}")


@pytest.mark.parametrize("word", ["2024", "run1e5", "v1.0", "e5", "1e5_again", "a.b-c"])
def test_a_name_is_kept_as_it_is_written(word):
    assert validated(f"name={word}").name == word


def test_a_method_and_its_prior_go_together():
    priors = [name for name in OPTIONS["prior"] if name != "none"]
    with pytest.raises(UserError) as refused:
        validated("prior=none")
    assert str(refused.value) == f"prior must be {' or '.join(priors)} with method=bbb, not none"
    for prior in priors:
        assert validated(f"prior={prior}").prior.name == prior
        with pytest.raises(UserError, match=rf"^prior={prior} has no effect with method=mle"):
            validated("method=mle", f"prior={prior}")


@pytest.mark.parametrize("experiment", ["mnist", "bandit"])
def test_an_empty_root_is_refused(experiment):
    with pytest.raises(UserError, match=r"^dataset\.root must be a folder, or null, not an empty word"):
        validated(f"experiment={experiment}", "dataset.root=")
    assert validated(f"experiment={experiment}", "dataset.root=null").dataset.root is None


@pytest.mark.parametrize(("key", "values"), [("prior.pi", "0.25,0.5"), ("network.init_scale", "1,2"), ("seed", "3,4")])
def test_replicas_differ_in_what_a_step_reads_as_a_tensor(key, values):
    validated(f"replicas={{{key}:[{values}]}}")
    with pytest.raises(UserError, match="sweep others with -m"):
        validated(f"replicas={{optimizer.momentum:[{values}]}}")


def test_an_experiment_of_the_users_own_composes(bbbrun, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(
        "# @package _global_\ndefaults:\n  - mnist_dropout\n  - _self_\nname: small\nnetwork:\n  hidden: [30]\n"
    )
    result = bbbrun("--config-dir", "mine", "experiment=small", "--cfg", "job")
    assert result.returncode == 0, result.stderr
    shown = OmegaConf.create(result.stdout)
    expected = composed_plain("experiment=mnist_dropout network.hidden=[30]") | {"name": "small"}
    assert OmegaConf.to_container(shown) == expected
