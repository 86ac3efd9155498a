"""The interactions of an agent with a contextual bandit: rows of reward and regret, checkpoints, and a resume."""

import math
from functools import partial
from typing import Any

import torch

from bbbrun.data.bandit import Bandit, load_bandit, reward_noise, visits
from bbbrun.errors import UserError
from bbbrun.runs.writer import RunFolder
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import ContextualAgentConfig
from bbbrun.tasks.agent import Agent
from bbbrun.tasks.tally import Tally
from bbbrun.training.session import Outcome, Session
from bbbrun.training.task import COMPLEXITY, NLL, SECONDS, Column

COLUMNS = (
    Column("step", "interaction"),
    SECONDS,
    Column("reward", "mean reward"),
    Column("regret", "mean regret"),
    Column("cumulative_regret", "cumulative regret"),
    Column("cumulative_expected_regret", "cumulative expected regret"),
    Column("eaten_edible", "edible mushrooms eaten"),
    Column("eaten_poisonous", "poisonous mushrooms eaten"),
    Column("best_action_share", "share of the oracle's action"),
    Column("top_action_share", "share of the action taken most"),
    NLL,
    *COMPLEXITY,
)
_OBJECTIVE = tuple(column.name for column in (NLL, *COMPLEXITY))
_SHOWN = ("cumulative_regret", "reward", "nll", "complexity")
_UNTIMED = 2  # the first interactions compile and warm up


def bandit_of(config: Config) -> Bandit:
    """The bandit of a run; raises UserError where its data are missing or wrong."""
    assert isinstance(config.agent, ContextualAgentConfig)
    return load_bandit(config.dataset, config.seed, config.agent.steps)


def play(config: Config, bandit: Bandit, run: RunFolder, device: torch.device) -> Outcome:
    """Interact agent.steps times, from the run's checkpoint where there is one.

    Raises UserError at the first row whose nll is not finite.
    """
    assert isinstance(config.agent, ContextualAgentConfig)
    steps, every, updates = config.agent.steps, config.train.evaluate_every, config.agent.updates
    agent = Agent(config, bandit, device)
    rows = visits(config.dataset, config.seed, steps, len(bandit.contexts))
    rewards = reward_noise(bandit.noise, config.seed, steps)
    with Session(run, device, config, steps, {}, tally=list(Tally())) as session:
        if session.resumed:
            agent.load(session.saved["tensors"])
        if agent.trainer.compiled:
            session.progress.say("compiling the training step: about a minute the first time, cached afterwards")
        tally = Tally(*session.saved["tally"])
        # The metrics of the last row, which a checkpoint of a stop contains.
        last_tally = Tally(*session.saved.get("last_tally", tally))
        last_step: int = session.saved.get("last_step", session.step)
        step, warned = session.step, False
        explores = "method.rho_init or agent.epsilon" if hasattr(config.method, "rho_init") else "agent.epsilon"

        def make_checkpoint() -> dict[str, Any]:
            extra = {"tally": list(tally), "last_tally": list(last_tally), "last_step": last_step}
            return session.checkpoint(step, agent.saved(), **extra)

        def interact(t: int) -> None:
            nonlocal tally, last_tally, last_step, step, warned
            row = int(rows[t])
            action = agent.act(t, row)
            reward = bandit.rewards(rows[t], torch.tensor(action), rewards[t]).item()
            tally = tally.after(bandit, row, action, reward)
            agent.learn(t, row, action, reward)
            if (warning := tally.warning()) and not warned:
                session.progress.say(f"{warning}; a larger {explores} explores more")
                warned = True
            step = t + 1
            if step != steps and step % every:
                return
            objective = agent.trainer.objective()
            if not math.isfinite(objective["nll"]):
                raise UserError(f"training diverged: nll is {objective['nll']:g} at step {step}; lower optimizer.lr")
            session.metrics = tally.row(last_tally, bandit)
            session.metrics |= {name: objective[name] for name in _OBJECTIVE if name in objective}
            session.end_lap((step - max(last_step, session.step + _UNTIMED)) * updates)
            run.append({"step": step, "seconds": session.seconds} | session.metrics)
            session.progress.show({name: session.metrics[name] for name in _SHOWN if name in session.metrics})
            last_tally, last_step = tally, step
            session.save(step, agent.saved, last=step == steps, tally=list(tally))

        for t in range(session.step, steps):
            if t - session.step == _UNTIMED:
                session.start_lap()
            session.take(partial(interact, t), agent.trainer.settled, make_checkpoint)
            session.progress.update(1)
    return Outcome(session.metrics, session.seconds, session.steps_per_second, agent.trainer.compiled)
