"""A contextual bandit's agent: its memory, how it acts and how it learns (paper, sections 4 and 5.3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.likelihoods import fixed_sigma, gaussian
from bbbrun.bayes.methods import drawn
from bbbrun.bayes.networks import Network, build_network
from bbbrun.bayes.predictive import network_outputs
from bbbrun.data.bandit import Bandit
from bbbrun.runtime.noise import Stream, integers, uniform
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import ContextualAgentConfig
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Trainer

_BLOCK = 64  # interactions whose minibatches are drawn at once


class Memory(NamedTuple):
    """The latest interactions as a ring: interaction t is at index t mod size.

    inputs (size, D + K): the context and the action taken, one-of-K. targets (size,): its reward.
    """

    inputs: Tensor
    targets: Tensor

    def remember(self, t: int, inputs: Tensor, reward: float) -> None:
        """Store interaction t, with the network's input (D + K,), over the oldest."""
        index = t % len(self.targets)
        self.inputs[index] = inputs
        self.targets[index] = reward


def action_inputs(contexts: Tensor, actions: int) -> Tensor:
    """Each context (N, D) with each of K actions, one-of-K: the network's inputs (N, K, D + K)."""
    one_of_k = torch.eye(actions, device=contexts.device).expand(len(contexts), -1, -1)
    return torch.cat([contexts.unsqueeze(1).expand(-1, actions, -1), one_of_k], dim=2)


def minibatch_places(seed: int, first: int, filled: Tensor, size: int) -> Tensor:
    """`size` indices into memory after each of the interactions from `first` on, int64 (T, size), with repetition.

    Uniform on 0 .. filled - 1, filled (T,): the interactions in memory then. A function of (seed, t, filled) alone.
    """
    t = first + torch.arange(len(filled), dtype=torch.int32)
    return integers(seed, t.unsqueeze(1), Stream.SHUFFLE, size, filled.unsqueeze(1))


def agent_network(config: Config, bandit: Bandit) -> Network:
    """The network of expected rewards for the inputs of `action_inputs`: (..., D + K) -> (..., 1)."""
    return build_network(config.network, (bandit.contexts.shape[1] + bandit.expected.shape[1],), 1)


class Agent:
    """Thompson sampling by a method that draws anew, else epsilon-greedy, over the contexts of a bandit."""

    def __init__(self, config: Config, bandit: Bandit, device: torch.device) -> None:
        assert isinstance(config.agent, ContextualAgentConfig)
        self._config, self._agent = config, config.agent
        self._batch, actions = config.train.batch_size, bandit.expected.shape[1]
        self._inputs = action_inputs(bandit.contexts, actions).to(device)
        size = config.agent.buffer_size
        self.memory = Memory(torch.zeros(size, self._inputs.shape[2], device=device), torch.zeros(size, device=device))
        self.network = agent_network(config, bandit)
        problem = Problem(*self.memory, self.network, gaussian(fixed_sigma(config.agent.likelihood_sigma)))
        self.trainer = Trainer.of([config], [problem], device, config.agent.steps, config.agent.updates)
        self._random = uniform(config.seed, 0, Stream.ACTION, config.agent.steps) < config.agent.epsilon
        self._chances = integers(config.seed, 0, Stream.CHOICE, config.agent.steps, actions)
        self._block, self._places = -1, torch.zeros(0)

    def act(self, t: int, row: int) -> int:
        """The action taken at interaction t in context `row`: the best by `values`, or by chance with epsilon."""
        return int(self._chances[t] if self._random[t] else self.values(t, row).argmax())

    def values(self, t: int, row: int) -> Tensor:
        """The agent's estimate of the expected reward of each action (K,) at interaction t.

        The mean over the method's draws: new ones at each interaction of Bayes by Backprop and MC dropout, so that
        taking the best action is Thompson sampling (paper, section 4), else its networks, which stay.
        """
        method = self.trainer.method
        draws = self.trainer.draws(t, method.draws(last=False))
        weights = drawn(method, self.network, self.trainer.state.parameters, draws)
        return network_outputs(self.network, weights, self._inputs[row]).mean(dim=0)[:, 0]

    def learn(self, t: int, row: int, action: int, reward: float) -> None:
        """Store interaction t, then take agent.updates steps on minibatches from memory.

        The minibatches of one interaction form an epoch: the paper's 64 of 64, as many as its buffer holds. With n
        examples in memory each counts draws / n times. cold_start=false counts the complexity equally often:
        temperature 1. cold_start=true counts it once: temperature n / draws.
        """
        self.memory.remember(t, self._inputs[row, action], reward)
        examples = self._agent.updates * self._batch
        block, within = divmod(t, _BLOCK)
        if block != self._block:
            first = block * _BLOCK
            filled = (first + 1 + torch.arange(_BLOCK)).clamp(max=self._agent.buffer_size)
            self._block, self._places = block, minibatch_places(self._config.seed, first, filled, examples)
        remembered = min(t + 1, self._agent.buffer_size)
        rounds = 1 if self._agent.cold_start else examples / remembered
        self.trainer.begin_epoch(t, self._places[within], rounds)
        self.trainer.steps(self._agent.updates)

    def saved(self) -> list[Tensor]:
        """The tensors of a checkpoint, on the CPU: the trainer's, then memory's."""
        return [*self.trainer.saved(), self.memory.inputs.cpu(), self.memory.targets.cpu()]

    def load(self, tensors: list[Tensor]) -> None:
        """Load the tensors of `saved`."""
        *trained, inputs, targets = tensors
        self.trainer.load(trained)
        self.memory.inputs.copy_(inputs)
        self.memory.targets.copy_(targets)
