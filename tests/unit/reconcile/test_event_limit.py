"""An object that changes again and again causes few Events, and these say how many changes were left out."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.event_limit import BURST, SECONDS_PER_EVENT, EventLimiter

MINUTE = 60.0


def event(uid: str = "one", reason: str = "CrashLooping", namespace: str = "default") -> Manifest:
    return {"involvedObject": {"namespace": namespace, "uid": uid}, "reason": reason, "message": "exit code 1"}


def test_a_burst_is_recorded_unchanged() -> None:
    limiter = EventLimiter()
    assert [limiter.admit(event(), 0.0) for _ in range(BURST)] == [event()] * BURST
    assert limiter.admit(event(), 0.0) is None


def test_continuing_changes_get_one_event_in_five_minutes_with_the_number_left_out() -> None:
    limiter = EventLimiter()
    changes = [limiter.admit(event(), second) for second in range(0, 3600, 2)]
    recorded = [found for found in changes if found]
    assert len(recorded) == BURST + 3600 // SECONDS_PER_EVENT - 1
    assert recorded[-1] == event() | {"message": "exit code 1 (149 changes before this one were not recorded)"}


def test_another_object_has_a_burst_of_its_own() -> None:
    limiter = EventLimiter()
    for _ in range(BURST + 1):
        limiter.admit(event(), 0.0)
    assert limiter.admit(event("other"), 0.0) == event("other")


def test_a_flapping_reason_does_not_hide_another_reason() -> None:
    limiter = EventLimiter()
    for _ in range(BURST + 1):
        limiter.admit(event(), 0.0)
    assert limiter.admit(event(reason="ChangedByOthers"), 0.0) == event(reason="ChangedByOthers")


def test_an_object_that_was_quiet_for_long_may_have_a_burst_again() -> None:
    limiter = EventLimiter()
    for _ in range(BURST):
        limiter.admit(event(), 0.0)
    assert all(limiter.admit(event(), 60 * MINUTE) for _ in range(BURST))
    assert limiter.admit(event(), 60 * MINUTE) is None


def test_the_memory_for_objects_is_bounded() -> None:
    limiter = EventLimiter()
    for number in range(20_000):
        limiter.admit(event(str(number)), 0.0)
    assert len(limiter._allowances) == 4 * 4096


def test_thousands_of_objects_of_one_namespace_give_those_of_another_no_new_burst() -> None:
    limiter = EventLimiter()
    for _ in range(BURST):
        limiter.admit(event(), 0.0)
    for number in range(20_000):
        limiter.admit(event(str(number), namespace="tenant"), 0.0)
    assert limiter.admit(event(), 0.0) is None
