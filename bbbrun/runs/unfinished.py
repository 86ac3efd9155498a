"""Runs as they lie on the disk, finished or not, found without loading torch."""

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT, METRICS, SUMMARY, held
from bbbrun.runs.reader import read


class Begun(NamedTuple):
    """A run that lies on the disk, finished or not, and what it has done of what it was told, from 0 to 1."""

    folder: Path
    config: dict[str, Any]
    done: float
    seconds: float

    @property
    def finished(self) -> bool:
        return (self.folder / SUMMARY).exists()

    @property
    def in_progress(self) -> bool:
        return not self.finished and held(self.folder)


def begun(folder: Path, *, warn: bool = False) -> list[Begun]:
    """The runs in and below `folder`, in the order of their paths; `warn` names what cannot be read, and is no run."""
    found, unreadable = [], []
    for place, _, names in sorted(os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename)))):
        replica = (Path(place).parent / ".hydra").exists()  # it goes on with the others alone
        if SUMMARY in names or (METRICS in names and not replica):
            run = _begun(Path(place))
            if run is None:
                unreadable.append(Path(place))
            else:
                found.append(run)
    for path in unreadable:
        if warn and path.exists():
            print(f"warning: {path} cannot be read: it counts as no run; mend it or delete it", file=sys.stderr)
    return found


def _begun(folder: Path) -> Begun | None:
    path = folder / ".hydra" / "config.yaml"
    try:
        finished = (folder / SUMMARY).exists()
        config: Any = read(folder).config if finished else OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        # A line without its end is torn: a resumed run writes it again.
        whole = (folder / METRICS).read_text().rpartition("\n")[0]
        rows = pd.read_csv(io.StringIO(whole))
        total = config["train"]["epochs"] or config["agent"]["steps"]
        reached = rows["epoch" if config["train"]["epochs"] else "step"]
        # What no checkpoint covers starts from nothing.
        kept = len(rows) > 0 and ((folder / CHECKPOINT).exists() or finished)
        done, seconds = (reached.iloc[-1] / total, rows["seconds"].iloc[-1]) if kept else (0.0, 0.0)
        _ = int(config["seed"])
        if not math.isfinite(done + seconds):
            raise ValueError("a row that is no row")
    except (
        UserError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        YAMLError,
        OmegaConfBaseException,
    ):
        return None
    return Begun(folder, config, float(done), float(seconds))
