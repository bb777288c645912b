"""Says how a command ended: by an exit status for programs, and in a sentence for people. Never by a traceback.

0    done
1    a negative answer: no such key, nothing runs there, the ring does not serve, a job was given up
2    the command line, or a setting, makes no sense; nothing happened
3    refused, or nobody could be reached; nothing happened, so it is safe to try again
4    in doubt: it may have taken effect, or a part of it has; read before trying again
70   a bug of ringkeeper, or an actor that failed for good
130  interrupted by Ctrl-C
"""

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from .printable import printable

DONE, NO, USAGE, REFUSED, IN_DOUBT, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What an OSError says of what is full: it is no bug."""


class Trouble(click.ClickException):
    """Raised by a command that cannot do what it was asked; carries the sentence and the exit status."""

    def __init__(self, text: object, status: int = REFUSED) -> None:
        super().__init__(str(text))
        self.exit_code = status  # type: ignore[misc]  # click declares it for the class and reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        message = "\n".join(map(printable, self.message.splitlines()))
        click.echo(f"ringkeeper: {message}", file=file, err=file is None)


class Commands(click.Group):
    """Commands, listed in an order that means something, whose unexpected errors become a sentence and a trace file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they were added

    def main(self, *args: Any, **settings: Any) -> Any:
        try:
            return super().main(*args, **settings)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            Trouble(
                f"{error.filename or 'standard output, or a file,'} could not be written: {error.strerror}. What was "
                "asked for may have been done, or a part of it"
            ).show()
            sys.exit(IN_DOUBT)
        finally:
            _give_up_what_cannot_be_said()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as bug:
            if isinstance(bug, OSError) and bug.errno in NO_ROOM:
                raise
            raise Trouble(
                f"{ctx.invoked_subcommand or ctx.info_name} failed in a way that it should not: {type(bug).__name__}: "
                f"{bug}. What it was doing is in {keep_trace(bug)}; please report it.",
                BUG,
            ) from bug


def _give_up_what_cannot_be_said() -> None:
    """What standard output did not take is not tried again when Python ends, which would set another exit status."""
    if sys.stdout is not None and not sys.stdout.closed:
        try:
            sys.stdout.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def keep_trace(bug: BaseException) -> str:
    """Write the traceback of an error into a new file that only this user can read; returns its name."""
    prefix = time.strftime("ringkeeper-%Y%m%d-%H%M%S-")
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".trace")
    with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
        traceback.print_exception(bug, file=file)
    return name


@contextmanager
def client_errors_in_words() -> Iterator[None]:
    """Turn what a client raises into the right exit status: was nothing done, or perhaps something?"""
    from ..actors.client_errors import ClientError, CommandError

    try:
        yield
    except CommandError as error:
        raise Trouble(error, REFUSED) from error
    except ClientError as error:
        raise Trouble(error, IN_DOUBT if error.happened == "maybe" else REFUSED) from error
