"""`bbbrun --help`. Hydra's own takes seconds: it reads the whole configuration again for every group it lists."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from omegaconf import OmegaConf

from bbbrun.schema.config import OPTIONS, composed

_TEXT = """\
bbbrun: Bayes by Backprop (Weight Uncertainty in Neural Networks, Blundell et al. 2015), reproduced.

Verbs (each has its own --help):

{verbs}

Training (no verb):

  bbbrun                                  train on the embedded digits
  bbbrun experiment=mnist                 the paper's best cell, 600 epochs
  bbbrun experiment=mnist method=dropout  a baseline of the paper; or method=mle
  bbbrun experiment=regression            the paper's regression curve, a minute
  bbbrun -m experiment=mnist seed=0,1,2   a sweep
  bbbrun experiment=mnist replicas=3      the same, trained at once
  bbbrun ... resume=FOLDER                continue an interrupted run
  bbbrun --cfg job                        show the configuration, run nothing
  bbbrun --hydra-help                     Hydra's flags
  bbbrun --version                        the version

Groups (group=option):

{groups}

Keys (key=value), as composed from the words given:

{config}"""


def help_text(words: Sequence[str], verbs: Mapping[str, str], folders: Sequence[Path]) -> str:
    """The text of `bbbrun --help WORDS`: verbs, examples, groups with their options, and the composed configuration.

    verbs: name -> one line. folders: those of the user's own configurations. Raises what composing the words raises.
    """
    width = max(map(len, verbs), default=0)
    commands = [f"  bbbrun {name:{width}}  {line}" for name, line in verbs.items()]
    experiments = [path.name.removesuffix(".yaml") for path in (files("bbbrun.configs") / "experiment").iterdir()]
    groups: dict[str, list[str]] = {"experiment": experiments} | {
        group: [*options] for group, options in OPTIONS.items()
    }
    lines = []
    for group, options in groups.items():
        own = [path.stem for folder in folders for path in (folder / group).glob("*.yaml")]
        lines.append(f"{group}: {', '.join(sorted({*options, *own}))}")
    config = OmegaConf.to_yaml(composed(words))
    return _TEXT.format(verbs="\n".join(commands), groups="\n".join(lines), config=config)
