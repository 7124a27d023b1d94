"""Errors of requests to a server, and their messages."""

from keras_dl.errors import UserError


class Unavailable(UserError):
    """The server cannot answer at the moment; the same request may be sent again.

    `retry_after` is the number of seconds that the server asks the client to wait, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class ClosedWithoutAnswer(Unavailable):
    """The connection closed after the request was sent: the server restarted, or the request crashed it."""


def refused(model: str, reason: str) -> str:
    """Returns the message for a request that the server refused, with the server's reason."""
    return f"{model}: the server refused the request: {reason}"


def not_reachable(url: str, model: str) -> str:
    """Returns the message for a URL where no server listens."""
    return f"no server answers at {url}: start one with `keras-dl serve {model}`"


def timed_out(url: str, timeout: float) -> str:
    """Returns the message for a request that took too long, by the client's limit or by the server's own."""
    return f"the request to {url} timed out: the client waits {timeout:g} seconds; the server may allow less"
