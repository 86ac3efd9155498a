"""What a user's mistake raises, and a run that another process is writing; others' errors in one line."""


class UserError(Exception):
    """Bad input: its text is the one line that the user reads, naming the key, file or value and the remedy."""


class RunInUse(UserError):
    """Another process writes the run, so that this one must not."""


def line_of(error: BaseException) -> str:
    """The kind and text of another's error in one line; of a ValueError, which is of a value, the text alone."""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split()).rstrip(":")
