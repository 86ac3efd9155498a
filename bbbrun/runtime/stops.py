"""Ctrl-C and SIGTERM: one KeyboardInterrupt at whatever moment, remembered where a library swallows it."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

CODE = 130  # the exit code of a stop, of either signal


class _Stop:
    """Whether this process was asked to stop."""

    asked = False


def install() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt once; a second one ends the process at once.

    A shell makes its background processes ignore Ctrl-C: that stays so, and SIGTERM stops these.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, _stop):
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _unraisable


def asked() -> bool:
    """Whether a stop was asked for: an error that follows, as of an import cut off, is the stop's."""
    return _Stop.asked


def _stop(number: int, frame: FrameType | None) -> None:
    if _Stop.asked:
        os._exit(CODE)
    _Stop.asked = True
    raise KeyboardInterrupt


def _unraisable(about: Any) -> None:
    # Python drops an exception in a finalizer after it has printed it; the stop is remembered.
    if not isinstance(about.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(about)
