"""Reasons that only servers have."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, WAIT, Explanation
from kimi_linear_operator.reasons.name import ReasonName

SERVERS: Mapping[ReasonName, Explanation] = {
    # Whether replicas serve.
    "RollingOut": Explanation("server", "Replicas serve, but not all of them with the current spec.", WAIT),
    "RolloutPaused": Explanation(
        "server",
        "Somebody has paused the Deployment, so its pods are not replaced.",
        "`kubectl rollout resume deployment/NAME`.",
    ),
    "RouterUnavailable": Explanation(
        "server",
        "The replicas serve, but not all pods of the router do (`spec.router`). While none does, the Service leads to "
        "the replicas directly.",
        "`kubectl describe pods --selector kimi-linear.io/router=NAME` shows what they wait for: often their image, or "
        "room on a node. `kubectl logs` with the same selector shows why a router fails. An image of your own needs "
        "Python and the package sglang-router.",
    ),
    "ProgressDeadlineExceeded": Explanation(
        "server",
        "A rollout takes longer than the time allowed for draining, pulling the image and starting (`Stalled`).",
        "Remove the cause that the message names. The rollout then continues by itself.",
    ),
    "NoReplicas": Explanation("server", "`replicas` is 0.", "Scale the server up to use it."),
    "AllReplicasServe": Explanation("server", "Every replica serves with the current spec (`Ready`).", NOTHING),
    "Serving": Explanation("server", "At least one replica serves (`Available`).", NOTHING),
    # The condition `Autoscaling`, which those with `autoscaling` have.
    "FollowsLoad": Explanation(
        "server", "The autoscaler sets `replicas` according to the load (`Autoscaling`).", NOTHING
    ),
    "ReplicaAwaited": Explanation(
        "server",
        "A replica does not serve yet, has just begun to, or no longer serves. Until all replicas serve, the operator "
        "lets the autoscaler add none: the autoscaler would count a replica that is still loading as idle, and add "
        "more.",
        "Wait. If the replica does not start, the reason of `Ready` says why.",
    ),
    "MaximumReached": Explanation(
        "server",
        "The load asks for more replicas than `autoscaling.maxReplicas`.",
        "Raise `autoscaling.maxReplicas` if there are GPUs for more replicas.",
    ),
    "MetricsMissing": Explanation(
        "server",
        "The autoscaler cannot get a metric, so it adds and removes no replicas. The message is the autoscaler's. In "
        "the first minute after a start this is normal.",
        "Check each step from the server to the autoscaler: "
        "[the metrics](guide/scale.md#the-metrics) has the commands.",
    ),
    "ScalingFailed": Explanation(
        "server",
        "The autoscaler can neither read nor change the server's `/scale`. The message is the autoscaler's.",
        "Most often Kubernetes' own role for autoscalers was changed, or an admission policy refuses the change: "
        "correct what the message names.",
    ),
    "AutoscalerPending": Explanation(
        "server",
        "No controller has looked at the HorizontalPodAutoscaler and at the load yet.",
        "Wait some seconds. If it stays, kube-controller-manager does not run the controller of autoscalers.",
    ),
    # Conditions that say nothing about readiness, so tools that wait for it ignore them (`TemplateCurrent`, `Synced`).
    "Newest": Explanation("server", "The pods are as this version of the operator builds them.", NOTHING),
    "NewTemplateAvailable": Explanation(
        "server",
        "This version of the operator would build other pods. The running pods stay.",
        "To take the new pods, give the server's annotation `kimi-linear.io/rollout` a new value, or change its spec.",
    ),
    "InputsUnknown": Explanation(
        "server",
        "Another version of the operator, most likely a newer one, has built the pods from fields that this version "
        "does not know. Pods of this version would lack what these fields ask for, so no automatic rollout takes them. "
        "The running pods stay.",
        "Run a version that knows the fields. If you want pods without them, give the server's annotation "
        "`kimi-linear.io/rollout` a new value.",
    ),
    "RollingOutByItself": Explanation(
        "server",
        "The operator is replacing the pods by newer ones, because its administrator turned on automatic rollouts.",
        WAIT,
    ),
    "Verifying": Explanation(
        "server",
        "A benchmark asks the server questions to find out whether its answers are right (`verification`). With mode "
        "`Block`, no replica with the new pod template serves until then.",
        "Wait. If it takes long, the message and `kubectl describe klb NAME` say what the benchmark waits for.",
    ),
    "Verified": Explanation("server", "The answers were right when the pod template was verified.", NOTHING),
    "VerificationFailed": Explanation(
        "server",
        "The server's answers are wrong, although its pods are healthy. The message has the numbers. With mode "
        "`Block`, replicas with this pod template do not serve.",
        "Look at `kimi-linear report NAME` for the benchmark that the message names. Most often the attention backend, "
        "the image or an extra argument is the cause: change the spec. To ask the same pods again, give the server's "
        "annotation `kimi-linear.io/rollout` a new value.",
    ),
    "VerificationImpossible": Explanation(
        "server",
        "The benchmark that verifies the server could not ask its questions, for example because it could not download "
        "them. With mode `Block`, replicas with the new pod template do not serve.",
        "Do what the message says. The operator creates another benchmark after an hour, or when you delete this one "
        "(`kubectl delete klb NAME`).",
    ),
    "RolledBack": Explanation(
        "server",
        "The newest pod template failed its verification, so the pods have the last verified one again "
        "(`verification.onFailure: Rollback`).",
        "Change the spec. The operator does not try the failed template again.",
    ),
    "TemplateRejected": Explanation(
        "server",
        "Like `RolledBack`, but the operator had rolled the pod template out by itself. No other server gets it.",
        "Find out why the answers are wrong. To go on with the other servers, change this server's spec or turn off "
        "`verification`.",
    ),
    "AppliedBefore": Explanation(
        "server",
        "The spec was applied, but something is wrong now. The pods stay.",
        "See the reason of `Ready`.",
    ),
    "SpecNotApplied": Explanation(
        "server", "The spec was not applied, so it is unknown which pods it needs.", "See the reason of `Ready`."
    ),
    "Undisputed": Explanation("server", "Nobody changes what the operator writes.", NOTHING),
    "ChangedByOthers": Explanation(
        "server",
        "Somebody keeps changing a field that the operator sets, for example an autoscaler of the Deployment or a "
        "webhook. The operator restores it only every few minutes.",
        "Stop the other writer: the message names the field and, if Kubernetes knows it, its field manager. Scale the "
        "server, not its Deployment: `kubectl scale kls/NAME`, or a HorizontalPodAutoscaler of the server.",
    ),
    "KindMissing": Explanation(
        "server",
        "The spec asks for an object of a kind that this cluster does not have: the definition is not installed. "
        "The server has everything else.",
        "Install what the message names. The operator makes the object within a minute, without a restart.",
    ),
    "KindForbidden": Explanation(
        "server",
        "The spec asks for an object of a kind that the operator's Role does not allow. The server has everything "
        "else.",
        "Give the operator the rules of its chart's Role. Some need a value of the chart: `rbac.expose` for an Ingress "
        "and an HTTPRoute, `rbac.networkPolicies` for a NetworkPolicy, `rbac.monitoring` for a PodMonitor and a "
        "PrometheusRule. The operator makes the object within a minute, without a restart.",
    ),
    "KindUnreadable": Explanation(
        "server",
        "The spec asks for an object of a kind that the API server cannot list. The server has everything else.",
        "Read the error in the operator's log or at `/readyz`. Often a webhook that converts objects of this kind does "
        "not answer.",
    ),
    "Exposed": Explanation(
        "server",
        "Every way into the cluster that the spec asks for leads to the server: `status.addresses`.",
        NOTHING,
    ),
    "AddressPending": Explanation(
        "server",
        "A load balancer, an ingress controller or a gateway has not reported yet that it leads to the server.",
        "Wait a minute. Then check that the cluster has a controller for the load balancer class, the IngressClass or "
        "the Gateway that the message names, and read its log. A controller that never reports an "
        "address may work all the same; most have an option to report it.",
    ),
    "RouteRefused": Explanation(
        "server",
        "A gateway refuses the server's HTTPRoute. The message has the gateway's words.",
        "`NotAllowedByListeners`: allow the server's namespace in `allowedRoutes` of the Gateway. "
        "`NoMatchingListenerHostname`: choose `hostnames` that the listener has. `NoMatchingParent`: correct "
        "`sectionName`. `BackendNotFound`: the Service is gone; see `Synced`.",
    ),
}
