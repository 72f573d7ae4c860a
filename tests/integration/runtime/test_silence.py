"""A replica is unready soon after the API server has fallen silent, but not while nothing happens in the cluster.

The API server accepts connections and answers nothing, as behind a broken network. At rest, it sends a watch only
about one bookmark a minute.
"""

from integration.faults import Silence
from integration.sandbox import Sandboxes
from integration.waiting import wait_for

_READY = (200, "ok\n")
# Two minutes after the last event of a watch, and some time for the check itself.
_UNREADY_SECONDS = 125.0


def test_a_replica_is_unready_two_minutes_after_the_api_server_has_fallen_silent_but_stays_ready_at_rest(
    sandboxes: Sandboxes,
) -> None:
    with sandboxes.open() as silent, sandboxes.open() as resting:
        for sandbox in (silent, resting):
            sandbox.operator.start()
            sandbox.wait_for_resync()
        silent.proxy.freeze_watches()
        silent.proxy.begin(Silence())

        def readiness() -> tuple[int, str]:
            assert resting.operator.ask("/readyz") == _READY
            return silent.operator.ask("/readyz")

        unready = (503, "the operator cannot read any kind of objects\n")
        wait_for(readiness, "the replica is unready", lambda told: told[:1] == unready[:1], _UNREADY_SECONDS)
        assert unready[1] in silent.operator.ask("/readyz")[1]
        silent.proxy.heal()
        wait_for(readiness, "the replica is ready again", lambda told: told == _READY)
