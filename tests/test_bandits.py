import math
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats

from bbbrun.data.bandit import Bandit, RewardNoise, load_bandit, reward_noise, visits
from bbbrun.data.download import Checksum
from bbbrun.data.mushroom import load_mushrooms
from bbbrun.data.wheel import wheel_contexts, wheel_expected
from bbbrun.errors import UserError
from bbbrun.schema.config import composed

FILE = "agaricus-lepiota.data"
PASS, EAT = 0, 1


def dataset(*words):
    """The data set's configuration as the command line composes it."""
    return OmegaConf.to_object(composed(words).dataset)


@pytest.fixture
def mushroom_root() -> Path:
    """The folder of the real data, from BBBRUN_DATA."""
    root = os.environ.get("BBBRUN_DATA")
    if not root or not (Path(root) / "mushroom" / FILE).is_file():
        pytest.skip(f"BBBRUN_DATA does not name a folder that holds mushroom/{FILE}")
    return Path(root)


@pytest.fixture
def mushrooms(mushroom_root) -> Bandit:
    return load_bandit(dataset("dataset=mushroom", f"dataset.root={mushroom_root}"), seed=0, steps=1)


@pytest.fixture
def published(monkeypatch) -> str:
    """A file of the same format, 300 mushrooms, that passes for the published one."""
    draw = random.Random(0)
    letters = ["ep", "bcx", *["kn"] * 9, "?be", *["ow"] * 11]
    text = "".join(",".join(draw.choice(some) for some in letters) + "\n" for _ in range(300))
    monkeypatch.setattr("bbbrun.data.mushroom._CHECKSUM", Checksum("sha256", sha256(text.encode()).hexdigest()))
    return text


@pytest.fixture
def small(published, tmp_path) -> Bandit:
    """The bandit of those 300 mushrooms."""
    (tmp_path / FILE).write_text(published)
    return load_bandit(dataset("dataset=mushroom", f"dataset.root={tmp_path}"), seed=0, steps=1)


