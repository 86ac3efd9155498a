"""The sums of an agent's rewards, regrets and actions since its first interaction."""

from typing import NamedTuple

from bbbrun.data.bandit import Bandit

# An agent is stuck if it took one action _LONG times in a row while another was best in at least this share of them.
_LONG = 1000
_SHARE = 0.05


class Tally(NamedTuple):
    """An agent's rewards, regrets and actions, summed over its interactions.

    reward: the rewards paid. regret: the oracle's expected reward less the reward paid, as in the paper's Figure 6,
    where the oracle always gets 5 for an edible mushroom and 0 for a poisonous one. expected_regret: the oracle's
    expected reward less that of the action taken. eaten_edible, eaten_poisonous: counts, 0 for other bandits. best: the
    count of the oracle's actions. taken: the count of each action. last: the latest action. run: how many times in a
    row it was taken until now. run_best: how often in that run it was the oracle's.
    """

    reward: float = 0.0
    regret: float = 0.0
    expected_regret: float = 0.0
    eaten_edible: int = 0
    eaten_poisonous: int = 0
    best: int = 0
    run: int = 0
    run_best: int = 0
    last: int = 0
    taken: tuple[int, ...] = ()

    def after(self, bandit: Bandit, row: int, action: int, reward: float) -> "Tally":
        """The sums once `action` in context `row` paid `reward`."""
        oracle, expected = bandit.oracle(row).item(), bandit.expected[row, action].item()
        edible = bandit.edible is not None and action == 1 and bool(bandit.edible[row])
        poisonous = bandit.edible is not None and action == 1 and not edible
        best, again = expected == oracle, self.run if action == self.last else 0
        counts = list(self.taken) or [0] * bandit.expected.shape[1]
        counts[action] += 1
        return Tally(
            self.reward + reward,
            self.regret + oracle - reward,
            self.expected_regret + oracle - expected,
            self.eaten_edible + edible,
            self.eaten_poisonous + poisonous,
            self.best + best,
            again + 1,
            (self.run_best if again else 0) + best,
            action,
            tuple(counts),
        )

    def warning(self) -> str | None:
        """One line at the interaction at which the agent counts as stuck; None at all others."""
        others = self.run - self.run_best
        if self.run != _LONG or others < _SHARE * _LONG:
            return None
        return (
            f"the agent is stuck: it took action {self.last} {_LONG:,} times in a row, and another was best in "
            f"{others} of them"
        )

    def row(self, before: "Tally", bandit: Bandit) -> dict[str, float]:
        """The columns of a row: means and shares over the interactions since `before`, and sums."""
        taken = [now - then for now, then in zip(self.taken, before.taken or [0] * len(self.taken), strict=True)]
        interactions = sum(taken)
        row: dict[str, float] = {
            "reward": (self.reward - before.reward) / interactions,
            "regret": (self.regret - before.regret) / interactions,
            "cumulative_regret": self.regret,
            "cumulative_expected_regret": self.expected_regret,
        }
        if bandit.edible is not None:
            row |= {"eaten_edible": self.eaten_edible, "eaten_poisonous": self.eaten_poisonous}
        shares = {"best_action_share": self.best - before.best, "top_action_share": max(taken)}
        return row | {name: count / interactions for name, count in shares.items()}
