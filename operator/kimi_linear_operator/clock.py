"""The clock that leases and the time limits of writes go by."""

import time

# Linux stops CLOCK_MONOTONIC while a machine is suspended, and CLOCK_BOOTTIME never: a virtual machine that slept for a
# minute has lost its Lease. Where there is no such clock (macOS), the monotonic one has to do.
# https://man7.org/linux/man-pages/man2/clock_getres.2.html
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Return seconds since some moment, those included for which the machine was suspended."""
    return time.clock_gettime(_CLOCK)
