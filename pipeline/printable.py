"""Names and reasons from outside, as they may be shown: a terminal obeys some characters."""


def one_line(text: str) -> str:
    r"""Return text without what a terminal would obey, or take for the end of a line.

    >>> one_line("a\x1b[31m\n✓ done")
    'a\\x1b[31m\\n✓ done'
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    r"""Return text of several lines in the same way.

    >>> lines("a\x07\nb")
    'a\\x07\nb'
    """
    return "\n".join(one_line(line).replace("\\t", "\t") for line in text.split("\n"))


def _shown(sign: str) -> str:
    return sign if sign.isprintable() else repr(sign)[1:-1]
