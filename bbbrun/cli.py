"""The command line: Hydra composes, this validates, gives each run its folder, and turns errors into one line."""

import os
import shutil
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.config import Config, register
from bbbrun.errors import UserError

# What may differ between a run and its resumption: where and how fast, not what.
_FREE_ON_RESUME = ("resume", "device", "threads", "dataset.root", "train.checkpoint_seconds")


def main() -> None:
    """Run `bbbrun`; exit code 0 when every job finished, 1 on any error, 130 when interrupted."""
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises instead of printing in its own way, and all errors take the one path below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    warnings.showwarning = _show_warning
    _register_resolvers()
    register()
    failed: list[str] = []

    @hydra.main(version_base="1.3", config_path="pkg://bbbrun.configs", config_name="config")
    def task(composed: DictConfig) -> dict[str, float] | None:
        try:
            return _run(composed)
        except UserError as error:
            # A job of a sweep must raise, so that the launcher, which may be another process, knows.
            if debug or HydraConfig.get().mode is RunMode.MULTIRUN:
                raise
            failed.append(_fail(error))
            return None

    try:
        task()
    except KeyboardInterrupt:
        sys.exit(130)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if debug:
            raise
        failed.append(_fail(error))
    sys.exit(1 if failed else 0)


def _run(composed: DictConfig) -> dict[str, float]:
    config: Any = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    folder = Path(HydraConfig.get().runtime.output_dir).absolute()
    try:
        if config.resume is not None:
            folder = Path(config.resume).absolute()
            _require_same_run(composed, folder)
        words = list(HydraConfig.get().overrides.task)
        if (folder / "summary.json").exists():
            print(f"already finished: {folder}", file=sys.stderr)
            return {}
        print(f"run folder: {folder}", file=sys.stderr)
        from bbbrun.runner import run

        try:
            metrics = run(config, folder, " ".join(["bbbrun", *words]))
        except KeyboardInterrupt:
            kept = [word for word in words if not word.startswith("resume=")]
            print(f"\ninterrupted; continue with: {' '.join(['bbbrun', *kept, f'resume={folder}'])}", file=sys.stderr)
            raise
    except UserError:
        _remove_if_unused(folder)
        raise
    print(f"finished: {folder}", file=sys.stderr)
    return metrics


def _require_same_run(composed: DictConfig, folder: Path) -> None:
    saved = folder / ".hydra" / "config.yaml"
    if not saved.is_file():
        raise UserError(f"resume: {folder} is not the folder of a run (it has no .hydra/config.yaml)")
    before, now = (_flat(OmegaConf.to_container(config)) for config in (OmegaConf.load(saved), composed))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in _FREE_ON_RESUME:
            raise UserError(
                f"resume: {folder} was started with {key}={before.get(key)}, not {now.get(key)}: repeat the overrides it "
                "was started with, or start a new run"
            )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {key: leaf for name, part in tree.items() for key, leaf in _flat(part, f"{prefix}.{name}".lstrip(".")).items()}


def _remove_if_unused(folder: Path) -> None:
    """Take away a run folder that an error left with nothing but Hydra's record of the configuration."""
    if [entry.name for entry in folder.iterdir()] == [".hydra"]:
        shutil.rmtree(folder)


def _register_resolvers() -> None:
    def folder(parent: Path, name: str, number: str) -> str:
        return str(parent / name / f"{datetime.now():%Y-%m-%d_%H%M%S}_{number}")

    # A resumed run keeps its folder and its record of the configuration: Hydra's own folder is then the
    # present one, where it writes nothing.
    OmegaConf.register_new_resolver(
        "bbbrun.run_folder",
        lambda resume, name: str(Path.cwd()) if resume else folder(Path.cwd() / "results" / "runs", name, f"{datetime.now():%f}"),
        use_cache=True,
        replace=True,
    )
    OmegaConf.register_new_resolver(
        "bbbrun.sweep_subfolder",
        lambda resume, name, number: str(Path.cwd()) if resume else folder(Path(), name, str(number)),
        use_cache=True,
        replace=True,
    )
    OmegaConf.register_new_resolver("bbbrun.output_subdir", lambda resume: None if resume else ".hydra", replace=True)


def _fail(error: BaseException) -> str:
    """Print the error as one line and return it."""
    parts = [str(error)]
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        parts.append(str(error.__cause__))
    line = " ".join(" ".join(parts).split())
    print(f"bbbrun: error: {line}", file=sys.stderr)
    return line


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"bbbrun: warning: {message}", file=sys.stderr)
