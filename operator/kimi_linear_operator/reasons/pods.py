"""Reasons of pods and containers, for all kinds that have pods."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import Explanation
from kimi_linear_operator.reasons.name import ReasonName

PODS: Mapping[ReasonName, Explanation] = {
    # Reasons before the containers run.
    "PodCreationFailed": Explanation(
        "both",
        "Kubernetes refuses to create the pods, because of a quota, a LimitRange, Pod Security or another admission "
        "policy. The message quotes the refusal.",
        "Raise the quota, label the namespace for Pod Security, or change `podTemplate`.",
    ),
    "OldPodTerminating": Explanation(
        "server",
        "A new pod waits for the GPUs or the quota of an old pod, which is still finishing its requests. The new pod "
        "starts seconds after the old pod has ended.",
        "Wait, at most `drain.timeoutSeconds`. If you have spare GPUs, `rollout.strategy: Surge` avoids this wait.",
    ),
    "JobSuspended": Explanation(
        "benchmark",
        "Somebody else, most likely a queue such as Kueue, has suspended the Job of a suite. The operator does not "
        "change this.",
        "Wait until the queue admits the Job. After `timeoutSeconds` in the queue, the suite counts as `TimedOut`. "
        "With Kueue, `kubectl describe workloads` shows the cause: most often the queue does not exist, is stopped, "
        "has no free quota, or has no quota for one of the resources that the pod requests.",
    ),
    "Queued": Explanation(
        "both",
        "The pod has a scheduling gate, so it is not scheduled yet. Queueing systems such as Kueue set such gates, "
        "and remove them when it is the pod's turn.",
        "Check the queue. With Kueue, `kubectl describe workloads` shows the cause: most often the queue does not "
        "exist, is stopped, has no free quota, or has no quota for one of the resources that the pod requests. If you "
        "use no queue, delete the gate from `podTemplate.spec.schedulingGates`.",
    ),
    "NotScheduled": Explanation(
        "both",
        "The pod's scheduler has not handled the pod for 45 seconds.",
        "Check that this scheduler runs, or correct `podTemplate.spec.schedulerName`.",
    ),
    "Unschedulable": Explanation(
        "both",
        "No node fits the pod. For a server, this means that no node has enough free GPUs of the model in `hardware`. "
        "Nodes with several GPU models or with partitioned GPUs do not count.",
        "Free or add GPUs. Check taints, tolerations, and the node label `amd.com/gpu.device-id`. AMD's node labeller "
        "does not write this label on a node with several GPU models. If the label is right, check that the node "
        "offers `amd.com/gpu`: AMD's device plugin must run there, with `--resource_naming_strategy=single` (the "
        "default). If there are not enough GPUs for all `replicas`, a rollout cannot end: lower `replicas` first. A "
        "node pool that scales from zero needs the label on its node template.",
    ),
    "VolumeNotMounted": Explanation(
        "both",
        "The pod has been on a node for 45 seconds, but no container could start. Most often a volume is not "
        "mounted. The message names the objects that the pod's volumes need.",
        "`kubectl describe pod NAME` shows the kubelet's error. Create the missing Secret, ConfigMap or claim, or "
        "release a claim that another node holds. The pod then continues by itself.",
    ),
    "Starting": Explanation(
        "both",
        "Pods are being created: their images are pulled and their volumes are mounted. For a benchmark, the next "
        "suite is about to start.",
        "Wait. SGLang's image has tens of gigabytes, so a pull takes minutes.",
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
        "The kubelet cannot create the container. The message quotes the kubelet.",
        "Correct what the message names, most often in `podTemplate`.",
    ),
    "PreflightFailed": Explanation(
        "server",
        "The check of a pod (`preflight`) has found that SGLang cannot run on the pod's node. The message names the "
        "node and what is missing. The check is repeated, so the pod continues when the cause is gone.",
        "Repair what the message names. If GPUs are missing or cannot be opened, check three things on this node: "
        "the driver `amdgpu` is loaded, `/dev/kfd` exists, and AMD's device plugin runs and reports healthy GPUs. "
        "If a GPU has another architecture, correct `hardware`, or the node's label `amd.com/gpu.device-id`. If the "
        "check itself is wrong, switch it off with `preflight: disabled`.",
    ),
    # Reasons after the containers have started.
    "ModelLoading": Explanation(
        "server",
        "SGLang fetches and loads the weights. After a failed attempt, the message says how often SGLang has failed "
        "and why.",
        "Wait: `startup.timeoutSeconds` is the limit.",
    ),
    "StartupTimedOut": Explanation(
        "server",
        "SGLang was not ready within `startup.timeoutSeconds`, so the kubelet stopped it.",
        "Raise `startup.timeoutSeconds`, or keep the weights and compiled kernels on a volume (`podTemplate`, volume "
        "`cache`).",
    ),
    "CrashLooping": Explanation(
        "both",
        "A container ends with an error again and again. The message quotes the exception.",
        "Correct what the exception names. `kubectl logs --previous POD` shows the whole log; `status.lastFailure` "
        "keeps the exception when the pod is gone.",
    ),
    "OutOfMemory": Explanation(
        "both",
        "A container exceeded its memory limit, or SGLang ran out of GPU memory.",
        "If the container exceeded its memory limit, raise the limit in `podTemplate`. If GPU memory ran out, lower "
        "`engine.memoryFractionStatic` or raise `tensorParallelism`, as the message says.",
    ),
    "NotResponding": Explanation(
        "server",
        "A container runs, but fails its readiness probe.",
        "Look at `kubectl logs` and `kubectl describe pod`.",
    ),
    "ReadinessGateClosed": Explanation(
        "server",
        "All containers are ready, but the pod has a readiness gate whose condition is not True. The message names the "
        "gate.",
        "Find out why the controller of this gate (most often a load balancer's controller) does not set the "
        "condition. Or remove the gate from `podTemplate.spec.readinessGates`.",
    ),
    "NodeLost": Explanation(
        "both",
        "The pod's node no longer answers. The message names the node.",
        "Repair the node, or delete it (`kubectl delete node NAME`). Until then, Kubernetes does not always replace "
        "the pod.",
    ),
    "TerminationStuck": Explanation(
        "both",
        "A deleted pod still exists a minute after its grace period.",
        "Most often the pod's node is lost: repair or delete the node. Otherwise check whether the pod has a "
        "finalizer.",
    ),
    "Evicted": Explanation(
        "both",
        "The node ran short of memory or disk space and evicted the pod. The message quotes the kubelet.",
        "Request as much memory or `ephemeral-storage` as the pod uses (`podTemplate`), and keep the weights on a "
        "volume (`cache`).",
    ),
    "PodFailed": Explanation(
        "both",
        "A node refused or ended a pod. The message quotes the kubelet.",
        "Correct what the message names. If the node only refused the pod, Kubernetes replaces it.",
    ),
}
