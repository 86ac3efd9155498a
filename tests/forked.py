"""A process that has loaded torch and forks for each command: loading takes most of a short command's time.

What runs in the fork is the real `main`, with words, environment, folder and output streams of its own.
"""

import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What a run loads of other packages, also late.
THIRD_PARTY = (
    "hydra",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "pandas",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.metrics",
    "sklearn.model_selection",
    "torch._dynamo",
    "torchvision.datasets",
)
# And of ours.
_OURS = (
    "bbbrun.verbs.train",
    "bbbrun.verbs.one_run",
    "bbbrun.tasks.bandit",
    "bbbrun.tasks.prediction",
    "bbbrun.tasks.tally",
    "bbbrun.report.plots",
    "bbbrun.sweeps.command",
    "bbbrun.runner",
)


class Forks:
    """Runs `python -m bbbrun` in forks of one process, which has loaded `modules`.

    Where these are third parties' alone, PYTHONPATH in a command's environment says whose bbbrun it runs.
    """

    def __init__(self, scratch: Path, modules: Sequence[str] = THIRD_PARTY + _OURS) -> None:
        self._scratch = scratch
        # CUDA, once a process has it, does not survive a fork.
        blind = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        self._server = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=blind
        )

    def run(self, words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Like subprocess.run, with the output captured as text."""
        streams = [str(self._scratch / name) for name in ("stdout", "stderr")]
        request = {"words": words, "folder": str(folder), "environment": environment, "streams": streams}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(words, code, *(Path(stream).read_text() for stream in streams))

    def close(self) -> None:
        """End the process."""
        self._server.communicate()


def _draw_once() -> None:
    """Load the fonts and the parser of formulas, which take as long as a figure."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    figure.suptitle("title")
    figure.subplots().semilogy([1, 2], [1, 100])
    for kind in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=kind)


def _serve() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    _draw_once()
    # Else each fork's first collection visits, and so copies, all that is loaded.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Run the command, and end with its exit code."""
    for number, path in enumerate(request["streams"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [str(Path(__file__).parent.parent / "bbbrun" / "__main__.py"), *request["words"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(600)  # whoever waits for it would wait for ever
    from bbbrun.cli import main

    code = 0
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
