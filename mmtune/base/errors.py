"""Exceptions that are not faults of ours: a user's to mend, or a store's."""

LONGEST = 2_000


class InputError(ValueError):
    """Something a user gave breaks a rule; the message is one line with the rule and the value.

    The command line prints it and exits with 2; every other exception is a fault of ours.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class AwayError(Exception):
    """A store does not answer, and may do so later. name: of the store; reason: one line."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, one_line(reason)
        super().__init__(f"{name} does not answer: {self.reason}")


class GoneError(Exception):
    """A run is not there to be written: it was deleted."""


def first_line(error: BaseException) -> str:
    """What an exception says, of many lines the first; its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def one_line(text: str) -> str:
    """Text as one printable line of LONGEST characters at most: it may quote a name or a value of a stranger's."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
