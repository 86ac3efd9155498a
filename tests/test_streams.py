"""No two uses of the noise share a value: every use has a stream of its own, and streams do not overlap."""

import itertools
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf

import bbbrun.runtime.noise
from bbbrun.bayes.estimators import Batch, Estimator, data_term
from bbbrun.bayes.networks import mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runner import Planned, run
from bbbrun.runtime.noise import Stream
from bbbrun.schema.checks import MOST_DRAWS, MOST_LAYERS
from bbbrun.schema.config import composed

WIDTH = 1 << 24
SMALL = "network.hidden=[8,8] compile=false threads=1 device=cpu "
DIGITS = SMALL + "train.epochs=3 method.test_samples=3 "
BANDIT = SMALL + "agent.steps=80 agent.updates=2 train.batch_size=4 train.evaluate_every=40 "
RUNS = [
    DIGITS,
    DIGITS + "method.train_samples=3 network.init=uniform",
    DIGITS + "method.train_samples=3 method.estimator=local",
    DIGITS + "method.train_samples=3 method.estimator=flipout prior=gaussian",
    SMALL + "train.epochs=2 method=dropout",
    SMALL + "train.epochs=2 method=mc_dropout method.test_samples=3",
    SMALL + "train.epochs=2 method=mle",
    SMALL + "experiment=regression train.epochs=2 method.final_samples=3",
    BANDIT + "experiment=wheel",
    BANDIT + "experiment=bandit",
    BANDIT + "experiment=bandit method=mle agent.epsilon=0.5",
]
# Two words for one thing, the order of the examples in an epoch: a bandit's are drawn, and it has no permutation.
TWO_WAYS = {Stream.SHUFFLE}
# A row's log densities are of the first of the draws that its predictions average. A bandit's are drawn at the number
# of the training step, where the interaction of that number draws its action (see Stream).
SHARED = {Stream.EVALUATE}


def stream(draw: int) -> Stream:
    """The one whose numbers `draw` is of."""
    return max(member for member in Stream if member <= draw)


class Recorder:
    """Stands for random_words and words_of_several, and keeps who asked for what: (seed, step, draw) -> callers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[tuple[int, int, int], list[str]] = defaultdict(list)
        self._words, self._several = bbbrun.runtime.noise.random_words, bbbrun.runtime.noise.words_of_several
        monkeypatch.setattr(bbbrun.runtime.noise, "random_words", self.words)
        monkeypatch.setattr(bbbrun.runtime.noise, "words_of_several", self.several)

    def words(self, seed, step, draw, pairs, device=None):
        self._keep(seed, step, draw)
        return self._words(seed, step, draw, pairs, device)

    def several(self, seed, step, first, pairs, device=None):
        for number in range(len(pairs)):
            self._keep(seed, step, first + number)
        return self._several(seed, step, first, pairs, device)

    def _keep(self, seed, step, draw):
        frame = sys._getframe(2)
        while frame.f_code.co_filename == bbbrun.runtime.noise.__file__:
            frame = frame.f_back
        caller = f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
        for now in torch.as_tensor(step).flatten().tolist():
            self.asked[int(seed), now, int(draw)].append(caller)

    def callers(self) -> dict[Stream, set[str]]:
        """Who asked of each stream."""
        uses: dict[Stream, set[str]] = defaultdict(set)
        for (_, _, draw), callers in self.asked.items():
            uses[stream(draw)] |= set(callers)
        return uses


@pytest.fixture
def few_mushrooms(monkeypatch):
    contexts = torch.arange(600).view(200, 3) % 2
    monkeypatch.setattr("bbbrun.data.mushroom.load_mushrooms", lambda root: (contexts.float(), contexts[:, 0] == 1))


@pytest.mark.slow
def test_each_use_has_a_stream_of_its_own_and_no_two_share_a_value(monkeypatch, few_mushrooms, tmp_path):
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)  # most of the time of runs as short as these
    users: dict[Stream, set[str]] = defaultdict(set)
    for number, words in enumerate(RUNS):
        with monkeypatch.context() as patch:
            recorder = Recorder(patch)
            run([Planned("", OmegaConf.to_object(composed(words.split())), {})], tmp_path / str(number), words, {})
        for key, callers in recorder.asked.items():
            assert len(callers) == 1 or stream(key[2]) in SHARED, (words, key, callers)
        for member, callers in recorder.callers().items():
            assert len(callers) == 1, (words, member, callers)
            users[member] |= callers
    assert {member for member, callers in users.items() if len(callers) > 1} == TWO_WAYS
    assert set(users) == set(Stream), "a stream that nothing uses"


def test_streams_differ_and_leave_room_for_each_other():
    values = [int(member) for member in Stream.__members__.values()]
    assert len(set(values)) == len(values), "two names for one value"
    assert max(values) + WIDTH <= 2**31
    counted = {
        Stream.TRAIN,
        Stream.EVALUATE,
        Stream.DROPOUT,
        Stream.REWARD,
        Stream.ACTIVATION,
        Stream.SIGN,
        Stream.MASK,
    }
    for member, following in itertools.pairwise(sorted(Stream)):
        assert member not in counted or following - member >= WIDTH


@pytest.mark.parametrize("estimator", list(Estimator))
def test_the_last_draw_of_the_deepest_network_stays_in_its_stream(monkeypatch, estimator):
    recorder = Recorder(monkeypatch)
    assert MOST_DRAWS <= WIDTH
    network = mlp(1, [1] * MOST_LAYERS, 1)
    parameters = [torch.zeros(network.size), torch.zeros(network.size)]
    batch = Batch(torch.zeros(2, 1), torch.zeros(2), torch.ones(2))
    term = data_term(estimator, network, lambda outputs, targets: outputs[:, 0] - targets)
    step = torch.zeros((), dtype=torch.int32)
    for draw in (0, 1, MOST_DRAWS - 1):
        term(DiagonalGaussian(*parameters).moments(), parameters[0], step, step, draw, batch)
    (used,) = recorder.callers() or {Stream.TRAIN}
    assert all(used <= draw < used + WIDTH and len(who) == 1 for (_, _, draw), who in recorder.asked.items())


@pytest.mark.parametrize(
    "word",
    [
        *(f"method.{name}_samples={MOST_DRAWS + 1}" for name in ("train", "test", "final")),
        f"network.hidden={[1] * (MOST_LAYERS + 1)}".replace(" ", ""),
    ],
)
def test_more_draws_or_layers_than_a_stream_has_room_for_are_refused(word):
    key = word.partition("=")[0]
    with pytest.raises(Exception, match=rf"{key} must be .*(65536|100 layers), not"):
        OmegaConf.to_object(composed([word]))
