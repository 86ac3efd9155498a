"""Shell completion: verbs as the first word, then the groups, options and keys that Hydra knows.

`eval "$(bbbrun -sc install=bash)"` installs it; the shell then calls `bbbrun -sc query=bash` with the line typed so far
in COMP_LINE.
"""

import io
import os
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress

from bbbrun.verbs import VERBS, train
from bbbrun.verbs.words import flags_first, parsed

# Groups of the configuration that a user never chooses from.
_INTERNAL = ("schema", "experiment_for")


def main(words: Sequence[str]) -> None:
    """Print the words that may come next; among a verb's words nothing, so that the shell offers file names."""
    line = os.environ.get("COMP_LINE", "")
    typed = _split(line)[1:]
    current = "" if line[-1:].isspace() or not typed else typed.pop()
    if typed[:1] and typed[0] in VERBS:
        return
    verbs = [] if typed else [verb for verb in VERBS if verb.startswith(current)]
    separator = "\n" if "query=fish" in words else " "
    print(separator.join([*verbs, *_hydra_choices(words, typed, current)]))


def _hydra_choices(words: Sequence[str], typed: Sequence[str], current: str) -> list[str]:
    """Hydra's choices; none where the line is not valid, since no message may appear in the line being typed."""
    output = io.StringIO()
    with suppress(SystemExit, Exception), redirect_stdout(output), redirect_stderr(io.StringIO()):
        flags = parsed(typed)
        os.environ["COMP_LINE"] = " ".join(["bbbrun", *flags_first(typed, flags), current])
        # Hydra looks for options where its own words say.
        train.main([*words, *(["--config-dir", flags.config_dir] if flags.config_dir else [])])
    return [choice for choice in output.getvalue().split() if not choice.startswith(_INTERNAL)]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation mark still open
        return line.split()
