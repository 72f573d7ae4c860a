"""The clock for Leases and for the time limits of writes. It also shows whether the machine was suspended."""

import time

# While a machine is suspended, Linux stops CLOCK_MONOTONIC but not CLOCK_BOOTTIME. A virtual machine that was suspended
# for a minute has lost its Lease, so this minute must count. macOS has no CLOCK_BOOTTIME, so this module uses the
# monotonic clock there. https://man7.org/linux/man-pages/man2/clock_getres.2.html
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def suspended_seconds() -> float:
    """Return for how many seconds the machine was suspended since it started; always 0 on macOS."""
    return seconds() - time.clock_gettime(time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Return seconds since an arbitrary moment, including the time while the machine was suspended."""
    return time.clock_gettime(_CLOCK)
