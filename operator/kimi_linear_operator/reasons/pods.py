"""Reasons of pods and containers, for all kinds that have pods."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import Explanation
from kimi_linear_operator.reasons.name import ReasonName

PODS: Mapping[ReasonName, Explanation] = {
    # Before their containers run.
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
    # Once their containers run.
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
}
