"""Texts that handlers and their exceptions give, fit to be written down. Pure.

A text of Python may hold half of a UTF-16 pair (a file's name that is no UTF-8 has some), which has no UTF-8 form.
"""

from __future__ import annotations


def utf8_text(text: str) -> str:
    """The text with `?` for what has no UTF-8 form."""
    return text.encode("utf-8", "replace").decode()


def text_of(error: BaseException, *, limit: int) -> str:
    """What an exception says, in at most so many characters; the name of its type where saying it raises."""
    try:
        text = str(error)[:limit]
    except Exception:  # a broken __str__
        text = type(error).__name__[:limit]
    return utf8_text(text)
