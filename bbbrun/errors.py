"""What a user's mistake raises, and a run that another process is writing."""


class UserError(Exception):
    """Bad input: its text is the one line that the user reads, naming the key, file or value and the remedy."""


class RunInUse(UserError):
    """Another process writes the run, so that this one must not."""
