"""The life of the stand-in: loading, warming up, serving, failing, draining. And what it counts."""

import asyncio
import os
import signal
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stand_in.answers import Answer
from stand_in.behaviour import Behaviour


class ToldToFailError(Exception):
    """A request that fails because it was told to."""


@dataclass
class Engine:
    """What SGLang keeps in its processes."""

    arguments: Namespace
    behaviour: Behaviour
    is_warm: bool = False
    is_draining: bool = False
    is_dead: bool = False
    """The engine; the process lives on and does not know."""
    is_known_to_be_dead: bool = False
    """Health was asked, and nothing came back."""
    open_requests: int = 0
    """HTTP requests that have no whole answer yet."""
    running: int = 0
    """Requests for text that are being answered."""
    requests: int = 0
    """Requests for text so far, including those that failed."""
    prompt_tokens: int = 0
    generated_tokens: int = 0

    @property
    def is_healthy(self) -> bool:
        """What /health says."""
        return self.is_warm and not self.is_draining

    async def generate(self, prompt_tokens: int, answer: Answer) -> AsyncIterator[int]:
        """Yield how many tokens of an answer are there, as they become more; none may be asked for, too.

        Raises:
            ToldToFailError: This request is to fail.
        """
        if not answer.text:
            return
        with self._counted(prompt_tokens):
            number = self.requests
            if self.behaviour.fails(number):
                raise ToldToFailError
            if self.behaviour.hangs(number):
                self.is_dead = True
                await asyncio.Event().wait()
            step = self.behaviour.tokens_per_event
            for start in range(0, len(answer.text), step):
                end = min(start + step, len(answer.text))
                await asyncio.sleep((end - start) * self.behaviour.seconds_per_token)
                if start and self.behaviour.dies(number):
                    os.kill(os.getpid(), signal.SIGKILL)
                self.generated_tokens += end - start
                yield end

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
        """Return some of SGLang's metrics in Prometheus' format."""
        values = {
            ("num_running_reqs", "gauge"): self.running,
            ("num_queue_reqs", "gauge"): 0,
            ("token_usage", "gauge"): 0.0,
            ("num_requests_total", "counter"): self.requests,
            ("prompt_tokens_total", "counter"): self.prompt_tokens,
            ("generation_tokens_total", "counter"): self.generated_tokens,
        }
        label = f'{{model_name="{self.arguments.served_model_name}"}}'
        return "".join(
            f"# TYPE sglang:{name} {kind}\nsglang:{name}{label} {value}\n" for (name, kind), value in values.items()
        )
