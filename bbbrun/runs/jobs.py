"""The runs that configs/reproduce.yaml lists, as ordinary `bbbrun` command lines."""

import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from bbbrun.errors import UserError
from bbbrun.schema.config import composed, plain


class Job(NamedTuple):
    """One run to be made: the words for `bbbrun`, and the configuration they compose."""

    words: tuple[str, ...]
    config: dict[str, Any]


def seeds_of(text: str) -> list[int]:
    """The seeds in `text`, joined by commas; raises UserError where it has anything else."""
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds takes whole numbers from 0 to 2147483647, each once, joined by commas, not {text!r}")
    return seeds


def wanted(only: Sequence[str], seeds: Sequence[int] | None) -> list[Job]:
    """The jobs of configs/reproduce.yaml that one of `only` shows; raises UserError for an unknown name in `only`."""
    listed: Any = OmegaConf.to_container(OmegaConf.load(str(files("bbbrun.configs") / "reproduce.yaml")))
    items = sorted({name for entry in listed["runs"] for name in entry["shown"]})
    others = [name for name in only if name not in items]
    if others:
        raise UserError(f"--only {others[0]}: choose from {', '.join(items)}")
    # Short runs test an installation; they are no part of the paper.
    chosen = [entry for entry in listed["runs"] if set(only or set(items) - {"smoke"}) & set(entry["shown"])]
    jobs = []
    for entry in chosen:
        words = shlex.split(entry["words"])
        config = composed(words)  # once for all seeds: it takes a tenth of a second or more
        for seed in range(entry["seeds"]) if seeds is None else seeds:
            config.seed = seed
            jobs.append(Job((*words, f"seed={seed}"), plain(config)))
    return jobs
