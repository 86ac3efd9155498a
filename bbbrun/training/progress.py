"""The progress of a run: a tqdm bar on a terminal, a line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

_LINE_SECONDS = 10.0
_NOTE_SECONDS = 0.2


class Progress:
    """Counts steps; shows the latest numbers, steps per second and the time left, on standard error.

    unit: the name of a step.
    """

    def __init__(self, total: int, done: int, label: str, unit: str = "step") -> None:
        self._bar = tqdm(total=total, initial=done, desc=label, unit=unit, disable=None, dynamic_ncols=True)
        self._total, self._done, self._label, self._unit = total, done, label, unit
        self._start, self._first = time.monotonic(), done
        self._shown = self._noted = self._start
        self._numbers: dict[str, float] = {}
        self._closed = False

    def update(self, steps: int) -> None:
        """Count steps done since the last call."""
        self._done += steps
        if not self._bar.disable:
            self._bar.update(steps)
        elif time.monotonic() - self._shown >= _LINE_SECONDS:
            self._line()

    def show(self, numbers: dict[str, float]) -> None:
        """Show these numbers from now on, in the order given."""
        self._numbers = numbers
        if not self._bar.disable:
            self._bar.set_description(self._label, refresh=False)
            self._bar.set_postfix({name: f"{value:.5g}" for name, value in numbers.items()})

    def note(self, text: str) -> None:
        """Show `text` beside the label: on a bar five times a second at most, elsewhere in a line every ten seconds."""
        now = time.monotonic()
        if self._closed:
            return
        if self._bar.disable and now - self._shown >= _LINE_SECONDS:
            self._shown = now
            print(f"{self._label}: {text}", file=sys.stderr, flush=True)
        elif not self._bar.disable and now - self._noted >= _NOTE_SECONDS:
            self._noted = now
            self._bar.set_description(f"{self._label}, {text}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def _line(self) -> None:
        self._shown = time.monotonic()
        rate = (self._done - self._first) / max(self._shown - self._start, 1e-9)
        numbers = "".join(f", {name} {value:.5g}" for name, value in self._numbers.items())
        speed = f", {rate:.1f} {self._unit}s/s, {(self._total - self._done) / rate:.0f} s left" if rate > 0 else ""
        print(f"{self._label}: {self._unit} {self._done}/{self._total}{numbers}{speed}", file=sys.stderr, flush=True)

    def close(self, *, failed: bool = False) -> None:
        """Show the last numbers once more, unless the run has failed, and end the bar; later notes are not shown."""
        self._closed = True
        if self._bar.disable and not failed:
            self._line()
        self._bar.close()
