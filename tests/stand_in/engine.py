"""The life of the stand-in: loading, warm-up, serving, failing and draining, with its counters."""

import asyncio
import os
import signal
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stand_in.answers import Answer
from stand_in.behaviour import Behaviour
from stand_in.scheduler import Scheduler

_LOOKS_FOR_THE_SCHEDULER_SECONDS = 0.1
_LOOKS_FOR_A_PLACE_SECONDS = 0.01


class ToldToFailError(Exception):
    """A request fails, because the test asked for it."""


@dataclass
class Engine:
    """The state that SGLang has in its processes."""

    arguments: Namespace
    behaviour: Behaviour
    scheduler: Scheduler
    is_warm: bool = False
    is_draining: bool = False
    is_known_to_be_dead: bool = False
    """Whether a health check got no answer from the engine."""
    open_requests: int = 0
    """Number of HTTP requests without a complete answer."""
    running: int = 0
    """Number of requests for text that are being answered."""
    queued: int = 0
    """Number of requests for text that wait because of --max-running-requests."""
    requests: int = 0
    """Number of requests for text so far, including failed ones."""
    prompt_tokens: int = 0
    generated_tokens: int = 0

    async def answers_within(self, seconds: float) -> bool:
        """Whether the scheduler answers in time."""
        deadline = time.monotonic() + seconds
        while not self.scheduler.is_running and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_LOOKS_FOR_THE_SCHEDULER_SECONDS)
        return self.scheduler.is_running

    async def _sign_of_life(self) -> None:
        while not self.scheduler.is_running:  # noqa: ASYNC110
            await asyncio.sleep(_LOOKS_FOR_THE_SCHEDULER_SECONDS)

    @property
    def is_healthy(self) -> bool:
        """What /health says."""
        return self.is_warm and not self.is_draining

    async def generate(self, prompt_tokens: int, answer: Answer) -> AsyncIterator[int]:
        """Yield the number of generated tokens whenever it grows. The limit may be 0.

        Raises:
            ToldToFailError: The test wants this request to fail.
        """
        if not answer.text:
            return
        await self._wait_for_a_place()
        with self._counted(prompt_tokens):
            number = self.requests
            if self.behaviour.fails(number):
                raise ToldToFailError
            if self.behaviour.hangs(number):
                self.scheduler.kill()
            step = self.behaviour.tokens_per_event
            for start in range(0, len(answer.text), step):
                end = min(start + step, len(answer.text))
                await self._sign_of_life()
                await asyncio.sleep((end - start) * self.behaviour.seconds_per_token)
                if start and self.behaviour.dies(number):
                    os.kill(os.getpid(), signal.SIGKILL)
                self.generated_tokens += end - start
                yield end

    async def _wait_for_a_place(self) -> None:
        most = self.arguments.max_running_requests
        self.queued += 1
        try:
            while most and self.running >= most:  # noqa: ASYNC110
                await asyncio.sleep(_LOOKS_FOR_A_PLACE_SECONDS)
        finally:
            self.queued -= 1

    @contextmanager
    def _counted(self, prompt_tokens: int) -> Iterator[None]:
        self.requests += 1
        self.running += 1
        self.prompt_tokens += prompt_tokens
        try:
            yield
        finally:
            self.running -= 1

    def metrics(self) -> str:
        """Return some of SGLang's metrics in Prometheus' format. The counters exist after the first request."""
        gauges = {"num_running_reqs": self.running, "num_queue_reqs": self.queued, "token_usage": 0}
        counters = {
            "num_requests_total": self.requests,
            "prompt_tokens_total": self.prompt_tokens,
            "generation_tokens_total": self.generated_tokens,
        }
        name = {"model_name": self.arguments.served_model_name}
        scheduler = {"engine_type": "unified", **name, "moe_ep_rank": "0", "pp_rank": "0", "tp_rank": "0"}
        return _exposition("gauge", gauges, scheduler) + _exposition("counter", counters if self.requests else {}, name)


def _exposition(kind: str, values: dict[str, int], labels: dict[str, str]) -> str:
    shown = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return "".join(
        f"# TYPE sglang:{name} {kind}\nsglang:{name}{{{shown}}} {float(value)}\n" for name, value in values.items()
    )
