"""A thread that the process does not wait for when it ends."""

import asyncio
import contextlib
import threading
from collections.abc import Callable


async def run_in_daemon(function: Callable[[], None]) -> None:
    """Run a function in a thread of its own, and wait for it.

    If the wait is cancelled, the thread goes on until the process ends. `asyncio.to_thread` would keep the process.

    Raises:
        BaseException: What the function raises.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if ended.done():
            return
        if error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def run() -> None:
        error = None
        try:
            function()
        except BaseException as raised:
            error = raised
        # The loop is closed if nobody waited for the end.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="watch", daemon=True).start()
    await ended
