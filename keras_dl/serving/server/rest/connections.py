"""HTTP connections with limits: idle and slow clients, and more connections than open files allow.

uvicorn limits only the pause between two requests, and TensorFlow Serving has no limits.
"""

import asyncio
import http
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keras_dl.serving.server.errors import error_answer
from keras_dl.serving.server.rest.limits import Limits

WAITING = "keras_dl.waiting"  # in a request's scope: futures to cancel when the client disconnects
_OTHER_FILES = 2048 + 256  # asyncio may accept a whole backlog of connections before any of them is counted
_MOST_FILES = 2**16


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Returns the ``http`` protocol class for one uvicorn server.

    Args:
        limits: limits of headers, pauses and connections.

    Returns:
        A class that closes idle connections and those whose answers are not read, returns 408 and 431 for slow and
        large headers, answers invalid HTTP with a JSON error, and closes the longest idle connection when there are
        too many.
    """
    most = limits.connections or max(_files() // 2, _files() - _OTHER_FILES)
    idle: dict[_GuardedProtocol, None] = {}  # longest idle first

    class GuardedProtocol(_GuardedProtocol):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.timeout_keep_alive = limits.idle_seconds
            self.limits, self.idle, self.most = limits, idle, most

    return GuardedProtocol


def raise_file_limit() -> None:
    """Raises the limit of open files to the allowed maximum: each connection needs one."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _files() -> int:
    try:
        import resource
    except ImportError:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft


class _GuardedProtocol(HttpToolsProtocol):
    limits: Limits
    idle: "dict[_GuardedProtocol, None]"
    most: int

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._head_begun = False
        self._head_bytes = 0  # of an incomplete head
        self._field_bytes = 0  # of the request line and of complete headers and trailers
        self._heads = 0  # number of requests whose headers have begun to arrive
        self._waiting: set[asyncio.Future] = set()  # answers of models
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # asyncio leaves Nagle's algorithm on if the listening socket has no protocol: 40 ms per answer.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._become_idle()
        if len(self.connections) > self.most:
            longest = next(iter(self.idle))  # never empty: this connection is idle
            del self.idle[longest]
            longest.transport.close()  # written answers are still sent

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.pop(self, None)
        self._stop_timers()
        while self._waiting:  # the answers are no longer needed
            self._waiting.pop().cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        heads, expected = self._heads, 0 if self._head_begun else 1 if self in self.idle else None
        super().data_received(data)
        if self._head_begun and not self.transport.is_closing():
            if self._heads - heads == expected:  # otherwise part of the data belongs to the previous message
                self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes:
                self._refuse_head()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(
                    self.limits.head_seconds, self._refuse, 408, "the headers did not arrive in time"
                )
        elif self in self.idle and self.timeout_keep_alive_task is None:  # blank lines, or an ignored body
            self._become_idle()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[WAITING] = self._waiting
        self._head_begun, self._head_bytes, self._field_bytes = True, 0, 0
        self._heads += 1

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._head_begun = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self.idle.pop(self, None)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._become_idle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def send_400_response(self, msg: str) -> None:
        if self._field_bytes > self.limits.head_bytes:
            self._refuse_head()
        else:
            self._refuse(400, msg)

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > self.limits.head_bytes:
            raise ValueError("the head is too large")  # ends the parser, which calls `send_400_response`

    def _refuse_head(self) -> None:
        self._refuse(431, f"expected a request line and headers of at most {self.limits.head_bytes} bytes")

    def _become_idle(self) -> None:
        self.idle[self] = None
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        self._stop_timers()
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self.cycle.keep_alive = False  # the client would mistake the pending answer for this one
            self.transport.pause_reading()
            return
        answer = error_answer(status, message, {"Connection": "close"})
        head = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", answer.body]))
        self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._unread_timer = None
