import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from bbbrun.bayes.likelihoods import fixed_sigma, gaussian
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.data.bandit import Bandit, RewardNoise
from bbbrun.runtime.noise import Stream, standard_normal
from bbbrun.schema.config import Config, composed
from bbbrun.tasks.agent import Agent, minibatch_places
from bbbrun.tasks.tally import Tally

CPU = torch.device("cpu")
EDIBLE = torch.tensor([True, False, False, True, True])
KIND = EDIBLE.long()
MUSHROOMS = Bandit(
    torch.eye(5),
    torch.tensor([[0.0, -15], [0, 5]])[KIND],
    torch.tensor([[0.0, 20], [0, 0]])[KIND],
    RewardNoise.coin,
    EDIBLE,
)
SMALL = ["agent.buffer_size=8", "agent.updates=4", "train.batch_size=6", "network.hidden=[8]", "compile=false"]


def configured(*words: str) -> Config:
    config = OmegaConf.to_object(composed(["experiment=bandit_cold", *SMALL, *words]))
    assert isinstance(config, Config)
    return config


def played(choose, rounds=2000) -> Tally:
    """The sums of an agent that takes choose(row) on each mushroom in turn, under fair coins."""
    tally, coins = Tally(), torch.randint(2, (rounds,), generator=torch.Generator().manual_seed(0)) * 2 - 1
    for number, coin in enumerate(coins):
        row = number % 5
        action = choose(row)
        reward = MUSHROOMS.rewards(torch.tensor(row), torch.tensor(action), coin).item()
        tally = tally.after(MUSHROOMS, row, action, reward)
    return tally


def test_an_agent_that_always_knows_has_no_regret():
    tally = played(lambda row: int(EDIBLE[row]))
    assert (tally.expected_regret, tally.regret, tally.reward) == (0, 0, 5 * 1200)
    assert (tally.eaten_edible, tally.eaten_poisonous) == (1200, 0)


def test_regret_by_hand():
    # Of 2,000 mushrooms 1,200 are edible. Passing costs 5 at each of those, eating 15 at each of the others.
    nothing, everything = played(lambda _: 0), played(lambda _: 1)
    assert (nothing.expected_regret, nothing.regret, nothing.reward) == (6000, 6000, 0)
    assert everything.expected_regret == 15 * 800
    assert everything.regret == 6000 - everything.reward  # the oracle's 5 for each edible one, less what was paid
    assert everything.regret == pytest.approx(15 * 800, abs=4 * 20 * 800**0.5)
    assert (everything.eaten_edible, everything.eaten_poisonous) == (1200, 800)
    chances = torch.randint(2, (10_000,), generator=torch.Generator().manual_seed(1)).tolist()
    at_random = played(lambda _: chances.pop(), rounds=10_000)
    assert at_random.expected_regret == pytest.approx((6000 * 5 + 12_000 * 5) / 2, rel=0.03)


def test_nothing_is_eaten_of_a_wheel():
    wheel = MUSHROOMS._replace(edible=None)
    tally = Tally().after(wheel, 1, 1, -15.0)
    assert tally[:5] == (-15.0, 15.0, 15.0, 0, 0)


def test_the_shares_of_a_row_are_of_the_interactions_since_the_last_one():
    # Of five mushrooms in turn three are edible: eating all takes the oracle's action in three of five.
    tally = played(lambda row: 1, rounds=10)
    before = tally
    for row in range(5):
        tally = tally.after(MUSHROOMS, row, int(row in (0, 1)), 0.0)
    row = tally.row(before, MUSHROOMS)
    assert (row["best_action_share"], row["top_action_share"]) == (2 / 5, 3 / 5)
    assert (row["eaten_edible"], row["eaten_poisonous"], row["regret"]) == (7, 5, 3.0)
    first = before.row(Tally(), MUSHROOMS)
    assert (first["best_action_share"], first["top_action_share"]) == (3 / 5, 1.0)


@pytest.mark.parametrize(("choose", "stuck"), [(lambda row: 0, True), (lambda row: int(EDIBLE[row]), False)])
def test_a_stuck_agent_is_told_of_once(choose, stuck):
    tally, warnings = Tally(), []
    for number in range(2500):
        tally = tally.after(MUSHROOMS, number % 5, choose(number % 5), 0.0)
        warnings += [tally.warning()] if tally.warning() else []
    warning = "the agent is stuck: it took action 0 1,000 times in a row, and another was best in 600 of them"
    assert warnings == [warning] * stuck


def test_one_action_that_is_always_best_is_not_stuck():
    tally = Tally()
    for _ in range(2500):
        tally = tally.after(MUSHROOMS, 0, 1, 5.0)
        assert tally.warning() is None