@pytest.fixture
def offer(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Make mirrors of a local server's files, which are those of a folder `server`."""
    (tmp_path / "server").mkdir()
    # Away from the user's proxy and data.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("BBBRUN_DATA", raising=False)
    handler = partial(SilentHandler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        yield lambda *names: monkeypatch.setattr("bbbrun.data.mushroom._MIRRORS", [address + name for name in names])
        server.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_the_real_mushrooms(mushroom_root, mushrooms):
    assert mushrooms.contexts.shape == (8124, 117)
    assert mushrooms.contexts.dtype == torch.float32
    assert mushrooms.edible.sum() == 4208
    assert (~mushrooms.edible).sum() == 3916
    assert torch.equal(mushrooms.contexts.sum(dim=1), torch.full((8124,), 22.0))
    assert torch.equal(mushrooms.contexts.unique(), torch.tensor([0.0, 1.0]))
    rows = [line.split(",") for line in (mushroom_root / "mushroom" / FILE).read_text().splitlines()]
    assert mushrooms.edible.tolist() == [row[0] == "e" for row in rows]
    # All 2,160 that smell foul are poisonous, all 400 that smell of almonds edible; the fifth feature is the odour.
    foul, almond = (torch.tensor([row[5] == letter for row in rows]) for letter in "fa")
    assert (foul.sum(), mushrooms.edible[foul].sum()) == (2160, 0)
    assert (almond.sum(), mushrooms.edible[almond].sum()) == (400, 400)
    dummies = pd.get_dummies(pd.DataFrame(rows).loc[:, 1:], dtype="float32")
    assert torch.equal(mushrooms.contexts, torch.tensor(dummies.to_numpy()))
    assert mushrooms.contexts[:, list(dummies).index("11_?")].sum() == 2480


def test_the_real_expected_regret_by_hand(mushrooms):
    regret = mushrooms.oracle()[:, None] - mushrooms.expected
    assert regret[:, EAT].sum() == 15 * 3916
    assert regret[:, PASS].sum() == 5 * 4208
    # Per 50,000 interactions: eat nothing 129.5k, at random 245.5k.
    assert 50_000 * regret[:, PASS].mean() == pytest.approx(129_493, abs=1)
    assert 50_000 * regret.mean() == pytest.approx(245_507, abs=1)


def test_one_input_for_each_letter_of_a_feature_in_order(published, small):
    rows = [line.split(",") for line in published.splitlines()]
    pairs = [(column, letter) for column in range(1, 23) for letter in sorted({row[column] for row in rows})]
    assert small.contexts.tolist() == [[float(row[column] == letter) for column, letter in pairs] for row in rows]
    assert (11, "?") in pairs
    assert small.edible.tolist() == [row[0] == "e" for row in rows]


@pytest.mark.parametrize("place", [FILE, f"mushroom/{FILE}"])
@pytest.mark.parametrize("key", ["dataset.root", "BBBRUN_DATA"])
def test_a_file_in_either_place_is_read_and_nothing_is_written(published, tmp_path, monkeypatch, place, key):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(published)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("BBBRUN_DATA", str(tmp_path) if key == "BBBRUN_DATA" else "")
    contexts, edible = load_mushrooms(str(tmp_path) if key == "dataset.root" else None)
    assert sorted(tmp_path.rglob("*")) == before
    table = pd.read_csv(StringIO(published), header=None)
    assert edible.tolist() == (table[0] == "e").tolist()
    assert contexts.shape == (300, 3 + 9 * 2 + 3 + 11 * 2)


def test_the_first_mirror_that_has_the_file_is_used_and_only_once(published, tmp_path, monkeypatch, offer):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "server" / "page.html").write_text("moved")
    with zipfile.ZipFile(tmp_path / "server" / "mushroom.zip", "w") as packed:
        packed.writestr("Index", "other")
        packed.writestr(FILE, published)
    offer("nowhere", "page.html", "mushroom.zip")
    contexts, edible = load_mushrooms(None)
    folder = tmp_path / "cache" / "bbbrun" / "mushroom"
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert (folder / FILE).read_text() == published
    offer()
    assert all(map(torch.equal, load_mushrooms(None), (contexts, edible)))


def test_a_bandit_without_its_file_leaves_no_run(bbbrun, tmp_path):
    (tmp_path / "mushroom").mkdir()
    (tmp_path / "mushroom" / FILE).write_text("no mushrooms")
    result = bbbrun("experiment=bandit", f"dataset.root={tmp_path}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert FILE in line
    assert not list(tmp_path.rglob("metrics.csv"))


def test_a_download_that_fails_is_one_line_and_leaves_nothing(published, tmp_path, offer, monkeypatch):
    (tmp_path / "server" / "half").write_text(published[:1000])
    with zipfile.ZipFile(tmp_path / "server" / "other.zip", "w") as packed:
        packed.writestr("Index", "other")
    offer("nowhere", "half", "other.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "bbbrun"
    with pytest.raises(UserError) as raised:
        load_mushrooms(None)
    line = str(raised.value)
    assert line.startswith(f"{root / 'mushroom' / FILE} is missing and could not be downloaded (")
    reasons = ("404", "half has other content than SHA256 ", "no item named", "dataset.root or $BBBRUN_DATA")
    assert all(reason in line for reason in reasons)
    assert "\n" not in line
    assert list(root.rglob("*")) == [root / "mushroom"]


def test_without_a_network_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # The discard port, where nothing answers.
    monkeypatch.setattr("bbbrun.data.mushroom._MIRRORS", ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"])
    monkeypatch.delenv("BBBRUN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=rf"{FILE} is missing and could not be downloaded \(<[^<]*refused>\): connect"):
        load_mushrooms(None)


def test_a_corrupt_file_and_a_missing_folder_are_named(published, tmp_path, monkeypatch):
    (tmp_path / FILE).write_text(published.replace("e", "p", 1))
    with pytest.raises(UserError, match=rf"{FILE} is not the published file .* in place of SHA256 .*name another"):
        load_mushrooms(str(tmp_path))
    with pytest.raises(UserError, match=rf"^dataset\.root: there is no folder nowhere; .* holds mushroom/{FILE}"):
        load_mushrooms("nowhere")
    monkeypatch.setenv("BBBRUN_DATA", "nowhere")
    with pytest.raises(UserError, match=r"^BBBRUN_DATA: there is no folder nowhere"):
        load_mushrooms(None)


def test_the_published_checksum_is_the_one_that_counts(tmp_path):
    (tmp_path / FILE).write_text("e,x\n")
    with pytest.raises(UserError, match="SHA256 e65d082030501a3e"):
        load_mushrooms(str(tmp_path))


def test_expected_regret_by_hand(small):
    edible, poisonous = small.edible, ~small.edible
    regret = small.oracle()[:, None] - small.expected
    assert torch.equal(small.oracle(), 5.0 * edible)
    assert regret[:, EAT].sum() == 15 * poisonous.sum()
    assert regret[:, PASS].sum() == 5 * edible.sum()
    # At random: half of either. Knowing the answer: none.
    assert regret.mean(dim=1).sum() == 7.5 * poisonous.sum() + 2.5 * edible.sum()
    knowing = torch.where(edible, EAT, PASS)
    assert torch.equal(regret.gather(1, knowing[:, None]), torch.zeros(300, 1))


def test_rewards_are_the_papers_and_on_average_the_expected_ones(small):
    steps = 200_000
    rows = visits(dataset("dataset=mushroom"), seed=3, steps=steps, rows=300)
    xi = reward_noise(small.noise, seed=3, steps=steps)
    eaten = small.rewards(rows, torch.full((steps,), EAT), xi)
    edible = small.edible[rows]
    assert eaten[edible].unique().tolist() == [5]
    assert eaten[~edible].unique().tolist() == [-35, 5]
    assert small.rewards(rows, torch.full((steps,), PASS), xi).unique().tolist() == [0]
    assert abs(eaten[~edible].mean() + 15) < 4 * 20 / math.sqrt((~edible).sum())


def test_other_stakes(published, tmp_path):
    (tmp_path / FILE).write_text(published)
    words = (f"dataset.root={tmp_path}", "dataset.edible_reward=1", "dataset.poisonous_rewards=[-2,3]")
    bandit = load_bandit(dataset("dataset=mushroom", *words), seed=0, steps=1)
    rows, eat = torch.arange(300), torch.full((300,), EAT)
    for xi, poisonous in ((-1.0, 3.0), (1.0, -2.0)):
        rewards = bandit.rewards(rows, eat, torch.full((300,), xi))
        assert torch.equal(rewards, torch.where(bandit.edible, 1.0, poisonous))


def test_mushrooms_are_visited_uniformly_with_repetition():
    config = dataset("dataset=mushroom")
    rows = visits(config, seed=1, steps=400_000, rows=8124)
    assert stats.chisquare(rows.bincount(minlength=8124).numpy()).pvalue > 1e-3
    # No order: pairs of neighbours, by quarter of the file, are uniform too.
    quarter = rows // 2031
    assert stats.chisquare((4 * quarter[:-1:2] + quarter[1::2]).bincount(minlength=16).numpy()).pvalue > 1e-3
    assert torch.equal(visits(config, seed=1, steps=1000, rows=8124), rows[:1000])
    assert (visits(config, seed=2, steps=1000, rows=8124) == rows[:1000]).sum() < 10


@pytest.mark.parametrize("noise", RewardNoise)
def test_reward_noise_has_mean_0_and_variance_1_and_depends_on_seed_step_and_draw(noise):
    size = 100_000
    xi = reward_noise(noise, seed=1, steps=size)
    assert abs(xi.mean()) < 4 / math.sqrt(size)
    assert abs(xi.square().mean() - 1) < 4 * math.sqrt(2 / size)
    if noise is RewardNoise.coin:
        assert xi.unique().tolist() == [-1, 1]
    else:
        assert stats.kstest(xi.numpy(), "norm").pvalue > 1e-3
    assert torch.equal(reward_noise(noise, seed=1, steps=999), xi[:999])
    for other in (reward_noise(noise, 2, size), reward_noise(noise, 1, size, draw=1)):
        assert abs((xi * other).mean()) < 4 / math.sqrt(size)


def test_what_is_shown_says_nothing_about_the_reward():
    size = 100_000
    xi = reward_noise(RewardNoise.coin, seed=1, steps=size)
    rows = visits(dataset("dataset=mushroom"), seed=1, steps=size, rows=2)
    assert abs((xi * (2.0 * rows - 1)).mean()) < 4 / math.sqrt(size)


def test_the_wheels_best_action_in_each_quadrant():
    places = [[0.7, 0.7], [0.7, -0.7], [-0.7, 0.7], [-0.7, -0.7], [0.5, 0.5], [-0.94, 0.0], [0.0, 0.0]]
    expected = wheel_expected(torch.tensor(places), dataset("dataset=wheel"))
    assert expected.argmax(dim=1).tolist() == [1, 2, 3, 4, 0, 0, 0]
    low = 1.0
    for row, best in enumerate([1, 2, 3, 4]):
        by_hand = [1.2, *(50.0 if action == best else low for action in range(1, 5))]
        assert expected[row].tolist() == pytest.approx(by_hand)
    for row in (4, 5, 6):
        assert expected[row].tolist() == pytest.approx([1.2, low, low, low, low])


def test_the_wheels_contexts_are_uniform_on_the_disk():
    size = 100_000
    contexts = wheel_contexts(seed=5, size=size)
    radius, angle = contexts.norm(dim=1), torch.atan2(contexts[:, 1], contexts[:, 0])
    assert radius.max() <= 1
    # r has density 2 r: mean 2/3, variance 1/18, and P(r <= delta) = delta^2.
    assert abs(radius.mean() - 2 / 3) < 4 / math.sqrt(18 * size)
    for delta in (0.5, 0.95):
        inside = delta**2
        assert abs((radius <= delta).double().mean() - inside) < 4 * math.sqrt(inside * (1 - inside) / size)
    assert stats.kstest(angle.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack((radius, angle)))[0, 1]) < 4 / math.sqrt(size)
    assert torch.equal(wheel_contexts(seed=5, size=99), contexts[:99])
    assert not torch.isclose(wheel_contexts(seed=6, size=99), contexts[:99]).any()


def test_the_wheel_shows_each_context_once_and_pays_with_its_deviation():
    config, steps = dataset("dataset=wheel", "dataset.delta=0.5"), 20_000
    bandit = load_bandit(config, seed=2, steps=steps)
    rows = visits(config, seed=2, steps=steps, rows=len(bandit.contexts))
    assert torch.equal(rows, torch.arange(steps))
    assert bandit.contexts.shape == (steps, 2)
    assert bandit.edible is None
    assert bandit.noise is RewardNoise.normal
    outside = bandit.contexts.norm(dim=1) > 0.5
    assert torch.equal(bandit.oracle(), torch.where(outside, 50.0, 1.2))
    xi = reward_noise(bandit.noise, seed=2, steps=steps)
    for action in range(5):
        error = bandit.rewards(rows, torch.full((steps,), action), xi) - bandit.expected[:, action]
        assert abs(error.mean()) < 4 * 0.01 / math.sqrt(steps)
        assert error.std() == pytest.approx(0.01, rel=0.03)


WRONG = [
    ("wheel", "delta=0", "dataset.delta must be above 0 and below 1, not 0.0"),
    ("wheel", "delta=1", "dataset.delta must be above 0 and below 1, not 1.0"),
    ("wheel", "mu1=0.5", "dataset.mu1 must be between dataset.mu2 = 1.0 and dataset.mu3 = 50.0, not 0.5"),
    ("wheel", "mu3=nan", "dataset.mu3 must be from -1e15 to 1e15, not nan"),
    ("wheel", "sigma=-1", "dataset.sigma must be from 0 to 1e15, not -1.0"),
    ("mushroom", "poisonous_rewards=[5]", "dataset.poisonous_rewards must be a list of two numbers, not [5.0]"),
    ("mushroom", "poisonous_rewards=[5,inf]", "dataset.poisonous_rewards must be from -1e15 to 1e15, not inf"),
    ("mushroom", "edible_reward=nan", "dataset.edible_reward must be from -1e15 to 1e15, not nan"),
]


@pytest.mark.parametrize(("name", "word", "expected"), WRONG, ids=[f"{name} {word}" for name, word, _ in WRONG])
def test_wrong_numbers_are_named_with_what_they_may_be(name, word, expected):
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        dataset(f"dataset={name}", f"dataset.{word}")


def test_the_command_line_says_so_in_one_line(bbbrun):
    for words, expected in (
        ("dataset=wheel dataset.delta=1", "dataset.delta must be above 0 and below 1, not 1.0"),
        (
            "dataset=wheel dataset.root=.",
            "unknown key 'dataset.root': the dataset chosen takes delta, mu1, mu2, mu3, name, sigma",
        ),
        (
            "dataset=mushroom dataset.name=wheel",
            "dataset.name must be that of the option chosen by dataset=..., not wheel",
        ),
    ):
        result = bbbrun(*words.split())
        assert result.returncode == 1
        assert result.stderr == f"bbbrun: error: {expected}\n"
