"""The commit of the code that made a run."""

import subprocess
from pathlib import Path

import bbbrun


def commit(package: Path = Path(bbbrun.__file__).parent) -> str | None:
    """The commit of the package in this folder, with `+changes` where its repository has uncommitted ones.

    None where no repository tracks the package, such as one installed below somebody's repository.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package.resolve()), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
