"""What a request may cost: the size of its body, plain and inflated, its nesting, and the time to send it."""

import asyncio
import zlib
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from keras_dl.serving.server.errors import invalid

_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of a connection; TensorFlow Serving has but that of inflated bodies.

    Attributes:
        body_bytes: of a body as it is sent; more is 413.
        inflated_bytes: of a gzip body when inflated; more is 413.
        nesting: lists and objects within each other; more is 400.
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
    nesting: int = 1_000_000
    body_seconds: float = 120.0
    pause_seconds: float = 10.0
    head_bytes: int = 64 * 2**10
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0
    connections: int | None = None


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, inflated where it is compressed.

    A body that is too large is read to its end but not kept, or its sender would not see the answer.

    Raises:
        HTTPException: 408 for a slow sender, 413 for a large body.
        ClientDisconnect: the sender went away.
    """
    pieces, size, more = [], 0, True
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
                if size <= limits.body_bytes:
                    pieces.append(piece)
                else:
                    pieces.clear()
                if more:
                    timer.reschedule(min(loop.time() + limits.pause_seconds, latest))
    except TimeoutError:
        raise HTTPException(408, "the body did not arrive in time", {"Connection": "close"}) from None
    if size > limits.body_bytes:
        raise HTTPException(413, f"expected a body of at most {limits.body_bytes} bytes and received {size}")
    body = b"".join(pieces)
    if "gzip" in request.headers.get("content-encoding", ""):
        return await asyncio.to_thread(_inflate, body, limits.inflated_bytes)
    return body


def _inflate(body: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(body, most + 1)
    except zlib.error:
        inflated = b""
    if len(inflated) > most:
        raise HTTPException(413, f"expected a body of at most {most} bytes when inflated and received more")
    if not inflater.eof:  # TF Serving, too, takes what is no gzip for nothing
        raise invalid("JSON Parse error: The document is empty")
    return inflated
