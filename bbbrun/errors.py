"""What a user's mistake raises, and a run that another process is writing; others' errors in one line."""


class UserError(Exception):
    """Bad input: its text is the one line that the user reads, naming the key, file or value and the remedy."""


class RunInUse(UserError):
    """Another process writes the run, so that this one must not."""


def line_of(error: BaseException) -> str:
    """The kind and text of another's error in one line; of a ValueError, which is of a value, the text alone."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split()).rstrip(":")
    return "".join(sign if sign.isprintable() else "?" for sign in text)  # a file's signs may command a terminal
