"""The command line: the first word chooses a verb; anything else is a run's configuration, which Hydra composes."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bbbrun.errors import UserError
from bbbrun.runtime import places, stops
from bbbrun.verbs import VERBS, streams

_HELP = ("--help", "-h")


def main() -> None:
    """Run `bbbrun` with the command line's words.

    Exit code 0 on success, 1 on an error, 130 when interrupted, 2 for a verb's wrong options.
    """
    # Loading torch and composing make many objects and little garbage: by Python's own thresholds a tenth of a short
    # run's time goes into looking for it.
    gc.set_threshold(50_000, 20, 100)
    stops.install()
    with stops.ending("nothing was begun"):
        _run(sys.argv[1:])
    stops.ignore()


def _run(words: list[str]) -> None:
    streams.forgive()
    _quiet_libraries()
    warnings.showwarning = _show_warning
    first, second = [*words, "", ""][:2]
    if first in VERBS:
        run_verb(first, words[1:])
    elif first in _HELP and second in VERBS:
        run_verb(second, ["--help"])
    elif "--version" in words:
        from importlib.metadata import version

        print(f"bbbrun {version('bbbrun')}")
    elif words and not first.startswith(("-", "+", "~")) and "=" not in first:
        print(
            f"bbbrun: error: unknown verb '{first}': choose from {', '.join(VERBS)}, or give settings as key=value",
            file=sys.stderr,
        )
        sys.exit(1)
    else:
        # Imported when run: Hydra takes longer to load than some verbs take to answer.
        module = "completion" if _is_completion(words) else "train"
        import_module(f"bbbrun.verbs.{module}").main(words)


def _is_completion(words: Sequence[str]) -> bool:
    """Whether a shell asks for the completion of a line."""
    return bool({"-sc", "--shell-completion"} & set(words)) and any(word.startswith("query=") for word in words)


def _quiet_libraries() -> None:
    """Hide what libraries log: a missing CUDA compiler, a font cache that is built."""
    for name in ("torch.utils.cpp_extension", "matplotlib.font_manager"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run_verb(verb: str, words: Sequence[str]) -> None:
    """Run a verb with its words. What it raises for its user is one line on stderr and exit code 1.

    With HYDRA_FULL_ERROR=1 it is raised.
    """
    try:
        with stops.ending("give the same command again"):
            if not set(_HELP) & set(words):
                places.settle()
            import_module(f"bbbrun.verbs.{verb}").main(words)
    except (UserError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        from bbbrun.schema.messages import one_line

        print(f"bbbrun {verb}: error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"bbbrun: warning: {message}", file=sys.stderr)
