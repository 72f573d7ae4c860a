"""Times as Kubernetes writes them: RFC 3339."""

from datetime import UTC, datetime


def seconds_between(earlier: object, later: object) -> float | None:
    """Return how many seconds lie between two times, None if one of them cannot be read."""
    times = [moment(earlier), moment(later)]
    return (times[1] - times[0]).total_seconds() if times[0] and times[1] else None


def moment(text: object) -> datetime | None:
    """Return a time, None if it cannot be read. One that names no zone is of UTC."""
    try:
        time = datetime.fromisoformat(str(text))  # noqa: TID251 - here alone
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
