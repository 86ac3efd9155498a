"""`bbbrun --help`: Hydra's own takes seconds, as it reads the whole configuration anew for every group it lists."""

from collections.abc import Sequence
from importlib.resources import files

from omegaconf import OmegaConf

from bbbrun.schema.config import OPTIONS, composed

_TEXT = """\
bbbrun: Bayes by Backprop (Weight Uncertainty in Neural Networks, Blundell et al. 2015), reproduced.

  bbbrun                                  train on the embedded digits
  bbbrun experiment=mnist                 the paper's best cell, 600 epochs
  bbbrun experiment=mnist method=dropout  a baseline of the paper; or method=mle
  bbbrun experiment=regression            the paper's regression curve, half a minute
  bbbrun -m experiment=mnist seed=0,1,2   a sweep
  bbbrun experiment=mnist replicas=3      the same, trained at once
  bbbrun ... resume=FOLDER                continue an interrupted run
  bbbrun --cfg job                        show the configuration, run nothing
  bbbrun --hydra-help                     Hydra's own words

Groups (group=option):

{groups}

Keys (key=value), as composed from the words given:

{config}"""


def help_text(words: Sequence[str]) -> str:
    """What `bbbrun --help WORDS` prints: examples, groups and options, and the configuration of these words."""
    experiments = sorted(path.name.removesuffix(".yaml") for path in (files("bbbrun.configs") / "experiment").iterdir())
    groups = {"experiment": experiments} | {group: sorted(options) for group, options in OPTIONS.items()}
    lines = [f"{group}: {', '.join(options)}" for group, options in groups.items()]
    return _TEXT.format(groups="\n".join(lines), config=OmegaConf.to_yaml(composed(words)))
