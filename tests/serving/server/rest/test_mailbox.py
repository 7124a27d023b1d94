"""Futures of threads in an event loop."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from keras_dl.serving.server.rest.mailbox import wrap_future


def test_many_answers_wake_up_the_loop_once():
    async def main():
        futures = [Future() for _ in range(5)]
        waiters = [wrap_future(future) for future in futures]
        loop, wakes = asyncio.get_running_loop(), []
        call = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *arguments: wakes.append(1) or call(*arguments)
        for number, future in enumerate(futures):  # on the thread of the loop, which cannot run in between
            future.set_result(number)
        assert await asyncio.gather(*waiters) == [0, 1, 2, 3, 4]
        assert len(wakes) == 1
        later = Future()
        threading.Timer(0.05, later.set_result, [6]).start()
        assert await wrap_future(later) == 6

    asyncio.run(main())


def test_errors_and_finished_futures():
    async def main():
        failed, done, cancelled = Future(), Future(), Future()
        failed.set_exception(ValueError("wrong"))
        done.set_result(1)
        cancelled.cancel()
        with pytest.raises(ValueError, match="wrong"):
            await wrap_future(failed)
        assert await wrap_future(done) == 1
        with pytest.raises(asyncio.CancelledError):
            await wrap_future(cancelled)

    asyncio.run(main())


def test_cancelling_the_waiter_cancels_the_future_and_late_answers_are_dropped():
    async def main():
        waiting, running = Future(), Future()
        running.set_running_or_notify_cancel()
        for future in (waiting, running):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wrap_future(future), 0.01)
        await asyncio.sleep(0)
        assert waiting.cancelled() and not running.cancelled()
        running.set_result(1)
        await asyncio.sleep(0.01)

    asyncio.run(main())


def test_loops_are_independent():
    async def main():
        future = Future()
        threading.Timer(0.01, future.set_result, [1]).start()
        return await wrap_future(future)

    results = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(main()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [1, 1, 1]
