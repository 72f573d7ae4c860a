"""Times in Kubernetes' format, RFC 3339."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta


def seconds_between(earlier: object, later: object) -> float | None:
    """Return the seconds from one time to another, None if one of them cannot be parsed."""
    begin, end = moment(earlier), moment(later)
    return (end - begin).total_seconds() if begin and end else None


def seconds_before(time: str, seconds: float) -> str:
    """Return the time this many seconds before another time, empty if one of the two cannot be represented."""
    end = moment(time)
    try:
        return (end - timedelta(seconds=seconds)).isoformat() if end else ""
    except OverflowError:
        return ""  # Somebody has written a time in the year 1.


def moment(text: object) -> datetime | None:
    """Parse a time, None if that fails. A time without a zone is UTC."""
    try:
        time = datetime.fromisoformat(str(text))  # noqa: TID251 - here alone
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def soonest(waits: Iterable[float | None]) -> float | None:
    """Return the shortest wait, None if all are None."""
    return min((wait for wait in waits if wait is not None), default=None)
