"""The start and stop of all local clusters, also in a `with` block."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Lifecycle(ABC):
    """Something that runs during its `with` block."""

    @abstractmethod
    def start(self) -> None:
        """Start it, unless it runs."""

    @abstractmethod
    def stop(self) -> None:
        """End all of it, even if it never became ready, and remove its remains."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
