"""Names of columns and values in messages to the user."""

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

_SHOWN = 12  # names in a message


def some_of(names: Iterable[Any]) -> str:
    """The first names as text for a message, and the number of further ones."""
    # A terminal obeys some characters.
    texts = [text if text.isprintable() else repr(text) for text in (str(name)[:40] for name in names)]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def require_columns(names: Sequence[str], present: Sequence[str], ignored: Collection[str] = ()) -> None:
    """Raise ValueError unless the columns `present` are `names`, each once in any order, and perhaps `ignored`."""
    for missing in (name for name in names if name not in present):
        raise ValueError(f"column {missing!r} is missing: there are {some_of(present)}{hint(missing, present)}")
    for surplus in (name for name in present if name not in names and name not in ignored):
        raise ValueError(f"column {surplus!r} is none of this run's inputs, {some_of(names)}: leave it out")
    for twice in (name for name in names if present.count(name) > 1):
        raise ValueError(f"column {twice!r} is there twice")


def hint(name: str, names: Iterable[Any]) -> str:
    """The one of `names` that was probably meant by `name`, for the end of a message; empty where none is like it."""
    alike = {str(each).casefold().strip(): str(each) for each in names}
    close = get_close_matches(name.casefold().strip(), list(alike), n=1, cutoff=0.8)
    return f"; did you mean {alike[close[0]][:40]!r}?" if close else ""
