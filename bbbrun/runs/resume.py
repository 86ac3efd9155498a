"""Whether a folder may take a run: a new one needs it unused, a resumed one needs the same configuration in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bbbrun.errors import UserError, line_of
from bbbrun.runs.checkpoints import has_checkpoint, remove_checkpoints
from bbbrun.runs.files import (
    CHECKPOINT,
    ERROR,
    FIGURES,
    INPUTS,
    METRICS,
    PREDICTIONS,
    PREVIOUS,
    RECORD,
    SUMMARY,
    WRITER,
    is_replica,
)
from bbbrun.runs.identity import differing_on_resume
from bbbrun.schema.replicas import Replica


def require_unused(folder: Path, replicas: Sequence[Replica] = ()) -> None:
    """Raise UserError where `folder` or a replica's holds a run, or files in a place where a run may write.

    The empty metrics.csv that a kill left before there was a record is none.
    """
    for place in dict.fromkeys([folder, *(folder / replica.folder for replica in replicas)]):
        _require_unused(place)


def _require_unused(folder: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS, SUMMARY, str(RECORD)):
        if (folder / name).exists():
            raise UserError(f"{folder} holds another run ({name}): continue it with resume=, or name another folder")
    for name in (METRICS, PREDICTIONS, INPUTS, WRITER, FIGURES, ERROR):
        path = folder / name
        # error.txt may be empty yet: a shell writes the run's own messages there.
        if _has_text(path) or any(path.glob("*")) or (name == ERROR and path.exists()):
            raise UserError(f"{folder} holds {name}, where a run writes: move it, or name another folder")


def _has_text(path: Path) -> bool:
    """Whether `path` is a file that is not empty. metrics.csv gets its header after there is a record."""
    return path.is_file() and path.stat().st_size > 0


def require_same_run(config: DictConfig, folder: Path) -> list[str]:
    """The overrides that started the run in `folder`; raises UserError unless its configuration is this one."""
    record, metrics = folder / RECORD, folder / METRICS
    if not record.is_file() and metrics.exists() and not has_checkpoint(folder) and not _has_text(metrics):
        raise UserError(
            f"resume: the run in {folder} was stopped before anything was recorded: "
            f"begin it with hydra.run.dir={folder}"
        )
    if not record.is_file():
        raise UserError(f"resume: {folder} is not the folder of a run (it has no .hydra/config.yaml)")
    try:
        recorded: Any = OmegaConf.to_container(OmegaConf.load(record))
        if not isinstance(recorded, dict) or not recorded.keys() >= {"dataset", "method", "train"}:
            raise ValueError("no configuration")
        overrides: Any = OmegaConf.to_container(OmegaConf.load(record.with_name("overrides.yaml")))
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        reason = line_of(error)[:120]
        raise UserError(f"resume: the record in {record.parent} cannot be read: start a new run ({reason})") from None
    current: Any = OmegaConf.to_container(config, enum_to_str=True)
    if differences := differing_on_resume(recorded, current):
        key, (old, new) = next(iter(differences.items()))
        raise UserError(
            f"resume: {folder} was started with {key}={old}, not {new}: "
            "repeat the overrides it was started with, or start a new run"
        )
    return [str(word) for word in overrides]


def is_finished(folder: Path, replicas: Sequence[Replica]) -> bool:
    """Whether the run in `folder`, with all its replicas, is finished.

    A replica with error.txt is finished too: it diverged, and others did not. Raises UserError for a
    single replica, since replicas resume together, and for replicas of which one is missing.
    """
    ends = (SUMMARY, ERROR) if len(replicas) > 1 else (SUMMARY,)
    done = [any((folder / replica.folder / end).exists() for end in ends) for replica in replicas]
    if not all(done) and is_replica(folder):
        raise UserError(f"resume: {folder} is one of several replicas, which continue together: resume={folder.parent}")
    if any(done) and not all(done) and not has_checkpoint(folder):
        missing = " ".join(replicas[done.index(False)].overrides)
        raise UserError(f"resume: the replicas in {folder} were finished, and one has gone: run {missing} by itself")
    if all(done) and replicas[0].folder:
        # A kill may have come between the last summary and this.
        remove_checkpoints(folder, newest=True)
    return all(done)
