"""The interactions of an agent with a contextual bandit: rows of reward and regret, checkpoints, and a resume."""

import math
import time
from typing import Any, NamedTuple

import torch

from bbbrun.data.bandit import Bandit, load_bandit, reward_noise, visits
from bbbrun.errors import UserError
from bbbrun.runs.writer import RunFolder
from bbbrun.runtime.device import synchronize
from bbbrun.schema.config import Config
from bbbrun.schema.options import ContextualAgentConfig
from bbbrun.tasks.agent import Agent
from bbbrun.training.loop import Outcome
from bbbrun.training.progress import Progress

COLUMNS = [
    "step",
    "seconds",
    "reward",
    "regret",
    "cumulative_regret",
    "cumulative_expected_regret",
    "eaten_edible",
    "eaten_poisonous",
    "nll",
    "log_posterior",
    "log_prior",
    "complexity",
]
_OBJECTIVE = COLUMNS[-4:]
_SHOWN = ["cumulative_regret", "reward", "nll", "complexity"]
_UNTIMED = 2  # the first interactions compile and warm up


class Tally(NamedTuple):
    """What an agent earned and missed, summed over its interactions.

    reward: what it was paid. regret: the oracle's expected reward less that, as in the paper's Figure 6, where the
    oracle always gets 5 for an edible mushroom and 0 for a poisonous one. expected_regret: the oracle's expected
    reward less that of the action taken. eaten_edible, eaten_poisonous: how often; stay 0 where nothing is eaten.
    """

    reward: float = 0.0
    regret: float = 0.0
    expected_regret: float = 0.0
    eaten_edible: int = 0
    eaten_poisonous: int = 0

    def after(self, bandit: Bandit, row: int, action: int, reward: float) -> "Tally":
        """The sums once `action` in context `row` paid `reward`."""
        best = bandit.oracle(row).item()
        edible = bandit.edible is not None and action == 1 and bool(bandit.edible[row])
        poisonous = bandit.edible is not None and action == 1 and not edible
        return Tally(
            self.reward + reward,
            self.regret + best - reward,
            self.expected_regret + best - bandit.expected[row, action].item(),
            self.eaten_edible + edible,
            self.eaten_poisonous + poisonous,
        )


def bandit_of(config: Config) -> Bandit:
    """The bandit of a run; raises UserError where its data is missing or wrong."""
    assert isinstance(config.agent, ContextualAgentConfig)
    return load_bandit(config.dataset, config.seed, config.agent.steps)


def play(config: Config, bandit: Bandit, run: RunFolder, device: torch.device) -> Outcome:
    """Interact agent.steps times, from the run's checkpoint where there is one.

    Raises UserError where the network's outputs stop being finite.
    """
    assert isinstance(config.agent, ContextualAgentConfig)
    steps, every = config.agent.steps, config.train.evaluate_every
    agent = Agent(config, bandit, device)
    rows = visits(config.dataset, config.seed, steps, len(bandit.contexts))
    rewards = reward_noise(bandit.noise, config.seed, steps)
    saved: dict[str, Any] = run.checkpoint or {
        "step": 0,
        "seconds": 0.0,
        "timed_steps": 0,
        "timed_seconds": 0.0,
        "metrics": {},
        "tally": list(Tally()),
    }
    if run.checkpoint:
        agent.load(saved)
    tally = told = Tally(*saved["tally"])
    metrics: dict[str, float] = saved["metrics"]
    timed_steps, timed_seconds, last_row = saved["timed_steps"], saved["timed_seconds"], saved["step"]
    start = checkpointed = clock = time.monotonic()
    progress = Progress(steps, saved["step"], config.name)
    if agent.trainer.compiled:
        progress.say("compiling the training step: about a minute the first time, cached afterwards")
    try:
        for t in range(saved["step"], steps):
            if t - saved["step"] == _UNTIMED:
                synchronize(device)
                clock = time.monotonic()
            row = int(rows[t])
            action = agent.act(t, row)
            reward = bandit.rewards(rows[t], torch.tensor(action), rewards[t]).item()
            tally = tally.after(bandit, row, action, reward)
            agent.learn(t, row, action, reward)
            progress.update(1)
            step = t + 1
            if step != steps and step % every:
                continue
            objective = agent.trainer.objective()
            if not math.isfinite(objective["nll"]):
                raise UserError(f"training diverged: nll is {objective['nll']:g} at step {step}; lower optimizer.lr")
            metrics = _row(told, tally, step - last_row, bandit)
            metrics |= {name: objective[name] for name in _OBJECTIVE if name in objective}
            told, last_row = tally, step
            now = time.monotonic()
            seconds = saved["seconds"] + now - start
            run.append({"step": step, "seconds": seconds} | metrics)
            progress.show({name: metrics[name] for name in _SHOWN if name in metrics})
            warm = step - saved["step"] - _UNTIMED
            if warm > 0:
                timed_steps = saved["timed_steps"] + warm * config.agent.updates
                timed_seconds = saved["timed_seconds"] + now - clock
            if step == steps or now - checkpointed >= config.train.checkpoint_seconds:
                run.save_checkpoint(
                    {
                        "step": step,
                        "seconds": seconds,
                        "timed_steps": timed_steps,
                        "timed_seconds": timed_seconds,
                        "metrics": metrics,
                        "tally": list(tally),
                        "tensors": agent.saved(),
                    }
                )
                checkpointed = time.monotonic()
    finally:
        progress.close()
    rate = timed_steps / timed_seconds if timed_seconds else None
    return Outcome(metrics, saved["seconds"] + time.monotonic() - start, rate, agent.trainer.compiled, predictions=None)


def _row(told: Tally, tally: Tally, interactions: int, bandit: Bandit) -> dict[str, float]:
    """The columns of a row: reward and regret a mean over the `interactions` since the last one, the rest sums."""
    row: dict[str, float] = {
        "reward": (tally.reward - told.reward) / interactions,
        "regret": (tally.regret - told.regret) / interactions,
        "cumulative_regret": tally.regret,
        "cumulative_expected_regret": tally.expected_regret,
    }
    if bandit.edible is not None:
        row |= {"eaten_edible": tally.eaten_edible, "eaten_poisonous": tally.eaten_poisonous}
    return row
