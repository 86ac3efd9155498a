"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """Bad input: its text is the one line that the user reads, naming the key, file or value and the remedy."""
