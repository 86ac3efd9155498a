"""Names of columns and values in messages to the user."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_SHOWN = 12  # names in a message


def some_of(names: Iterable[Any]) -> str:
    """The first names as text for a message, and the number of further ones."""
    # A terminal obeys some characters.
    texts = [text if text.isprintable() else repr(text) for text in (str(name)[:40] for name in names)]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def hint(name: str, names: Iterable[Any]) -> str:
    """The one of `names` that was probably meant by `name`, for the end of a message; empty where none is like it."""
    alike = {str(each).casefold().strip(): str(each) for each in names}
    close = get_close_matches(name.casefold().strip(), list(alike), n=1, cutoff=0.8)
    return f"; did you mean {alike[close[0]][:40]!r}?" if close else ""
