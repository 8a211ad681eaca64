"""What the server logs, a line a record: words of other people can start no line of their own."""

import logging
import sys


def printable(text: str) -> str:
    """The text on one line: control characters, line ends and marks of direction are written out."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class OneLine(logging.Formatter):
    """Escapes the message of a record; the lines of a traceback are set in."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The record's own line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802  (logging's name)
        """The traceback below it."""
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"  {printable(line)}" for line in text.splitlines())


def log_to_stderr() -> None:
    """Send the warnings of this process there, in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
