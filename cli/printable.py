"""Shows a text of unknown origin to a person without letting it do anything to the terminal.

Keys, values and what is told of them are anybody's. A terminal takes escape sequences among them for orders: to clear
the screen, to fill the clipboard, to hide what stands before.
"""


def printable(text: str) -> str:
    """The text in one line, with what is not printable as Python would write it: ``\\x1b``, ``\\n``."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
