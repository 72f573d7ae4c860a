"""A refused status is reported, and other work continues. An object that changes again and again causes few Events."""

from integration.faults import Call, refuse
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.reconcile.event_limit import BURST
from kimi_linear_operator.server.spec import SERVER

_FLAPS = 10


def _is_status_of_frozen(call: Call) -> bool:
    return call.is_write and call.path.endswith("/frozen/status")


def test_a_server_whose_status_is_refused_is_still_reconciled_and_reports_it_once(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    proxy.begin(refuse(422), _is_status_of_frozen)
    namespace.create_server("frozen")
    [event] = wait_for(lambda: namespace.events("frozen", "StatusRefused"), "an Event reports it")
    assert event["message"].startswith("The status cannot be written: 422")
    namespace.create_server("other")
    namespace.wait_until_ready("other")
    namespace.change_server("frozen", {"replicas": 2})
    wait_for(
        lambda: namespace.deployment("frozen")["spec"]["replicas"],
        "the server is scaled",
        lambda replicas: replicas == 2,
    )
    # The write is tried again when the object changes, otherwise after minutes.
    writes = proxy.count(_is_status_of_frozen)
    assert writes <= 3
    stays(
        lambda: proxy.count(_is_status_of_frozen),
        "the status write is not tried again",
        lambda count: count <= writes + 1,
        3.0,
    )
    assert len(namespace.events("frozen", "StatusRefused")) == 1
    assert sandbox.operator.told().count("The API server refuses the status") == 1
    refused = 'kimi_linear_operator_status_refused_total{code="422",kind="KimiLinearServer"}'
    assert refused in sandbox.operator.ask("/metrics")[1]

    proxy.heal()
    namespace.edit(SERVER, "frozen", {"metadata": {"annotations": {"note": "put right"}}})
    namespace.wait_until_ready("frozen")


def test_a_server_that_flaps_causes_few_events(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server("flapping", {"tensorParallelism": 1})
    for _ in range(_FLAPS):
        namespace.wait_until_ready("flapping")
        namespace.change_server("flapping", {"suspend": True})
        namespace.wait_for_condition("flapping", "Ready", "False", "Suspended")
        namespace.change_server("flapping", {"suspend": False})
    namespace.wait_until_ready("flapping")
    recorded = [len(namespace.events("flapping", reason)) for reason in ("AllReplicasServe", "Suspended")]
    assert recorded == [BURST, BURST]
