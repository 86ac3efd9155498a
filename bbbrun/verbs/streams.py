"""Standard output and error that may be closed: output is lost then, and the run continues."""

import os
import sys
from typing import Any


def forgive() -> None:
    """Make standard output and error ignore a closed pipe, a full disk or a closed terminal."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Closed at the start: a file of the run must not get this number, to which libraries write.
            _discard(number)
            stream = open(number, "w", closefd=False)  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # the C locale has only ASCII letters
        if not isinstance(stream, _Forgiving):
            setattr(sys, name, _Forgiving(stream, number))


def _discard(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)


class _Forgiving:
    """A text stream that discards all output from its first failure on."""

    def __init__(self, stream: Any, number: int) -> None:
        self._stream, self._number = stream, number

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            _discard(self._number)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _discard(self._number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
