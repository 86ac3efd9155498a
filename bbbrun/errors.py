"""What a user's mistake raises, and a run that another process is writing; others' errors in one line."""

from pickle import UnpicklingError


class UserError(Exception):
    """Bad input: its text is the one line that the user reads, naming the key, file or value and the remedy."""


class RunInUse(UserError):
    """Another process writes the run, so that this one must not."""


def line_of(error: BaseException) -> str:
    """The kind and text of another's error in one line; of a ValueError, which is of a value, the text alone."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, UnpicklingError):  # torch's text says how to load it all the same
        return "it is damaged, or holds more than tensors and plain data"
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split()).rstrip(":")
    return "".join(sign if sign.isprintable() else "?" for sign in text)  # a file's signs may command a terminal
