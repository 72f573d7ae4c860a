"""Several writes at the same time, and their failures."""

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any

from kimi_linear_operator import cputime
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.reconcile.errors import Failures, LeftoverError, NameTakenError, lasting_reason


async def write_all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> Failures:
    """Run coroutines that write children at the same time. The failure of one does not stop the others.

    Raises:
        GoneError: The resource was deleted.
    """
    [failures] = await write_groups([coroutines])
    return failures


async def write_groups(groups: Iterable[Iterable[Coroutine[Any, Any, None]]]) -> list[Failures]:
    """Run the coroutines of all groups as `write_all` does; return the failures of each group.

    Raises:
        GoneError: The resource was deleted.
    """
    listed = [list(group) for group in groups]
    errors = iter(await run_concurrently(coroutine for group in listed for coroutine in group))
    return [_failures(islice(errors, len(group))) for group in listed]


def _failures(errors: Iterable[BaseException | None]) -> Failures:
    lasting, passing = [], list[ApiError]()
    for error in errors:
        if isinstance(error, ApiError) and error.is_passing:
            passing.append(error)
        elif isinstance(error, NameTakenError | LeftoverError | ApiError):
            lasting.append(lasting_reason(error))
        elif isinstance(error, BaseException):
            raise error
    longest = max(passing, key=lambda error: error.retry_seconds, default=None)
    return Failures(min(lasting, key=lambda lasting: not lasting.blames_spec, default=None), longest)


async def run_concurrently(coroutines: Iterable[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """Run coroutines concurrently; return the error of each. Their processor time counts as the caller's."""
    tasks = [cputime.Measured(work) for work in coroutines]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    cputime.count(sum(task.seconds for task in tasks))
    return errors
