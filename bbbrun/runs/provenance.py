"""Which commit's code a run was made by."""

import subprocess
from pathlib import Path

import bbbrun


def commit(package: Path = Path(bbbrun.__file__).parent) -> str | None:
    """The commit that the package in this folder is of, `+changes` where its repository has any.

    None where no repository keeps it: one that is installed, also below somebody's repository.
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
