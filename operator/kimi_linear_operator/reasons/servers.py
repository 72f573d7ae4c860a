"""Reasons that only servers have."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, WAIT, Explanation
from kimi_linear_operator.reasons.name import ReasonName

SERVERS: Mapping[ReasonName, Explanation] = {
    # Whether replicas serve.
    "RollingOut": Explanation("server", "Replicas serve, but some of them still have an older spec.", WAIT),
    "RolloutPaused": Explanation(
        "server",
        "Somebody has paused the Deployment of the replicas or of the router, so its pods are not replaced.",
        "Run the command that the message contains: `kubectl rollout resume deployment/NAME`.",
    ),
    "RouterUnavailable": Explanation(
        "server",
        "The replicas serve, but some pods of the router (`spec.router`) do not. Or its new pods have not begun to "
        "serve in time, and the former ones still serve. While no pod of the router serves, the Service leads "
        "directly to the replicas.",
        "`kubectl describe pods --selector kimi-linear.io/router=NAME` shows what these pods wait for, often the "
        "image or free resources on a node. `kubectl logs` with the same selector shows why a router fails. Your "
        "own image must contain Python and the package sglang-router. If another version of the operator has built the "
        "router's newest pods, and these pods fail, [give the router other "
        "pods](upgrading.md#when-a-rollout-stops).",
    ),
    "ProgressDeadlineExceeded": Explanation(
        "server",
        "A rollout takes longer than the time that is allowed for draining, for pulling the image and for starting "
        "(`Stalled`).",
        "Remove the cause that the message names. The rollout then continues by itself.",
    ),
    "NoReplicas": Explanation("server", "`replicas` is 0.", "Scale the server up to use it."),
    "ScaledToZero": Explanation(
        "server",
        "KEDA has removed the last replica, because no request needed it (`autoscaling.minReplicas` is 0).",
        "Send a request: KEDA then starts a replica. Repeat the request until the replica serves. To keep a replica, "
        "for example for a benchmark, set `autoscaling.minReplicas` to 1. `suspend` switches the server off.",
    ),
    "AllReplicasServe": Explanation("server", "Every replica serves with the current spec (`Ready`).", NOTHING),
    "Serving": Explanation("server", "At least one replica serves (`Available`).", NOTHING),
    # Reasons of the condition `Autoscaling`. Servers with `autoscaling` have it.
    "FollowsLoad": Explanation(
        "server", "The autoscaler sets `replicas` according to the load (`Autoscaling`).", NOTHING
    ),
    "ReplicaAwaited": Explanation(
        "server",
        "A replica does not serve yet, has just begun to serve, or no longer serves. Until all replicas serve, the "
        "operator does not let the autoscaler add replicas. Otherwise the autoscaler would continue to add replicas "
        "until the first new one serves: a loading replica takes no load from the other replicas, so their queues "
        "stay long.",
        "Wait. If the replica does not start, the reason of `Ready` says why.",
    ),
    "MaximumReached": Explanation(
        "server",
        "The load asks for more replicas than `autoscaling.maxReplicas`.",
        "Raise `autoscaling.maxReplicas` if there are GPUs for more replicas.",
    ),
    "MetricsMissing": Explanation(
        "server",
        "The autoscaler cannot get a metric, so it neither adds nor removes replicas. The message quotes the "
        "autoscaler. In the first minute after a start, this is normal.",
        "Check each step from the server to the autoscaler with the commands in [the "
        "metrics](guide/scale.md#the-metrics), or in [KEDA](guide/scale.md#keda).",
    ),
    "ScalingFailed": Explanation(
        "server",
        "The autoscaler cannot read or cannot change the server's subresource `/scale`. The message quotes the "
        "autoscaler.",
        "Correct what the message names. Most often somebody has changed Kubernetes' own role for autoscalers, or "
        "an admission policy refuses the change. With KEDA, also check the TriggerAuthentication that the spec names.",
    ),
    "AutoscalerPending": Explanation(
        "server",
        "No controller has handled the HorizontalPodAutoscaler or the ScaledObject yet. Or the spec has changed from "
        "one of these two objects to the other, and the former object still exists.",
        "Wait some seconds. If the reason stays, kube-controller-manager does not run the controller of autoscalers, "
        "or KEDA's operator does not run. If the message names a finalizer of KEDA and you have uninstalled KEDA, "
        "install it again until the ScaledObject is gone, or remove the finalizer.",
    ),
    "AutoscalerPaused": Explanation(
        "server",
        "Somebody has paused KEDA with an annotation of the ScaledObject.",
        "To continue, remove the annotations that begin with `autoscaling.keda.sh/paused` from the ScaledObject.",
    ),
    # Conditions that say nothing about readiness (`TemplateCurrent`, `Synced`). Tools that wait for readiness ignore
    # them.
    "Newest": Explanation(
        "server", "The pods have the pod template that this version of the operator builds.", NOTHING
    ),
    "NewTemplateAvailable": Explanation(
        "server",
        "This version of the operator builds a different pod template. The running pods stay.",
        "To replace the pods, give the server's annotation `kimi-linear.io/rollout` a new value, or change the "
        "server's spec.",
    ),
    "InputsUnknown": Explanation(
        "server",
        "Another version of the operator, most likely a newer one, has built the pods from fields that this version "
        "does not know, or from values that it refuses. New pods of this version would ignore them, so no automatic "
        "rollout replaces the running pods.",
        "Run a version that knows the fields. If you want pods without them, give the server's annotation "
        "`kimi-linear.io/rollout` a new value.",
    ),
    "RollingOutByItself": Explanation(
        "server",
        "The operator is replacing the pods, because its administrator turned on automatic rollouts.",
        WAIT,
    ),
    "Verifying": Explanation(
        "server",
        "A benchmark asks the server questions to check its answers (`verification`). With mode `Block`, no replica "
        "with the new pod template serves before the answers are checked.",
        "Wait. If this takes long, the message and `kubectl describe klb NAME` show what the benchmark waits for.",
    ),
    "Verified": Explanation("server", "In the verification of the pod template, the answers were right.", NOTHING),
    "VerificationFailed": Explanation(
        "server",
        "The server's answers are wrong, although its pods are healthy. The message contains the numbers. With mode "
        "`Block`, replicas with this pod template do not serve.",
        "Run `kimi-linear report NAME` for the benchmark that the message names, and change the spec. Most often "
        "the attention backend, the image or an extra argument is the cause. To verify the same pods again, give "
        "the server's annotation `kimi-linear.io/rollout` a new value.",
    ),
    "VerificationImpossible": Explanation(
        "server",
        "The benchmark that verifies the server could not ask its questions, for example because it could not "
        "download the questions. With mode `Block`, replicas with the new pod template do not serve.",
        "Do what the message says. The operator creates another benchmark after an hour, or when you delete the "
        "failed one (`kubectl delete klb NAME`).",
    ),
    "RolledBack": Explanation(
        "server",
        "The newest pod template failed its verification, so the pods have the last verified template again "
        "(`verification.onFailure: Rollback`).",
        "Change the spec. The operator does not try the failed template again.",
    ),
    "TemplateRejected": Explanation(
        "server",
        "Like `RolledBack`, but in an automatic rollout. No other server gets the failed pod template.",
        "Find out why the answers are wrong. To go on with the other servers, change this server's spec so that it "
        "gets other pods, or turn off `verification`.",
    ),
    "AppliedBefore": Explanation(
        "server",
        "The spec was applied earlier, but now there is a problem. The running pods stay.",
        "See the reason of `Ready`.",
    ),
    "SpecNotApplied": Explanation(
        "server",
        "The spec was not applied, so the operator does not know which pods it needs.",
        "See the reason of `Ready`.",
    ),
    "Undisputed": Explanation("server", "Nobody changes the fields that the operator writes.", NOTHING),
    "ChangedByOthers": Explanation(
        "server",
        "Somebody, for example an autoscaler of the Deployment or a webhook, keeps changing a field that the operator "
        "sets. The operator restores the field only every few minutes.",
        "Stop the other writer. The message names the field and, if known, the field manager of the other writer. "
        "To scale, use the server and not its Deployment: `kubectl scale kls/NAME`, or `autoscaling` of the server.",
    ),
    "KindMissing": Explanation(
        "server",
        "The spec asks for an object of a kind whose definition is not installed in this cluster, or not in the "
        "version that the operator uses. Or the spec asks for an autoscaler, and the cluster has the kind of the "
        "former autoscaler only in another version. The operator has written all other objects of the server.",
        "Install the add-on that the message names, with this version of the kind. The operator creates the object "
        "within a minute, without a restart. If the add-on no longer has this version, delete the former autoscaler, "
        "and restart the operator.",
    ),
    "KindForbidden": Explanation(
        "server",
        "The spec asks for an object of a kind that the operator's Role does not allow. Or the spec asks for an "
        "autoscaler, the former autoscaler still exists, and the Role does not allow the kind of the former one. The "
        "operator has written all other objects of the server.",
        "Give the operator the rules of the Role in its chart. Some rules need a value of the chart: `rbac.expose` "
        "for an Ingress and an HTTPRoute, `rbac.networkPolicies` for a NetworkPolicy, `rbac.monitoring` for a "
        "PodMonitor and a PrometheusRule, `rbac.keda` for a ScaledObject. The operator creates the object within a "
        "minute, without a restart.",
    ),
    "KindUnreadable": Explanation(
        "server",
        "The spec asks for an object of a kind that the API server cannot list. The operator has written all other "
        "objects of the server.",
        "Read the error in the operator's log or at `/readyz`. Often the conversion webhook of this kind does not "
        "answer. If the error says that discovery cannot be read, allow it: bind the ClusterRole `system:discovery` to "
        "the operator.",
    ),
    "Exposed": Explanation(
        "server",
        "Every address in `status.addresses` leads to the server.",
        NOTHING,
    ),
    "AddressPending": Explanation(
        "server",
        "A load balancer, an ingress controller or a gateway has not yet reported that it forwards requests to the "
        "server.",
        "Wait a minute. Then check that a controller runs for the load balancer class, the IngressClass or the Gateway "
        "that the message names, and read its log. Some controllers work but do not report an address. Most of them "
        "have an option for this report.",
    ),
    "RouteRefused": Explanation(
        "server",
        "A gateway refuses the server's HTTPRoute. The message quotes the gateway.",
        "`NotAllowedByListeners`: allow the server's namespace in `allowedRoutes` of the Gateway. "
        "`NoMatchingListenerHostname`: set `httpRoute.hostnames` of the server to names that the listener accepts. "
        "`NoMatchingParent`: correct `sectionName`. `BackendNotFound`: the Service does not exist; see `Synced`.",
    ),
}
