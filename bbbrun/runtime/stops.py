"""Ctrl-C and SIGTERM: one KeyboardInterrupt at whatever moment, remembered where a library swallows it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

CODE = 130  # the exit code of a stop, of either signal

# The process that prints the line of a stop for those that it starts, by its id.
_SHOWN_BY = "BBBRUN_STOPS_SHOWN_BY"

# A terminal signals all its processes, and a parent passes the signal on: within this time, s, that is one stop.
_ONE_STOP = 1.0


class _Stop:
    """When this process was asked to stop, in the seconds of time.monotonic, and whether its line was printed."""

    moment: float | None = None
    number: int | None = None
    shown = False
    waits = False  # while what is whole goes on
    first: Callable[[], None] | None = None  # what a stop does before it raises


def install(*more: signal.Signals) -> None:
    """Have SIGINT, SIGTERM and `more` raise KeyboardInterrupt once; a second one ends the process at once.

    A shell makes its background processes ignore Ctrl-C: that stays so, and SIGTERM stops these.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for each in (signal.SIGTERM, *more):
        signal.signal(each, _stop)
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, _stop):
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught


def ignore() -> None:
    """Ignore SIGTERM and SIGINT while Python shuts down: a stop would print a traceback or change the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def shown_here() -> Iterator[None]:
    """Within it this process alone prints the line of a stop, and none of those that it starts."""
    before = os.environ.get(_SHOWN_BY)
    os.environ[_SHOWN_BY] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_SHOWN_BY]
        if before is not None:
            os.environ[_SHOWN_BY] = before


def is_stopping() -> bool:
    """Whether a stop was asked for: an error that follows, as of an import cut off, is the stop's."""
    return _Stop.moment is not None


def number() -> int | None:
    """Which signal asked for a stop; None where none did."""
    return _Stop.number


@contextmanager
def whole() -> Iterator[None]:
    """Let what is within end before a stop, which raises KeyboardInterrupt afterwards, also where it was swallowed."""
    _Stop.waits = True
    try:
        yield
    finally:
        _Stop.waits = False
    if is_stopping():
        raise KeyboardInterrupt


@contextmanager
def preceded_by(action: Callable[[], None]) -> Iterator[None]:
    """Have a stop within it do `action` before it raises, as to let other processes save what they have."""
    _Stop.first = action
    try:
        yield
    finally:
        _Stop.first = None


def show(remedy: str) -> None:
    """Print the one line of a stop and what to do next, unless it is there already or the parent process prints it."""
    if not _Stop.shown and os.environ.get(_SHOWN_BY) != str(os.getppid()):
        # A terminal shows ^C in the line.
        print(f"{chr(10) * sys.stderr.isatty()}interrupted; {remedy}", file=sys.stderr)
    _Stop.shown = True


def end(remedy: str) -> NoReturn:
    """Print the line, unless it is there already, and end the process with the exit code of a stop."""
    show(remedy)
    sys.exit(CODE)


@contextmanager
def ending(remedy: str) -> Iterator[None]:
    """End the process, with the one line, at a stop within it and at an error that follows one."""
    try:
        yield
    except KeyboardInterrupt:
        end(remedy)
    except Exception:
        # An import that a stop has cut off raises errors of its own.
        if is_stopping():
            end(remedy)
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _Stop.moment is None:
        _Stop.moment, _Stop.number = now, number
        if _Stop.first is not None:
            _Stop.first()
        if not _Stop.waits:
            raise KeyboardInterrupt
    elif now - _Stop.moment > _ONE_STOP:
        os._exit(CODE)


def _unraisable(about: Any) -> None:
    # Python drops an exception in a finalizer after it has printed it; the stop is remembered.
    if not isinstance(about.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(about)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Before the command line's own `try`, or after it.
    if isinstance(error, KeyboardInterrupt):
        show("nothing was begun")
    else:
        sys.__excepthook__(kind, error, trace)
