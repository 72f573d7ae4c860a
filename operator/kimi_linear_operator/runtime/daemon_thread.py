"""A thread that does not keep the process from ending."""

import asyncio
import contextlib
import threading
from collections.abc import Callable


async def run_in_daemon(function: Callable[[], None]) -> None:
    """Run a function in its own thread, and wait for the result.

    If the wait is cancelled, the thread goes on until the process ends. With `asyncio.to_thread`, the process could not
    end before the thread.

    Raises:
        BaseException: The exception of the function.
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
        # The loop may be closed, if nobody has waited for the result.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="watch", daemon=True).start()
    await ended
