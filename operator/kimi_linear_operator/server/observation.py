"""What a pass has seen of a server. The status is computed only from this."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes.conditions import Reason, find_condition, ready_condition
from kimi_linear_operator.kubernetes.deletion import finalizers_of
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.exposure import LiveRoutes
from kimi_linear_operator.server.previous_status import AWAITED_WEIGHTS
from kimi_linear_operator.server.revision import Revision, number_on
from kimi_linear_operator.server.router import why_unavailable
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.rollout import Startup
from kimi_linear_operator.server.startup import LoggedPhases, startup_status
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.verification import Verified


@dataclass(frozen=True)
class ServerObservation:
    """Everything from which the status is computed.

    Attributes:
        manifest: The stored server, with its previous status.
        server: The server, None if it cannot be read.
        not_applied: Why the spec was not applied, None if it was.
        deployment: The live Deployment, None if there is none.
        pods: The server's pods.
        choice: The pod template that the server should have, None if the pass did not choose one.
        autoscaler: The live HorizontalPodAutoscaler, None if there is none.
        scaled_object: The live ScaledObject, None if there is none.
        may_grow: Whether the autoscaler may add replicas now.
        contested: Sentences about children's fields that others keep changing.
        router: The live Deployment of its router, None if there is none.
        logged: What the log of the newest pod says about its start, None if it was not read.
        withheld: Why some optional children do not exist, or differ from the spec.
        awaited: Sentences about children that wait until a former object is gone.
        routes: The live objects that lead to the server from outside the cluster.
        is_recorded: Whether the chosen pod template is recorded.
        held: Its children that are being deleted, but that finalizers hold.
    """

    manifest: Manifest
    server: KimiLinearServer | None
    not_applied: Reason | None = None
    deployment: Manifest | None = None
    pods: list[Manifest] = field(default_factory=list)
    choice: TemplateChoice | None = None
    autoscaler: Manifest | None = None
    scaled_object: Manifest | None = None
    may_grow: bool = True
    contested: tuple[str, ...] = ()
    router: Manifest | None = None
    logged: LoggedPhases | None = None
    withheld: tuple[Reason, ...] = ()
    awaited: tuple[str, ...] = ()
    routes: LiveRoutes = field(default_factory=dict)
    is_recorded: bool = True
    held: Sequence[Manifest] = ()

    @property
    def wanted(self) -> int:
        """Return how many replicas should run: as in the spec, or as in the Deployment if the spec was not applied."""
        if self.server and not self.not_applied:
            return wanted_replicas(self.server.spec)
        return int((self.deployment or {}).get("spec", {}).get("replicas", 0))

    @property
    def awaits_weights(self) -> bool:
        """Return whether the spec was not applied because the weights are not complete."""
        return self.not_applied is not None and self.not_applied.name in AWAITED_WEIGHTS

    @property
    def startup(self) -> Manifest | None:
        """Return `status.startup`, None if no replica has started."""
        return startup_status(self.pods, self.logged, self.manifest.get("status", {}).get("startup"))

    @property
    def startup_seconds(self) -> int:
        """Return how long a replica may take to start, in seconds."""
        return (self.server.spec.startup if self.server else Startup()).timeout_seconds

    @property
    def verification(self) -> Verified | None:
        """Return the state of the verification of the current pod template, None if it is not verified."""
        return self.choice.verification if self.choice else None

    def count(self, name: str) -> int:
        """Return a counter of the Deployment's status, 0 if it is missing."""
        return int((self.deployment or {}).get("status", {}).get(name, 0))

    @property
    def is_complete(self) -> bool:
        """Return whether all replicas serve with the current pod template, and no other pods run."""
        return self._is_observed and self.has_all_replicas and not (self.holds_deployment and self._replaces_pods)

    @property
    def is_ready(self) -> bool:
        """Return whether the condition Ready is True.

        After the operator has written a Deployment, the counters in its status are old until its controller has
        observed the write. During this time, a server that was ready with this generation stays ready, unless the write
        replaces its pods.
        """
        ready = ready_condition(self.manifest.get("status", {}))
        was_ready = (ready.get("status"), ready.get("observedGeneration")) == ("True", self.generation)
        stays_ready = was_ready and self.has_all_replicas and not self._replaces_pods
        return not self.not_applied and not self.router_problem and (self.is_complete or stays_ready)

    @property
    def router_problem(self) -> Reason | None:
        """Return why the router differs from the spec, None if it does not differ or there is no router."""
        return why_unavailable(self.server.spec, self.router) if self.server else None

    @property
    def generation(self) -> int:
        """Return the generation of the server's spec."""
        return int(self.manifest["metadata"]["generation"])

    @property
    def _replaces_pods(self) -> bool:
        """Return whether this pass changes the Deployment's pod template."""
        running = self.choice.running if self.choice else None
        return bool(self.choice and running and running.template != self.choice.deployed.template)

    @property
    def has_all_replicas(self) -> bool:
        """Return whether the Deployment's counters say that all replicas serve and have the current pod template."""
        counters = ("replicas", "updatedReplicas", "availableReplicas")
        return self.wanted > 0 and all(self.count(name) == self.wanted for name in counters)

    @property
    def is_rolled_out(self) -> bool:
        """Return whether the server is complete, or whether it wants no replicas and none runs."""
        is_empty = self.wanted == 0 and self.count("replicas") == 0
        return self.is_complete or (is_empty and self._is_observed)

    @property
    def _is_observed(self) -> bool:
        """Return whether the Deployment's controller has observed its current generation."""
        deployment = self.deployment or {"metadata": {"generation": 1}}
        return self.count("observedGeneration") >= int(deployment["metadata"]["generation"])

    @property
    def holds_deployment(self) -> bool:
        """Return whether a finalizer holds the Deployment. Its pods then stay as they are, whatever the spec says."""
        return self.deployment is not None and bool(finalizers_of(self.deployment))

    @property
    def is_paused(self) -> bool:
        """Return whether pods need to be replaced, but somebody has paused the Deployment."""
        is_paused = bool((self.deployment or {}).get("spec", {}).get("paused"))
        return is_paused and self.count("updatedReplicas") < self.wanted

    def deployment_condition(self, kind: str) -> Manifest:
        """Return the Deployment's condition of this type, empty if it is missing."""
        return find_condition((self.deployment or {}).get("status", {}), kind)


def has_rolled_out(deployment: Manifest | None, current: Revision) -> bool:
    """Return whether a Deployment has this revision's pod template, and all wanted replicas serve with it.

    The number of wanted replicas can be 0.
    """
    is_current = number_on(deployment) == current.number
    return is_current and ServerObservation({}, None, deployment=deployment).is_rolled_out


def is_served_with(deployment: Manifest | None, current: Revision) -> bool:
    """Return whether a Deployment has rolled out this revision's pod template, and wants replicas."""
    return has_rolled_out(deployment, current) and ServerObservation({}, None, deployment=deployment).wanted > 0
