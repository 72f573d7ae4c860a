"""What all local clusters have in common: they are started and stopped, also by a `with` block."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Lifecycle(ABC):
    """Runs inside its `with` block."""

    @abstractmethod
    def start(self) -> None:
        """Start it, unless it runs."""

    @abstractmethod
    def stop(self) -> None:
        """End all of it, whether or not it ever was ready, and remove what it left."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
