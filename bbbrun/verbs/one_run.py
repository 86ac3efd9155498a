"""One run of what Hydra composed: checked, given its folder and its record, and trained."""

import os
import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bbbrun.runs.files import RECORD
from bbbrun.runs.resume import is_finished, require_same_run, require_unused
from bbbrun.runtime import stops
from bbbrun.schema.config import validated
from bbbrun.schema.fixing import fixed, yaml_text
from bbbrun.schema.quoting import word
from bbbrun.schema.replicas import Replica, replicas_of
from bbbrun.sweeps.folders import remove_if_empty


def run_composed(composed: DictConfig) -> dict[str, float]:
    """Train the run of a configuration; return its final metrics, by name, empty where it was finished before.

    Raises UserError for what the user got wrong, and KeyboardInterrupt after a stop.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    # Unresolved: an override may hold an interpolation.
    words: Any = OmegaConf.to_container(hydra_config.overrides.task)
    replicas: list[Replica] = []
    try:
        composed = fixed(composed)
        config = validated(composed)
        replicas = replicas_of(composed, config.replicas)
        configs = [validated(replica.composed) for replica in replicas]
        of_sweep = hydra_config.mode is RunMode.MULTIRUN
        if config.resume is None and not (of_sweep and (folder / RECORD).is_file()):
            require_unused(folder, replicas)
        else:
            # A sweep's job that finds its own record is resumed: another process may have begun it.
            folder = folder if config.resume is None else Path(config.resume).expanduser().absolute()
            words = require_same_run(composed, folder)
            if is_finished(folder, replicas):
                print(f"already finished: {folder}", file=sys.stderr)
                return {}
        from bbbrun.runner import Planned, run

        record = _record(composed, [])
        planned = [
            Planned(replica.folder, config, _record(replica.composed, replica.overrides) if replica.folder else record)
            for replica, config in zip(replicas, configs, strict=True)
        ]
        return run(planned, folder, _command(words), record)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt) and not stops.is_stopping():
            raise
        if hydra_config.mode is RunMode.MULTIRUN:
            raise KeyboardInterrupt from error  # the sweep prints how to continue
        started_run = (folder / RECORD).exists()
        command = _command([*_fixed_words(words, composed), word("resume", str(folder))])
        remedy = f"continue with: {command}" if started_run else "nothing was begun"
        stops.show(remedy)
        raise KeyboardInterrupt from error
    finally:
        remove_if_empty(Path(hydra_config.runtime.output_dir))


def _command(words: list[str]) -> str:
    """The command line for a shell: the user's words, and the flags that name other folders of configurations.

    scripts/run names itself in BBBRUN_COMMAND.
    """
    return shlex.join([os.environ.get("BBBRUN_COMMAND", "bbbrun"), *_sources(), *words])


def _sources() -> list[str]:
    """--config-dir, --config-path, --config-name and hydra.searchpath, as far as they are not bbbrun's own.

    Read from Hydra's record of each job: a job may run in another process than the one that parsed the flags.
    """
    hydra_config = HydraConfig.get()
    flags = []
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", source.path]
        elif source.provider == "main" and source.path != "bbbrun.configs":
            flags += ["--config-path", source.path]
    name = hydra_config.job.config_name
    if name not in (None, "config"):
        flags += ["--config-name", str(name)]
    if hydra_config.searchpath:
        flags.append(word("hydra.searchpath", list(hydra_config.searchpath)))
    return flags


def _fixed_words(words: list[str], composed: DictConfig) -> list[str]:
    """The words with values in place of interpolations, so that the command means the same run when pasted."""
    values = []
    for text in words:
        key, _, value = text.partition("=")
        fixed_value = OmegaConf.select(composed, key) if "${" in value else None
        if fixed_value is None or OmegaConf.is_dict(fixed_value):
            values.append(text)
        else:
            plain = OmegaConf.to_container(fixed_value) if OmegaConf.is_config(fixed_value) else fixed_value
            values.append(word(key, plain.name if isinstance(plain, Enum) else plain))
    return values


def _record(composed: DictConfig, overrides: list[str]) -> dict[str, str]:
    """The files of .hydra: the composed configuration, Hydra's own, and the overrides, as YAML.

    overrides: the settings in which a replica differs from the others.
    """
    hydra_config = HydraConfig.get()
    words: Any = OmegaConf.to_container(hydra_config.overrides.task)
    if overrides:
        words = [*words, "replicas=1", *overrides]
    return {
        "config.yaml": yaml_text(composed),
        "hydra.yaml": yaml_text(OmegaConf.create({"hydra": OmegaConf.to_container(hydra_config)})),
        "overrides.yaml": yaml_text(OmegaConf.create(words)),
    }
