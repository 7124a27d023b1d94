"""Limits of a request: size of the body, raw and decompressed, and time."""

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
_INLINE_BYTES = 2**18  # decompressing more on the event loop would delay other requests
SMALL = 2**16  # bytes of a body whose values need a few MB at most, and are not counted
# Bytes that Python needs for the value that a character introduces: an item, a list, an object, a string. Measured.
_PARSED_BYTES = {b",": 64, b"[": 96, b"{": 192, b'"': 24}
_COUNTED_AT_ONCE = 2**20  # counting holds the GIL
_DRAIN_SECONDS = 3.0  # for the rest of a body during the shutdown


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of a connection. TensorFlow Serving limits only decompressed bodies.

    Attributes:
        body_bytes: size of a body as it is sent; else 413.
        inflated_bytes: size of a decompressed gzip body; else 413.
        parsed_bytes: memory that the values of a body need in Python, estimated before it is parsed; else 413. (98 kB
            of gzip can be 32 million empty lists, which need 4 GB.)
        total_bytes: total size of all bodies that are being read or answered, with their values; else 503.
        body_seconds: time for receiving a body; else 408.
        pause_seconds: time between two parts of a body; else 408.
        head_bytes: size of the request line and headers; else 431.
        head_seconds: time from the first byte of a request to the end of its headers; else 408.
        idle_seconds: time without a request after which a connection is closed.
        unread_seconds: time after which a connection is closed if the client does not read the answer.
        connections: number of connections; beyond it, the longest idle one is closed. Defaults to None: as many as the
            process may have open files, minus 2304 (or half of them) for other uses.
    """

    body_bytes: int = 64 * 2**20
    inflated_bytes: int = 100 * 2**20
    parsed_bytes: int = 768 * 2**20
    total_bytes: int = 1024 * 2**20
    body_seconds: float = 120.0
    pause_seconds: float = 10.0
    head_bytes: int = 64 * 2**10
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0
    connections: int | None = None


class ByteBudget:
    """A limit for the bytes of all request bodies in memory. Used only by the event loop.

    Args:
        most: maximum number of bytes.
    """

    def __init__(self, most: int):
        self._most, self._used = most, 0

    @contextlib.contextmanager
    def of_request(self) -> Iterator[Callable[[int], bool]]:
        """A context with a function that takes bytes, or returns False if none are left; released at the end."""
        taken = 0

        def take(size: int) -> bool:
            nonlocal taken
            if self._used + size > self._most:
                return False
            self._used += size
            taken += size
            return True

        try:
            yield take
        finally:
            self._used -= taken


async def read_body(request: Request, limits: Limits, take: Callable[[int], bool], executor: Executor) -> bytes:
    """Reads the body of a request, and decompresses it if necessary.

    A body that is too large is read to its end but not stored; otherwise the client would not see the answer.

    Args:
        request: the request.
        limits: limits of bodies.
        take: function of `ByteBudget.of_request`.
        executor: decompresses large bodies.

    Raises:
        HTTPException: 408 for a slow client, 413 for a large body, 503 beyond `total_bytes`.
        ClientDisconnect: if the client disconnects.
    """
    pieces, size, more, has_room = [], 0, True, True
    loop = asyncio.get_running_loop()
    latest = loop.time() + limits.body_seconds
    try:
        # One timer for both limits: two timers per part would be 20% of the work of most requests.
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
        raise HTTPException(413, f"expected a body of at most {limits.body_bytes} bytes. Received: {size}")
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
        raise HTTPException(413, f"expected a body of at most {most} bytes after decompression. Received: more")
    if not inflater.eof:
        raise invalid("expected a body in gzip format. Received: other or incomplete data")
    if not take(len(inflated)):
        raise _full(limits)
    return inflated


def check_parsed_size(body: bytes, limits: Limits, take: Callable[[int], bool]) -> None:
    """Checks how much memory the values of a JSON text will need, without parsing it.

    Args:
        body: the text.
        limits: limits of bodies.
        take: function of `ByteBudget.of_request`.

    Raises:
        HTTPException: 413 for too many values, 503 beyond `total_bytes`.
    """
    size = 0
    for start in range(0, len(body), _COUNTED_AT_ONCE):
        end = start + _COUNTED_AT_ONCE
        size += sum(each * body.count(character, start, end) for character, each in _PARSED_BYTES.items())
        if size > limits.parsed_bytes:
            problem = f"expected a body whose values need at most {limits.parsed_bytes} bytes in memory"
            raise HTTPException(413, f"{problem}. Received: more; send fewer rows")
    if not take(size):
        raise _full(limits)


def _inflate(inflater, content: bytes, most: int) -> bytes:
    try:
        return inflater.decompress(content, most)
    except zlib.error:
        return b""


def _full(limits: Limits) -> HTTPException:
    return HTTPException(503, f"requests totaling {limits.total_bytes} bytes are being answered: retry later")
