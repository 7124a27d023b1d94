"""Passes answers of `Inference` to an event loop."""

import asyncio
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future

_mailboxes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def wrap_future(future: Future) -> asyncio.Future:
    """`asyncio.wrap_future` for many answers at once: a batch wakes up the event loop once, not once per request.

    Call it on the thread of the loop. Canceling the returned future cancels the original one.
    """
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = _Mailbox(loop)
    return mailbox.waiter(future)


class _Mailbox:
    """Finished futures that are not yet delivered to their loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = weakref.ref(loop)  # the loop is a weak key of `_mailboxes`: no strong reference here
        self._arrived: deque[tuple[asyncio.Future, Future]] = deque()
        self._notified = False

    def waiter(self, future: Future) -> asyncio.Future:
        waiter = self._loop().create_future()
        waiter.add_done_callback(lambda waiter: waiter.cancelled() and future.cancel())
        future.add_done_callback(lambda future: self._arrive(waiter, future))
        return waiter

    def _arrive(self, waiter: asyncio.Future, future: Future) -> None:
        self._arrived.append((waiter, future))
        if not self._notified:
            self._notified = True
            loop = self._loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._notified = False  # first: later arrivals must notify again
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
