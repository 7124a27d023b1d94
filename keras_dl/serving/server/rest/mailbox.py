"""Answers of `Inference` for an event loop."""

import asyncio
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future

_mailboxes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def awaited(future: Future) -> asyncio.Future:
    """`asyncio.wrap_future` for many answers at once: what a batch answers wakes the loop once, not once a request.

    To be called on the loop's thread. Cancelling what it returns cancels the future.
    """
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = _Mailbox(loop)
    return mailbox.waiter(future)


class _Mailbox:
    """Futures that are done and whose loop does not know it yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = weakref.ref(loop)  # a loop that is the key must not be held by its value
        self._arrived: deque[tuple[asyncio.Future, Future]] = deque()
        self._told = False

    def waiter(self, future: Future) -> asyncio.Future:
        waiter = self._loop().create_future()
        waiter.add_done_callback(lambda waiter: waiter.cancelled() and future.cancel())
        future.add_done_callback(lambda future: self._arrive(waiter, future))
        return waiter

    def _arrive(self, waiter: asyncio.Future, future: Future) -> None:
        self._arrived.append((waiter, future))
        if not self._told:
            self._told = True
            loop = self._loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._told = False  # first: what arrives from here on tells again
        while self._arrived:
            waiter, future = self._arrived.popleft()
            if waiter.done():
                continue
            try:
                error = future.exception()
            except CancelledError:
                waiter.cancel()
                continue
            if error is None:
                waiter.set_result(future.result())
            else:
                waiter.set_exception(error)
