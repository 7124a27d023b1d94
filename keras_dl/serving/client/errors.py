"""Why a request to a server came to nothing."""

from keras_dl.errors import UserError


class Unavailable(UserError):
    """A server that does not answer for now: the same request may be sent again.

    Attributes:
        retry_after: seconds that the server asks to wait, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class ClosedWithoutAnswer(Unavailable):
    """A connection that ended behind the request: a server that restarts, or one that died of it."""


def refused(model: str, words: str) -> str:
    """How the refusal of a request is told, with the server's own words."""
    return f"{model}: the server refused the request: {words}"


def nobody_answers(url: str, model: str) -> str:
    """How it is told that nobody listens."""
    return f"no server answers at {url}: start one with `keras-dl serve {model}`"


def too_slow(url: str, timeout: float) -> str:
    """How it is told that the time was up."""
    return f"expected an answer from {url} within {timeout:g} seconds and received none"
