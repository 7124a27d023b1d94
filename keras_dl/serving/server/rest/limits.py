"""What a request may cost: the size of its body, plain and inflated, its nesting, and the time to send it."""

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from keras_dl.serving.server.errors import invalid

_GZIP = 16 + zlib.MAX_WBITS
_INLINE_BYTES = 2**18  # to inflate more would keep other requests waiting
_DRAIN_SECONDS = 3.0  # for what is missing of a body when the server is about to end


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of a connection; TensorFlow Serving has but that of inflated bodies.

    Attributes:
        body_bytes: of a body as it is sent; more is 413.
        inflated_bytes: of a gzip body when inflated; more is 413.
        held_bytes: of all bodies that are being read or answered; a request beyond them is 503.
        nesting: lists and objects within each other; more is 400.
        parse_seconds: that reading unusual JSON may take; longer is 504.
        body_seconds: for a whole body; longer is 408.
        pause_seconds: between two pieces of a body; longer is 408.
        head_bytes: of a request's line and headers; more is 431.
        head_seconds: from the first byte of a request to the end of its headers; longer is 408.
        idle_seconds: that a connection may stay without a request, before it is closed.
        unread_seconds: that an answer may wait for its reader, before the connection is closed.
        connections: at once; beyond it the one that is idle the longest is closed. Defaults to None: as many as the
            process may have files, less 2304 or half of them for others.
    """

    body_bytes: int = 64 * 2**20
    inflated_bytes: int = 100 * 2**20
    held_bytes: int = 512 * 2**20
    nesting: int = 1_000_000
    parse_seconds: float = 10.0
    body_seconds: float = 120.0
    pause_seconds: float = 10.0
    head_bytes: int = 64 * 2**10
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0
    connections: int | None = None


class HeldBytes:
    """Bytes of bodies in memory, of all requests of a server. Used by its event loop alone.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int):
        self._most, self._held = most, 0

    @contextlib.contextmanager
    def of_request(self) -> Iterator[Callable[[int], bool]]:
        """A context in which a function takes bytes, or says False where there are no more; its end gives them back."""
        taken = 0

        def take(size: int) -> bool:
            nonlocal taken
            if self._held + size > self._most:
                return False
            self._held += size
            taken += size
            return True

        try:
            yield take
        finally:
            self._held -= taken


async def read_body(request: Request, limits: Limits, take: Callable[[int], bool], executor: Executor) -> bytes:
    """The body of a request, inflated where it is compressed.

    A body that is too large is read to its end but not kept, or its sender would not see the answer.

    Args:
        request: whose body it is.
        limits: of bodies.
        take: of `HeldBytes`.
        executor: inflates what is large.

    Raises:
        HTTPException: 408 for a slow sender, 413 for a large body, 503 beyond `held_bytes`.
        ClientDisconnect: the sender went away.
    """
    pieces, size, more, has_room = [], 0, True, True
    loop = asyncio.get_running_loop()
    latest = loop.time() + limits.body_seconds
    try:
        # One timer for all: to most requests, whose body is here already, two timers a piece are a fifth of the work.
        async with asyncio.timeout(limits.pause_seconds) as timer:
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece, more = message.get("body", b""), message.get("more_body", False)
                size += len(piece)
                has_room = has_room and (size > limits.body_bytes or take(len(piece)))
                if size <= limits.body_bytes and has_room:
                    pieces.append(piece)
                else:
                    pieces.clear()
                if more:
                    if request.app.state.draining.is_set():
                        latest = min(latest, loop.time() + _DRAIN_SECONDS)
                    timer.reschedule(min(loop.time() + limits.pause_seconds, latest))
    except TimeoutError:
        raise HTTPException(408, "the body did not arrive in time", {"Connection": "close"}) from None
    if size > limits.body_bytes:
        raise HTTPException(413, f"expected a body of at most {limits.body_bytes} bytes and received {size}")
    if not has_room:
        raise _full(limits)
    body = b"".join(pieces)
    if "gzip" not in request.headers.get("content-encoding", ""):
        return body
    inflater, most = zlib.decompressobj(_GZIP), limits.inflated_bytes
    inflated = _inflate(inflater, body, min(most, _INLINE_BYTES) + 1)
    if not inflater.eof and _INLINE_BYTES < len(inflated) <= most:
        rest = inflater.unconsumed_tail
        inflated += await loop.run_in_executor(executor, _inflate, inflater, rest, most + 1 - len(inflated))
    if len(inflated) > most:
        raise HTTPException(413, f"expected a body of at most {most} bytes when inflated and received more")
    if not inflater.eof:  # TF Serving, too, takes what is no gzip for nothing
        raise invalid("JSON Parse error: The document is empty")
    if not take(len(inflated)):
        raise _full(limits)
    return inflated


def _inflate(inflater, content: bytes, most: int) -> bytes:
    try:
        return inflater.decompress(content, most)
    except zlib.error:
        return b""


def _full(limits: Limits) -> HTTPException:
    return HTTPException(503, f"requests of {limits.held_bytes} bytes are being answered: come again")
