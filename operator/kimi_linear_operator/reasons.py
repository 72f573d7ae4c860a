"""All reasons of our conditions: what each means, and what to do about it.

A new reason takes two lines: one in `ReasonName`, one in `REASONS`. mypy rejects a reason that is not listed, and a
test finds one that is not explained or not used. `docs/reasons.md` is generated from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ReasonName = Literal[
    "AddressPending",
    "AllReplicasServe",
    "ApiKeyUnknown",
    "AppliedBefore",
    "ApplyFailed",
    "AutoscalerPending",
    "BaselineMissing",
    "ChangedByOthers",
    "ClientFailed",
    "ContainerConfigInvalid",
    "CrashLooping",
    "EndpointGiven",
    "Evicted",
    "Exposed",
    "FollowsLoad",
    "HubLimited",
    "HubUnreachable",
    "ImagePullFailed",
    "InputsUnknown",
    "InvalidSpec",
    "JobSuspended",
    "KindForbidden",
    "KindMissing",
    "KindUnreadable",
    "MaximumReached",
    "MetricsMissing",
    "ModelLoading",
    "NameConflict",
    "NewTemplateAvailable",
    "Newest",
    "NoReplicas",
    "NoResult",
    "NodeLost",
    "NotResponding",
    "NotScheduled",
    "NotStalled",
    "OldPodTerminating",
    "OutOfMemory",
    "Pending",
    "PodCreationFailed",
    "PodFailed",
    "PreflightFailed",
    "ProgressDeadlineExceeded",
    "Queued",
    "ReadinessGateClosed",
    "Regressed",
    "Replacing",
    "ReplicaAwaited",
    "RequestsFailed",
    "ResultUnknown",
    "RevisionMissing",
    "RolledBack",
    "RollingOut",
    "RollingOutByItself",
    "RolloutPaused",
    "RouteRefused",
    "RouterUnavailable",
    "Running",
    "ScalingFailed",
    "SecretMissing",
    "ServerChanged",
    "ServerMissing",
    "ServerReady",
    "ServerUnready",
    "Serving",
    "Settled",
    "SpecNotApplied",
    "SpecValid",
    "Starting",
    "StartupTimedOut",
    "SuitesEnded",
    "Suspended",
    "TemplateRejected",
    "TerminationStuck",
    "ThresholdMissed",
    "ThresholdsMet",
    "TimedOut",
    "TokenRefused",
    "Undisputed",
    "Unschedulable",
    "VerificationFailed",
    "VerificationImpossible",
    "Verified",
    "Verifying",
    "VolumeBusy",
    "VolumeFull",
    "VolumeNotMounted",
    "VolumeNotWritable",
    "WaitingForTurn",
    "WeightsComplete",
    "WeightsCorrupt",
    "WeightsDownloading",
    "WeightsMissing",
    "WeightsUnready",
]

UsedBy = Literal["server", "benchmark", "weights", "both"]

NOTHING = "Nothing."
WAIT = "Wait."


@dataclass(frozen=True)
class Explanation:
    """What a reason means for the user.

    Attributes:
        used_by: The resources whose conditions use it.
        meaning: What has happened.
        remedy: What to do; NOTHING if all is well, WAIT if it passes by itself.
    """

    used_by: UsedBy
    meaning: str
    remedy: str


REASONS: Mapping[ReasonName, Explanation] = {
    # The spec and the objects that it leads to.
    "Pending": Explanation(
        "both",
        "No operator has looked at the resource yet.",
        "Wait a moment. If it stays, check that the operator runs and watches this namespace.",
    ),
    "SpecValid": Explanation("both", "The spec passes all rules (`Accepted`).", NOTHING),
    "InvalidSpec": Explanation(
        "both",
        "The spec breaks a rule, or is nested deeper than 64 levels or too large (256 KiB of JSON, 5,000 keys and "
        "values). Pods that already run stay; you can scale them down or suspend them.",
        "Change the field that the message names.",
    ),
    "NameConflict": Explanation(
        "both",
        "An object with a name that the operator needs belongs to somebody else. The operator does not change it.",
        "Delete that object, rename the resource, or hand the object over: annotate it with "
        "`kimi-linear.io/adopt=true`. An object of another server or benchmark that exists is never taken over.",
    ),
    "Replacing": Explanation("both", "Objects of a deleted resource of this name are still being removed.", WAIT),
    "ApplyFailed": Explanation(
        "both",
        "The API server refused an object that the operator builds from the spec. The message is the API server's.",
        "Most often `podTemplate` has a wrong value, or an admission policy forbids the object: correct one of "
        "them. Put labels and annotations that a policy demands into `inheritedMetadata`.",
    ),
    "Suspended": Explanation("both", "`suspend` is true: nothing runs.", "Set `suspend` to false to continue."),
    # Pods, before their containers run.
    "PodCreationFailed": Explanation(
        "both",
        "Kubernetes refuses to create the pods: a quota, a LimitRange, Pod Security or another admission policy. "
        "The message quotes the refusal.",
        "Raise the quota, label the namespace for Pod Security, or change `podTemplate`.",
    ),
    "OldPodTerminating": Explanation(
        "server",
        "The next pod needs the GPUs or the quota that an old pod still holds while it finishes its requests. The next "
        "pod starts within seconds after the old one has ended.",
        "Wait, up to `drain.timeoutSeconds`. If you have spare GPUs, `rollout.strategy: Surge` avoids it.",
    ),
    "JobSuspended": Explanation(
        "benchmark",
        "Somebody else, most likely a queue such as Kueue, has suspended the Job of a suite. The operator leaves it "
        "alone.",
        "Wait until the queue admits it. After `timeoutSeconds` in the queue the suite counts as `TimedOut`. With "
        "Kueue, `kubectl describe workloads` says what it waits for: most often the queue does not exist, is stopped, "
        "or has no quota left.",
    ),
    "Queued": Explanation(
        "both",
        "A scheduling gate holds the pod back. Queueing systems such as Kueue set gates, and remove them when it is "
        "the pod's turn.",
        "Look at the queue. With Kueue, `kubectl describe workloads` says what the pod waits for: most often the queue "
        "does not exist, is stopped, or has no quota left. If there is no queue, delete the gate from "
        "`podTemplate.spec.schedulingGates`.",
    ),
    "NotScheduled": Explanation(
        "both",
        "The pod's scheduler has not handled the pod for 45 seconds.",
        "Check that this scheduler runs, or correct `podTemplate.spec.schedulerName`.",
    ),
    "Unschedulable": Explanation(
        "both",
        "No node fits the pod. For a server: no node has enough free GPUs of its hardware. A node with several GPU "
        "models or with partitioned GPUs does not count.",
        "Free or add GPUs; check taints, tolerations, and the node label `amd.com/gpu.device-id`, which AMD's node "
        "labeller does not write on a node with several GPU models. If the label is right, check that the node offers "
        "`amd.com/gpu`: AMD's device plugin must run there, with `--resource_naming_strategy=single` (the default). A "
        "server with more `replicas` than fit cannot be rolled out: lower `replicas` first. A node pool that scales "
        "from zero needs the label on its node template.",
    ),
    "VolumeNotMounted": Explanation(
        "both",
        "The pod is on a node, but no container could start for 45 seconds: most often a volume is not mounted. "
        "The message names the objects that its volumes need.",
        "`kubectl describe pod NAME` shows the kubelet's error. Create the missing Secret, ConfigMap or claim, or "
        "release a claim that another node holds. The pod then continues by itself.",
    ),
    "Starting": Explanation(
        "both",
        "Pods are being created: their images are pulled and their volumes are mounted. For a benchmark: its next "
        "suite is about to start.",
        "Wait: SGLang's image has tens of gigabytes.",
    ),
    "ImagePullFailed": Explanation(
        "both",
        "The image cannot be pulled.",
        "Check `engine.version` and `engine.image`, or `client.image`, and `podTemplate.spec.imagePullSecrets`.",
    ),
    "SecretMissing": Explanation(
        "both", "A Secret, or a key in it, does not exist.", "Create it. The pod then continues by itself."
    ),
    "ContainerConfigInvalid": Explanation(
        "both",
        "The kubelet cannot create the container. The message is the kubelet's.",
        "Correct what the message names, most often in `podTemplate`.",
    ),
    "PreflightFailed": Explanation(
        "server",
        "The check of a pod has found that SGLang cannot run there. The message says what is missing and names the "
        "node. The check runs again and again, so the pod continues when the cause is gone.",
        "Repair what the message names. If GPUs are missing or cannot be opened: check on this node that the driver "
        "`amdgpu` is loaded, that `/dev/kfd` is there, and that AMD's device plugin runs and reports healthy GPUs. If "
        "a GPU has another architecture: correct `hardware`, or the node's label `amd.com/gpu.device-id`. If the check "
        "is wrong, `preflight: disabled` leaves it out.",
    ),
    # Pods, once their containers run.
    "ModelLoading": Explanation(
        "server",
        "SGLang fetches and loads the weights. After a failure, the message says how often it has failed and why.",
        "Wait: `startup.timeoutSeconds` is the limit.",
    ),
    "StartupTimedOut": Explanation(
        "server",
        "The engine was stopped because it was not ready within `startup.timeoutSeconds`.",
        "Raise `startup.timeoutSeconds`, or keep the weights and compiled kernels on a volume (`podTemplate`, volume "
        "`cache`).",
    ),
    "CrashLooping": Explanation(
        "both",
        "A container ends with an error, again and again. The message quotes its exception.",
        "Correct what the exception names. `kubectl logs --previous POD` shows the whole log; `status.lastFailure` "
        "keeps the exception when the pod is gone.",
    ),
    "OutOfMemory": Explanation(
        "both",
        "A container exceeded its memory limit, or the engine ran out of GPU memory.",
        "Raise the memory limit in `podTemplate`; for GPU memory, lower `engine.memoryFractionStatic` or raise "
        "`tensorParallelism`, as the message says.",
    ),
    "NotResponding": Explanation(
        "server",
        "A container runs, but does not pass its readiness probe.",
        "Look at `kubectl logs` and `kubectl describe pod`.",
    ),
    "ReadinessGateClosed": Explanation(
        "server",
        "All containers are ready, but the condition of a readiness gate of the pod is not True. The message names "
        "the gate.",
        "Find out why the controller of this gate (most often that of a load balancer) does not set the condition, or "
        "remove the gate from `podTemplate.spec.readinessGates`.",
    ),
    "NodeLost": Explanation(
        "both",
        "The pod's node does not answer any more. The message names the node.",
        "Repair the node, or delete it (`kubectl delete node NAME`). Until then, its pod may stay without a "
        "replacement.",
    ),
    "TerminationStuck": Explanation(
        "both",
        "A pod was deleted, and still exists a minute after its grace period.",
        "Most often its node is lost: repair or delete the node. Otherwise look for a finalizer of the pod.",
    ),
    "Evicted": Explanation(
        "both",
        "The node ran short of memory or disk space and evicted the pod. The message is the kubelet's.",
        "Request as much memory or `ephemeral-storage` as the pod uses (`podTemplate`), and keep the weights on a "
        "volume (`cache`).",
    ),
    "PodFailed": Explanation(
        "both",
        "A node refused or ended a pod. The message is the kubelet's.",
        "Correct what the message names. If the node only refused the pod, Kubernetes replaces it.",
    ),
    # Servers.
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
    # Servers: the condition `Autoscaling`, which those with `autoscaling` have.
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
    # Benchmarks, before and while their suites run.
    "ServerReady": Explanation("benchmark", "The server is Ready (`TargetReady`).", NOTHING),
    "EndpointGiven": Explanation(
        "benchmark", "The operator cannot know whether an endpoint is ready (`TargetReady`).", NOTHING
    ),
    "ServerMissing": Explanation(
        "benchmark", "There is no server of this name.", "Create it, or correct `serverRef.name`."
    ),
    "ServerUnready": Explanation(
        "benchmark", "The server is not Ready.", "Wait, or see `kimi-linear status SERVER` for the cause."
    ),
    "ApiKeyUnknown": Explanation(
        "benchmark",
        "The server's API key does not come from a Secret, so the client cannot have it.",
        "Use `auth.apiKeySecretRef` of the server instead of `--api-key`.",
    ),
    "WaitingForTurn": Explanation(
        "benchmark",
        "Another benchmark of this server runs or goes first, or a Job that was stopped is still being removed. The "
        "message names the benchmark that goes first, unless eight or more do.",
        WAIT,
    ),
    "Running": Explanation("benchmark", "A suite runs.", WAIT),
    "SuitesEnded": Explanation("benchmark", "Every suite has ended (`Complete`).", NOTHING),
    # Benchmarks, their verdict.
    "ThresholdsMet": Explanation("benchmark", "Passed.", NOTHING),
    "ThresholdMissed": Explanation(
        "benchmark",
        "Failed: a number is beyond its threshold. The message names each such number.",
        "Find out why the server is slower or less accurate, or change the threshold.",
    ),
    "Regressed": Explanation(
        "benchmark",
        "Failed: a number is worse than the baseline allows. The message names each such number.",
        "Find out why the server is slower or less accurate, or raise `baseline.maxRegressionPercent`.",
    ),
    "RequestsFailed": Explanation(
        "benchmark", "Invalid: more requests failed than `maxErrorRate` allows.", "See the server's log."
    ),
    "ServerChanged": Explanation(
        "benchmark",
        "Invalid: the server was changed, restarted or replaced during the run, or its record cannot be read.",
        "Measure again.",
    ),
    "ClientFailed": Explanation(
        "benchmark",
        "Invalid: the client ended with an error. The message quotes it.",
        "Correct what the message names. For an hour, "
        "`kubectl logs -l kimi-linear.io/benchmark=NAME,kimi-linear.io/suite=SUITE -c client` has more.",
    ),
    "NoResult": Explanation(
        "both",
        "For a benchmark, Invalid: the client left no numbers, or numbers that do not match the suite. For weights: "
        "the Job has ended, and its pod is gone or left no termination message.",
        "For an hour, `kubectl logs -l kimi-linear.io/benchmark=NAME,kimi-linear.io/suite=SUITE -c client` has more. "
        "Then measure again. Weights are checked again within a minute.",
    ),
    "TimedOut": Explanation(
        "benchmark",
        "Invalid: a suite took longer than `timeoutSeconds`.",
        "Raise `timeoutSeconds`, or find out what is slow.",
    ),
    "BaselineMissing": Explanation(
        "benchmark",
        "Invalid: the benchmark to compare with is not complete or not valid, has no such number, or ran a different "
        "load. The message says which.",
        "Run that benchmark first, with the same load, or correct `baseline.benchmark`.",
    ),
    "ResultUnknown": Explanation(
        "benchmark",
        "Invalid or Failed: another version of the operator wrote a result or a finding that this version does not "
        "know. The status and `NAME-results` keep it as it is, or as text if the definition refuses it.",
        "Read the result itself, or measure again.",
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
    # Weights on a volume.
    "WeightsComplete": Explanation(
        "weights",
        "A commit is complete on the volume: every file has the size and the hash that the hub names.",
        NOTHING,
    ),
    "WeightsDownloading": Explanation(
        "both",
        "The weights are being fetched to their volume. A server makes no pods before they are complete for the first "
        "time.",
        "Wait. `kubectl get klw` shows how much is there, the speed and the time left.",
    ),
    "WeightsUnready": Explanation(
        "server",
        "The weights that the server uses have never been complete, and a problem stops the download. The message "
        "quotes their condition.",
        "See the reason of the weights: `kubectl get klw NAME -o wide`.",
    ),
    "WeightsMissing": Explanation(
        "server",
        "`model.weights` names a KimiLinearWeights that the namespace does not have. Pods that already run stay.",
        "Create it, or correct the name.",
    ),
    "WeightsCorrupt": Explanation(
        "weights",
        "A file was fetched three times and never had the size and the hash that the hub names, or the hub's commit "
        "lacks a shard of its index. Files with the wrong content are deleted.",
        "If a mirror sends the file, repair the mirror. Otherwise check the volume and its file server.",
    ),
    "HubLimited": Explanation(
        "weights",
        "The hub limits requests (HTTP 429). The download goes on after the time that the hub asks for.",
        "Wait. A token (`source.tokenSecretRef`) raises the limit, a mirror (`source.endpoint`) avoids it.",
    ),
    "HubUnreachable": Explanation(
        "weights",
        "The hub does not answer, or answers with an error of its own. The download is tried again and again, from "
        "where it stopped.",
        "Check that the pod may reach the hub: set a proxy in `podTemplate` (HTTPS_PROXY), or a mirror in "
        "`source.endpoint`.",
    ),
    "TokenRefused": Explanation(
        "weights",
        "The hub asks for a token, refuses the one it got, or the token may not read this model.",
        "Name a Secret with a valid token in `source.tokenSecretRef`, and accept the model's terms on the hub. A "
        "corrected Secret takes effect at the next attempt, within five minutes.",
    ),
    "RevisionMissing": Explanation(
        "weights", "The hub has no such branch, tag or commit, or no such model.", "Correct `source.revision`."
    ),
    "VolumeBusy": Explanation(
        "weights",
        "Another pod writes to the volume. What it fetches is not fetched again.",
        "Wait. If no other pod runs, the lock of one that has died ends within a minute.",
    ),
    "VolumeFull": Explanation(
        "weights",
        "The volume has no room for what is missing.",
        "Raise `volume.size` if the storage class allows that, or delete what else is on the volume, such as commits "
        "that no server uses.",
    ),
    "VolumeNotWritable": Explanation(
        "weights",
        "The pod may not write to the volume: it is read-only, or belongs to another user.",
        "Set `runAsUser` or `fsGroup` in `podTemplate`, or give the pod's user the right on the file server.",
    ),
    # Reasons of `Reconciling` and `Stalled` when they are False.
    "Settled": Explanation("both", "Nothing is in progress (`Reconciling` is False).", NOTHING),
    "NotStalled": Explanation("both", "Nothing is in the way (`Stalled` is False).", NOTHING),
}