def test_memory_holds_exactly_the_latest():
    agent = Agent(configured("agent.steps=21"), MUSHROOMS, CPU)
    for t in range(21):
        agent.memory.remember(t, torch.full((7,), float(t)), 100.0 + t)
        counts = sorted(agent.memory.targets[: t + 1].tolist())
        assert counts == [100.0 + past for past in range(max(0, t - 7), t + 1)]
    torch.testing.assert_close(agent.memory.inputs[:, 0], agent.memory.targets - 100)


def test_minibatches_are_drawn_uniformly_from_what_is_held():
    counts = torch.tensor([1, 2, 5, 8, 8])
    places = minibatch_places(3, 64, counts, 4000)
    for row, count in zip(places, counts.tolist(), strict=True):
        share = torch.bincount(row, minlength=count) / 4000
        assert len(share) == count
        torch.testing.assert_close(share, torch.full((count,), 1 / count), rtol=0, atol=0.03)
    assert torch.equal(minibatch_places(3, 66, counts[2:], 4000), places[2:])
    assert not torch.equal(places[3], places[4])
    assert not torch.equal(minibatch_places(4, 64, counts, 4000), places)


def test_the_likelihood_is_the_normal_density():
    outputs, targets = torch.randn(9, 1), torch.randn(9) * 5
    expected = -torch.distributions.Normal(outputs[:, 0], 2.5).log_prob(targets)
    torch.testing.assert_close(gaussian(fixed_sigma(2.5))(outputs, targets), expected)


@pytest.mark.parametrize("weights", ["uniform", "paper"])
def test_the_minibatches_of_an_interaction_carry_the_complexity_once(weights):
    agent = Agent(configured("agent.steps=99", f"method.minibatch_weights={weights}"), MUSHROOMS, CPU)
    for t in range(12):
        agent.learn(t, t % 5, t % 2, 1.0)
        assert agent.trainer.epoch.numbers[:, 0].sum().item() == pytest.approx(1, rel=1e-6)
        assert agent.trainer.epoch.order.max() < min(t + 1, 8)
        assert (agent.trainer.epoch.present == 1).all()
    assert agent.trainer.state.step == 12 * 4


def test_thompson_sampling_averages_fresh_draws():
    agent = Agent(configured("agent.steps=9", "seed=5"), MUSHROOMS, CPU)
    posterior, network = DiagonalGaussian(*agent.trainer.state.parameters), agent.network
    x = torch.cat([MUSHROOMS.contexts[2].expand(2, -1), torch.eye(2)], dim=1)
    for t in (3, 4):
        draws = [posterior.sample(standard_normal(5, t, Stream.EVALUATE + draw, network.size)) for draw in range(2)]
        expected = (network(draws[0], x) + network(draws[1], x))[:, 0] / 2
        torch.testing.assert_close(agent.values(t, 2), expected)
        assert agent.act(t, 2) == int(expected.argmax())
    assert not torch.equal(agent.values(3, 2), agent.values(4, 2))


def test_the_greedy_agent_takes_what_its_network_values_most():
    agent = Agent(configured("agent.steps=400", "method=mle"), MUSHROOMS, CPU)
    x = torch.cat([MUSHROOMS.contexts[1].expand(2, -1), torch.eye(2)], dim=1)
    expected = agent.network(agent.trainer.state.parameters[0], x)[:, 0]
    torch.testing.assert_close(agent.values(0, 1), expected)
    assert {agent.act(t, 1) for t in range(400)} == {int(expected.argmax())}


def test_epsilon_is_the_chance_of_a_random_action():
    agent = Agent(configured("agent.steps=6000", "method=mle", "agent.epsilon=0.3"), MUSHROOMS, CPU)
    greedy = int(agent.values(0, 1).argmax())
    others = sum(agent.act(t, 1) != greedy for t in range(6000)) / 6000
    assert others == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("method", ["bbb", "mle"])
