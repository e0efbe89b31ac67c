"""Names and reasons from outside, as they may be shown: a terminal obeys some characters."""

import unicodedata

# Controls, halves of characters, ends of lines.
_ORDERS = {"Cc", "Cs", "Zl", "Zp"}
# What follows is shown in another order than it is read: a name could end in what it does not.
_TURNS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_plain(text: str) -> bool:
    r"""Return whether text is for people only: no order to a terminal, no end of a line.

    >>> is_plain("9\u202fUhr"), is_plain("a\n")
    (True, False)
    """
    return text.isprintable() or all(map(_is_plain, text))


def one_line(text: str) -> str:
    r"""Return text without what a terminal would obey, or take for the end of a line.

    >>> one_line("a\x1b[31m\n✓ done")
    'a\\x1b[31m\\n✓ done'
    """
    return text if is_plain(text) else "".join(map(_shown, text))


def lines(text: str) -> str:
    r"""Return text of several lines in the same way.

    >>> lines("a\x07\nb")
    'a\\x07\nb'
    """
    return "".join(sign if sign in "\n\t" else _shown(sign) for sign in text)


def _is_plain(sign: str) -> bool:
    return unicodedata.category(sign) not in _ORDERS and sign not in _TURNS


def _shown(sign: str) -> str:
    return sign if _is_plain(sign) else sign.encode("unicode_escape", "surrogatepass").decode()
