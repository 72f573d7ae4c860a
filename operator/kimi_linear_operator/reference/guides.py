"""The pages of the user guide about the fields of our resources. `docs/reference.md` links to them.

A page is a file in `docs/guide/`, possibly with a section.
"""

_OF_ALL_FIELDS = {
    "KimiLinearServer": "deploy.md",
    "KimiLinearBenchmark": "measure.md",
    "KimiLinearWeights": "weights.md",
}

BY_FIELD: dict[str, dict[str, str]] = {
    "KimiLinearServer": {
        "hardware": "install.md#what-the-cluster-needs",
        "model": "weights.md",
        "replicas": "change.md#rollouts",
        "suspend": "change.md#suspend",
        "autoscaling": "scale.md",
        "engine": "deploy.md#arguments-for-sglang",
        "startup": "troubleshoot.md#a-start",
        "drain": "change.md#rollouts",
        "rollout": "change.md#rollouts",
        "service": "expose.md",
        "ingress": "expose.md#an-ingress",
        "httpRoute": "expose.md#a-gateway",
        "router": "route.md",
        "auth": "deploy.md#api-key",
        "networkPolicy": "isolate.md#network",
        "queueName": "isolate.md#queues",
        "monitoring": "watch.md",
        "security": "security.md#what-the-pods-are-allowed-to-do",
        "kernelCache": "deploy.md#compiled-kernels",
        "preflight": "deploy.md#the-check-of-each-pod",
        "verification": "verify.md",
        "inheritedMetadata": "deploy.md#labels-and-annotations",
        "podTemplate": "deploy.md#change-the-pods",
    },
    "KimiLinearBenchmark": {
        "serverRef": "measure.md#run-a-benchmark",
        "endpoint": "measure.md#your-own-suites",
        "suites": "measure.md#your-own-suites",
        "client": "measure.md#the-clients-pod",
        "datasets": "measure.md#the-clients-pod",
        "baseline": "measure.md#verdict",
        "thresholds": "measure.md#verdict",
        "maxErrorRate": "measure.md#verdict",
        "queueName": "isolate.md#queues",
        "inheritedMetadata": "deploy.md#labels-and-annotations",
        "ttlSecondsAfterFinished": "measure.md#what-is-kept",
        "podTemplate": "measure.md#the-clients-pod",
    },
    "KimiLinearWeights": {
        "source": "weights.md#what-happens",
        "volume": "weights.md#which-volume",
        "inheritedMetadata": "deploy.md#labels-and-annotations",
        "podTemplate": "weights.md#what-happens",
    },
}
"""The page about each field that is directly in the spec of a kind, if there is one."""


def of_kind(kind: str) -> str:
    """Return a link to the page about a kind of resource, as Markdown."""
    return _link(_OF_ALL_FIELDS[kind])


def of_field(kind: str, path: str) -> str:
    """Return a link to the page about a field as Markdown, empty if there is none.

    Args:
        kind: The kind of the resource.
        path: The field, for example `spec.router`.
    """
    page = BY_FIELD[kind].get(path.removeprefix("spec."))
    return _link(page) if page else ""


def _link(page: str) -> str:
    return f"Guide: [{page.partition('.')[0].capitalize()}](guide/{page})."