def test_agents_learn_what_pays(method):
    words = ["agent.steps=100", f"method={method}", "agent.buffer_size=64", "agent.updates=8", "optimizer.lr=0.02"]
    agent, late = Agent(configured(*words), MUSHROOMS, CPU), Tally()
    for t in range(100):
        row = t % 5
        # Every action is tried at first, so that only what is learnt decides afterwards.
        action = agent.act(t, row) if t >= 50 else (t // 5) % 2
        reward = MUSHROOMS.expected[row, action].item()
        late = late.after(MUSHROOMS, row, action, reward) if t >= 50 else late
        agent.learn(t, row, action, reward)
    # Passing all would cost 150. Thompson sampling may still try what it is unsure of.
    assert late.expected_regret <= (15 if method == "bbb" else 0)


WHEEL = ["experiment=wheel", *SMALL, "agent.steps=60", "train.evaluate_every=20", "train.checkpoint_seconds=0"]


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("size", [8, 4])  # 4: less than a minibatch, which has some twice
def test_a_bandit_run_leaves_what_it_promises(bbbrun, tmp_path, size):
    result = bbbrun(*WHEEL, f"agent.buffer_size={size}", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    rows = table(tmp_path / "run")
    assert ",".join(["step", "seconds", *list(rows[0])[1:7]]) == (
        "step,seconds,reward,regret,cumulative_regret,cumulative_expected_regret,eaten_edible,eaten_poisonous"
    )
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert {row["eaten_edible"] for row in rows} == {""}
    total = sum(20 * float(row["regret"]) for row in rows)
    assert total == pytest.approx(float(rows[-1]["cumulative_regret"]), rel=1e-9)
    assert {"regret_curve.png", "regret_curve.svg"} == {path.name for path in (tmp_path / "run" / "figures").iterdir()}


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["experiment=wheel_greedy"], "agent.epsilon"),
        (["experiment=wheel", "method.rho_init=[-30,-30]"], "method.rho_init or agent.epsilon"),
    ],
)
def test_a_stuck_agent_is_told_what_explores_more(bbbrun, words, keys):
    # All actions of a network without weights are alike to it, so it takes the first.
    still = [
        "network.init_scale=1e-30",
        "network.hidden=[2]",
        "optimizer.lr=1e-12",
        "agent.updates=1",
        "compile=false",
        "threads=1",
    ]
    result = bbbrun(*words, *still, "agent.steps=1001", "train.evaluate_every=1001", "train.batch_size=1")
    assert result.returncode == 0, result.stderr
    (warning,) = [line for line in (result.stdout + result.stderr).splitlines() if "the agent is stuck" in line]
    assert warning.endswith(f" of them; a larger {keys} explores more")


KILLER = """
import os, signal, sys
import bbbrun.tasks.agent
number, learn = [0], bbbrun.tasks.agent.Agent.learn

def killing(*words):
    number[0] += 1
    if number[0] == 31:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(*words)

bbbrun.tasks.agent.Agent.learn = killing
from bbbrun.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bbb", "mle"])
def test_a_killed_bandit_run_resumes_to_the_same_end(bbbrun, tmp_path, method):
    words = [*WHEEL, f"method={method}", "agent.epsilon=0.1", "device=cpu"]
    killed = subprocess.run([sys.executable, "-c", KILLER, *words, "hydra.run.dir=run"], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [row["step"] for row in table(tmp_path / "run")] == ["20"]
    assert bbbrun(*words, "resume=run").returncode == 0
    assert bbbrun(*words, "hydra.run.dir=whole").returncode == 0
    assert table(tmp_path / "run") == table(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=wheel"], "agent must be contextual with dataset=wheel, not none"),
        (["agent=contextual"], "agent must be none with dataset=digits, not contextual"),
        (["experiment=wheel", "train.epochs=3"], "train.epochs must be null where agent.steps says how long to run"),
        (["experiment=wheel", "agent.epsilon=1.5"], "agent.epsilon must be from 0 to 1, not 1.5"),
        (["experiment=wheel", "agent.steps=0"], "agent.steps must be a whole number of at least 1, not 0"),
        (["train.epochs=null"], "train.epochs must be a whole number of at least 1, not null"),
    ],
)
def test_what_does_not_go_together_is_one_line(bbbrun, words, message):
    result = bbbrun(*words)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_mushrooms_by_the_command_line(bbbrun, tmp_path, data_root):
    words = ["experiment=bandit", *SMALL, "agent.steps=40", f"dataset.root={data_root}", "hydra.run.dir=run"]
    result = bbbrun(*words)
    assert result.returncode == 0, result.stderr
    (row,) = table(tmp_path / "run")
    eaten = int(row["eaten_edible"]) + int(row["eaten_poisonous"])
    assert 0 <= eaten <= 40
    # The oracle's expected reward is 5 an edible mushroom, and passing costs just that.
    assert float(row["cumulative_expected_regret"]) % 5 == 0


@pytest.mark.parametrize("cold", ["true", "false"])
def test_the_complexity_counts_once_or_as_often_as_memory_is_gone_through(cold):
    words = ("agent.steps=12", f"agent.cold_start={cold}", "method.temperature=0.5")
    agent = Agent(configured(*words), MUSHROOMS, CPU)
    for t in range(12):
        agent.learn(t, t % 5, t % 2, 1.0)
        # 4 minibatches of 6 examples, out of a memory for 8.
        rounds = 1 if cold == "true" else 4 * 6 / min(t + 1, 8)
        assert agent.trainer.epoch.numbers[:, 0].tolist() == pytest.approx([0.5 * rounds / 4] * 4)
