"""The API server's audit log: every request and its user."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from integration.waiting import wait_for
from kimi_linear_operator.runtime.queue import LONGEST_QUIET_SECONDS

# The Event about a change is written after the status.
_QUIET_SECONDS = LONGEST_QUIET_SECONDS + 0.5
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Request:
    """A request to the API server, with the time of its answer in seconds since 1970."""

    user: str
    agent: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    status: int
    is_forbidden: bool
    began: float
    ended: float

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES


@dataclass(frozen=True)
class AuditLog:
    """Reads the requests since a mark."""

    file: Path

    def mark(self) -> int:
        return self.file.stat().st_size

    def since(self, mark: int, user: str, namespace: str) -> list[Request]:
        """Return a user's requests about the objects of a namespace."""
        found = self._read(mark, user.encode(), namespace.encode())
        return [item for item in found if item.user == user and item.namespace == namespace]

    def of_agent(self, agent: str) -> list[Request]:
        """Return all requests of programs whose user agent begins with this text."""
        return [item for item in self._read(0) if item.agent.startswith(agent)]

    def writes(self, mark: int, user: str, namespace: str) -> list[Request]:
        return [item for item in self.since(mark, user, namespace) if item.is_write]

    def wait_until_quiet(self, mark: int, user: str, namespace: str) -> None:
        """Wait until a user has written nothing for longer than the operator's own waits."""
        last: tuple[float, int] = (time.monotonic(), -1)

        def seconds_without_write() -> float:
            nonlocal last
            count = len(self.writes(mark, user, namespace))
            last = last if count == last[1] else (time.monotonic(), count)
            return time.monotonic() - last[0]

        wait_for(seconds_without_write, "nothing is written for a while", lambda seconds: seconds > _QUIET_SECONDS)

    def _read(self, mark: int, *words: bytes) -> Iterator[Request]:
        """Read only the lines with these words. To decode all lines again and again would use a whole processor."""
        with self.file.open("rb") as file:
            file.seek(mark)
            for line in file:
                # The last line may be incomplete.
                if line.endswith(b"\n") and all(word in line for word in words):
                    yield request_of(json.loads(line))


def request_of(event: dict[str, Any]) -> Request:
    """Return the request of a line of the log."""
    subject = event.get("objectRef", {})
    resource = "/".join(filter(None, (subject.get("resource", ""), subject.get("subresource", ""))))
    return Request(
        # A request that ends before the API server knows its user has no user.
        user=event["user"].get("username", ""),
        agent=event.get("userAgent", ""),
        verb=event["verb"],
        group=subject.get("apiGroup", ""),
        resource=resource,
        namespace=subject.get("namespace", ""),
        name=subject.get("name", ""),
        status=event.get("responseStatus", {}).get("code", 0),
        is_forbidden=event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid",
        began=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
        ended=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )
