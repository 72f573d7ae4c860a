"""The process ends on time, also while somebody reads its metrics slowly."""

import asyncio
import time
from collections.abc import Callable

from kimi_linear_operator.runtime.endpoints import SHUTDOWN_SECONDS, Readiness, serving

# More than the buffers of a connection take.
_LARGE = b"x" * 2**25
_PATIENCE_SECONDS = SHUTDOWN_SECONDS + 8


def _large_exposition() -> Callable[[], bytes]:
    return lambda: _LARGE


def test_who_reads_metrics_and_stops_reading_does_not_hold_the_end() -> None:
    async def test() -> float:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=_large_exposition
        ) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.read(1)
            began = time.monotonic()
        ended = time.monotonic() - began
        writer.close()
        return ended

    assert asyncio.run(test()) < _PATIENCE_SECONDS
