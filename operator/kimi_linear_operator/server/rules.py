"""The rules of KimiLinearServer. They are written only here."""

import re

from kimi_linear_operator.kubernetes import expressions
from kimi_linear_operator.kubernetes.expressions import cel_text
from kimi_linear_operator.kubernetes.kinds import GPU_RESOURCE
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.server.sglang import command_line, environment
from kimi_linear_operator.server.sglang.images import PUBLISHED_IMAGES, TESTED_RELEASES

# A Service's name is a DNS label of at most 63 characters. The other characters are for the suffixes of children's
# names.
LONGEST_NAME = 50

_GPU = f"'{GPU_RESOURCE}'"
_KEY_BY_NAME = r"^--(api-key|admin-api-key|ssl-keyfile-password)=\$\([A-Za-z_][A-Za-z0-9_]*\)$"
_TESTED_VERSIONS = "|".join(map(re.escape, TESTED_RELEASES))
_PUBLISHED_VERSIONS = "|".join(map(re.escape, PUBLISHED_IMAGES))
_BROKEN_ON_MI355X = re.escape("v0.5.7")
_OWNED_ENVIRONMENT = str(list(environment.RECIPE_ENVIRONMENT))


def _have_gpus_of_replica(group: str, test: str) -> str:
    """Return an expression that is true if GPU amounts of the pod template's containers equal spec.tensorParallelism.

    Args:
        group: `containers` or `initContainers`.
        test: An expression that is true for each container `c` to check.
    """
    count = "string(c.resources.{kind}[{gpu}]) == string(self.tensorParallelism)"
    equal = " && ".join(expressions.gpus(kind, count.format(kind=kind, gpu=_GPU)) for kind in ("limits", "requests"))
    containers = f"self.podTemplate.spec.{group}"
    return (
        f"!has(self.podTemplate) || !has(self.podTemplate.spec) || !has({containers}) || "
        f"{containers}.all(c, !({test}) || ({equal}))"
    )


def _version_matches(pattern: str) -> str:
    """Return an expression that is true if the spec names no image, and the engine's version matches."""
    return f"(!has(self.engine.image) && self.engine.version.matches({cel_text(f'^({pattern})$')}))"


def _image_matches(image: str, pattern: str) -> str:
    """Return an expression that is true if the version in the tag of `image` matches. `image` is an expression, too."""
    return f"{image}.matches({cel_text(f':({pattern})([^0-9A-Za-z.]|$)')})"


def _refuse_flags(flags: tuple[str, ...], message: str) -> Rule:
    """Return the rule that refuses flags that always fail."""
    return Rule("error", "spec.engine.extraArgs", f"self.all(a, !{expressions.is_flag('a', flags)})", message)


def _overlay_meets(test: str) -> str:
    """Return an expression that is true if `test` is true for the engine's container in podTemplate, as `c`.

    Without this container, the expression is false.
    """
    containers = "self.podTemplate.spec.containers"
    has_containers = f"has(self.podTemplate) && has(self.podTemplate.spec) && has({containers})"
    return f"({has_containers} && {containers}.exists(c, c.name == '{ENGINE_CONTAINER}' && {test}))"


def _for_each_key_flag(test: str) -> str:
    """Return an expression that is true if `test` holds for each flag that takes an API key. FLAG stands for the flag.

    For each variable `e`, the expressions search the arguments for `--FLAG=$(NAME)`. A comparison of every argument
    with every variable would exceed the API server's cost limit for an expression.
    """
    return " && ".join(f"({test.replace('FLAG', flag)})" for flag in ("api-key", "admin-api-key"))


def _at_most_one(field: str, *others: str) -> str:
    """Return an expression that is true if the object lacks this field, or lacks all of the others."""
    return f"!has(self.{field}) || {' && '.join(f'!has(self.{other})' for other in others)}"


_ARGUMENTS = "self.engine.extraArgs"
_IS_KEY_VARIABLE = f"(('--FLAG=$(' + e.name + ')') in {_ARGUMENTS})"
_HAS_KEY_VARIABLE = f"has(c.env) && c.env.exists(e, {_IS_KEY_VARIABLE})"
_IS_KEY_FLAG = "a.startsWith('--FLAG=$(')"
_KEY_IN_ARGUMENTS = f"{_ARGUMENTS}.exists(a, {_IS_KEY_FLAG.replace('FLAG', 'api-key')})"
_IS_REFERENCE = "has(e.valueFrom) && has(e.valueFrom.secretKeyRef)"

ERRORS = (
    expressions.dataset_file("spec.verification.dataset"),
    Rule(
        "error",
        "spec.verification",
        "self.onFailure != 'Rollback' || self.mode == 'Block'",
        "needs spec.verification.mode Block, because only Block finds wrong answers before the old pods are gone",
        blames="onFailure",
    ),
    Rule(
        "error",
        "spec",
        "self.model.variant != 'instruct' || self.reasoningParser == 'disabled'",
        # Verbatim from the recipe: the comment that its generator shows for this selection.
        "Kimi-Linear doesn't support reasoning parser\n"
        'Please select "Disabled" for Reasoning Parser or choose Kimi-Linear-Thinking model',
        blames="reasoningParser",
    ),
    expressions.name(LONGEST_NAME, "the Service has the same name"),
    Rule(
        "error",
        "spec.model",
        "!has(self.path) || !has(self.revision)",
        "a directory has no revisions: remove either spec.model.path or spec.model.revision",
        blames="path",
    ),
    Rule(
        "error",
        "spec.model",
        _at_most_one("weights", "path", "revision", "tokenSecretRef"),
        "the weights come from spec.model.weights, and the KimiLinearWeights names their source: remove "
        "spec.model.path, spec.model.revision and spec.model.tokenSecretRef",
        blames="weights",
    ),
    Rule(
        "error",
        "spec.model",
        _at_most_one("image", "weights", "path", "revision", "tokenSecretRef"),
        "the weights come from an image: remove spec.model.weights, spec.model.path, spec.model.revision and "
        "spec.model.tokenSecretRef",
        blames="image",
    ),
    Rule(
        "error",
        "spec.autoscaling",
        "self.minReplicas <= self.maxReplicas",
        "is greater than spec.autoscaling.maxReplicas: correct one of them",
        blames="minReplicas",
    ),
    Rule(
        "error",
        "spec.autoscaling",
        "self.minReplicas > 0 || has(self.keda)",
        "is 0, but only KEDA can start the first replica again: set spec.autoscaling.keda, or at least 1 replica",
        blames="minReplicas",
    ),
    Rule(
        "error",
        "spec",
        "!has(self.autoscaling) || self.autoscaling.minReplicas > 0 || !has(self.autoscaling.keda) || "
        "has(self.router) || has(self.autoscaling.keda.wakeQuery)",
        "is 0, but nothing notices a request while no replica runs: set spec.router or spec.autoscaling.keda.wakeQuery",
        blames="autoscaling.minReplicas",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        f"self.all(a, !{expressions.is_flag('a', command_line.OWNED_FLAGS)})",
        "contains a flag that the operator sets: use the field for it (tensorParallelism, model, toolCallParser, "
        "engine.contextLength ...). --host, --port, --trust-remote-code and --enable-metrics cannot be changed. "
        "Flags for several nodes are refused, because one replica is one pod",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        f"self.all(a, !a.matches('^--(ap|ad|ssl-keyfile-)') || a.matches({cel_text(_KEY_BY_NAME)}))",
        "shows an API key or a password to everyone who can read pods: use spec.auth.apiKeySecretRef for the API "
        "key. For other secrets, write --FLAG=$(NAME), and in podTemplate give the container sglang an environment "
        "variable NAME from a Secret",
    ),
    Rule(
        "error",
        "spec",
        _for_each_key_flag(
            f"!{_ARGUMENTS}.exists(a, {_IS_KEY_FLAG}) || {_ARGUMENTS}.exists_one(a, {_IS_KEY_FLAG}) && "
            + _overlay_meets(f"({_HAS_KEY_VARIABLE} || has(c.envFrom) && c.envFrom.exists(f, has(f.secretRef)))")
        ),
        "takes a key from a variable that the container sglang lacks, so the text $(NAME) itself would be the key: "
        "in podTemplate, give the container a variable of this name with valueFrom.secretKeyRef, or an envFrom with "
        "a secretRef",
        blames="engine.extraArgs",
    ),
    Rule(
        "error",
        "spec",
        _for_each_key_flag(
            "!" + _overlay_meets(f"has(c.env) && c.env.exists(e, {_IS_KEY_VARIABLE} && !({_IS_REFERENCE}))")
        ),
        "takes a key from a variable whose value is in the spec, so everyone who can read the spec sees the key: "
        "use valueFrom.secretKeyRef for the variable",
        blames="engine.extraArgs",
    ),
    Rule(
        "error",
        "spec",
        f"!has(self.auth.apiKeySecretRef) || !{_KEY_IN_ARGUMENTS}",
        "sets an API key in addition to spec.auth.apiKeySecretRef: remove one of the two",
        blames="engine.extraArgs",
    ),
    Rule(
        "error",
        "spec",
        f"!has(self.auth.apiKeySecretRef) || {_ARGUMENTS}.all(a, !a.startsWith('{command_line.WORKERS_FLAG_START}'))",
        "contains --tokenizer-worker-num, but with this flag SGLang ignores API keys; remove the flag or "
        "spec.auth.apiKeySecretRef",
        blames="engine.extraArgs",
    ),
    Rule(
        "error",
        "spec.kernelCache",
        "!has(self.existingClaim) || !has(self.hostPath)",
        "names two places for the same kernels: remove either existingClaim or hostPath",
        blames="hostPath",
    ),
    _refuse_flags(
        command_line.TLS_FLAGS,
        "makes SGLang use TLS, but the probes and status.url use plain HTTP: remove the flag, and use an Ingress, a "
        "Gateway or a sidecar in podTemplate for TLS",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        f"self.exists(a, a == '{command_line.DATA_PARALLEL_ATTENTION_FLAG}') || "
        f"self.all(a, !{expressions.is_flag('a', command_line.DATA_PARALLEL_FLAGS)})",
        "multiplies the number of GPUs that SGLang needs, but a pod gets only spec.tensorParallelism GPUs: remove "
        f"the flag and raise spec.replicas, or share the GPUs with {command_line.DATA_PARALLEL_ATTENTION_FLAG}",
    ),
    _refuse_flags(
        command_line.NODES_FLAGS,
        "spreads SGLang over several nodes, but one replica is one pod: remove the flag, set spec.tensorParallelism "
        "(up to 8), and raise spec.replicas",
    ),
    _refuse_flags(
        command_line.OTHER_PROTOCOL_FLAGS,
        "disables SGLang's HTTP API, but probes, Services and benchmarks need this API: remove the flag",
    ),
    _refuse_flags(
        command_line.GPU_NUMBER_FLAGS,
        "selects GPUs by their numbers, but a pod sees only its own GPUs: remove the flag",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        f"self.all(a, a != '-h' && !{expressions.is_flag('a', ('help',))})",
        "makes SGLang print its help and end: remove the flag, and run `python3 -m sglang.launch_server --help` in "
        "the image",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        "self.all(a, a != '--')",
        "contains the item --, after which SGLang reads no more flags, not even the flags of the operator: remove "
        "the item",
    ),
    Rule(
        "error",
        "spec.engine.extraArgs",
        f"self.all(a, !a.matches({cel_text('^--[A-Za-z0-9-]+ ')}))",
        "contains a flag and its value in one item with a space: write --flag=value, or make flag and value two items",
    ),
    Rule(
        "error",
        "spec",
        "!has(self.engine.image) || (self.hardware == 'mi355x' ? "
        "!self.engine.image.matches('mi30x') : !self.engine.image.matches('mi35x'))",
        "is built for GPUs other than spec.hardware: use a mi30x image for mi300x and mi325x, and a mi35x image for "
        "mi355x",
        blames="engine.image",
    ),
    Rule(
        "error",
        "spec",
        _have_gpus_of_replica("containers", f"c.name == '{ENGINE_CONTAINER}'"),
        "requests a number of amd.com/gpu other than spec.tensorParallelism: remove this request and set "
        "spec.tensorParallelism",
        blames="podTemplate.spec.containers",
    ),
    Rule(
        "error",
        "spec",
        _have_gpus_of_replica("initContainers", "true"),
        "requests a number of amd.com/gpu other than spec.tensorParallelism: an init container must request this "
        "number or no GPUs",
        blames="podTemplate.spec.initContainers",
    ),
    Rule(
        "error",
        expressions.CONTAINERS,
        f"self.all(c, c.name == '{ENGINE_CONTAINER}' || {expressions.NO_GPUS})",
        "requests amd.com/gpu for a sidecar, but only the container sglang can have GPUs: remove the request",
    ),
    Rule(
        "error",
        "spec",
        f"!has(self.router) || !{_KEY_IN_ARGUMENTS}",
        "needs the API key, but cannot read it from SGLang's command line: use spec.auth.apiKeySecretRef instead",
        blames="router",
    ),
    expressions.own_command(ENGINE_CONTAINER, "use spec.engine (image, extraArgs, extraPipPackages)"),
    Rule(
        "error",
        expressions.CONTAINERS,
        expressions.own_container(ENGINE_CONTAINER, f"!has(c.env) || c.env.all(e, !(e.name in {_OWNED_ENVIRONMENT}))"),
        "sets SGLANG_ROCM_FUSED_DECODE_MLA, but the operator sets it to 0, which Kimi-Linear needs: remove the "
        "variable",
    ),
    Rule(
        "error",
        expressions.CONTAINERS,
        expressions.own_container(
            ENGINE_CONTAINER,
            f"!has(c.ports) || c.ports.all(p, p.containerPort != {command_line.PORT} && "
            f"(!has(p.name) || p.name != '{command_line.PORT_NAME}'))",
        ),
        f"changes the port {command_line.PORT_NAME} ({command_line.PORT}) of the container sglang, but probes and "
        "Services need it: set the port for clients in spec.service.port",
    ),
    Rule(
        "error",
        "spec.service",
        "!has(self.loadBalancerClass) || self.type == 'LoadBalancer'",
        "works only with load balancers: set spec.service.type to LoadBalancer, or remove the class",
        blames="loadBalancerClass",
    ),
    Rule(
        "error",
        "spec.service",
        "!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'",
        "works only with traffic from outside: set spec.service.type to LoadBalancer or NodePort, or remove the policy",
        blames="externalTrafficPolicy",
    ),
    Rule(
        "error",
        "spec.ingress",
        "!has(self.tlsSecretName) || self.hosts.size() > 0",
        "needs hosts for its certificate: add spec.ingress.hosts",
        blames="tlsSecretName",
    ),
    expressions.unprivileged(
        ENGINE_CONTAINER,
        "remove this, because AMD's device plugin mounts the GPUs. If the container needs more permissions, add them "
        "to spec.security.capabilities",
    ),
    expressions.own_network(
        "puts the server on the node's network, so everyone can reach it: use spec.service for clients outside the "
        "cluster"
    ),
    *(
        Rule(
            "error",
            f"spec.networkPolicy.{field}",
            "self.all(p, has(p.ipBlock) ? !has(p.podSelector) && !has(p.namespaceSelector) : "
            "has(p.podSelector) || has(p.namespaceSelector))",
            "contains a peer that Kubernetes refuses: set either ipBlock, or at least one of podSelector and "
            "namespaceSelector",
        )
        for field in ("from", "to")
    ),
    *expressions.labels("spec.monitoring.labels"),
    expressions.owned_labels(),
    *expressions.inherited_metadata(),
)

WARNINGS = (
    Rule(
        "warning",
        "spec.tensorParallelism",
        "self == 4",
        "published results for this model on AMD GPUs exist only with 4",
    ),
    Rule(
        "warning",
        "spec",
        "self.tensorParallelism != 2 || "
        "(has(self.engine.attentionBackend) && self.engine.attentionBackend == 'triton')",
        "with spec.tensorParallelism 2, SGLang chooses the aiter backend. Users report that aiter loses accuracy "
        "with this model: set triton",
        blames="engine.attentionBackend",
    ),
    Rule(
        "warning",
        "spec",
        f"self.hardware != 'mi355x' || !{_version_matches(_BROKEN_ON_MI355X)}",
        "fails with this model on MI355X, as users report: choose a newer release",
        blames="engine.version",
    ),
    Rule(
        "warning",
        "spec",
        "self.hardware != 'mi355x' || !has(self.engine.image) || "
        f"!{_image_matches('self.engine.image', _BROKEN_ON_MI355X)}",
        "contains SGLang v0.5.7, which fails with this model on MI355X, as users report: choose a newer release",
        blames="engine.image",
    ),
    Rule(
        "warning",
        "spec",
        f"has(self.engine.image) || {_version_matches(_PUBLISHED_VERSIONS)}",
        "is a release that the operator does not know, so the operator guesses the tag of the image: find the image "
        "in the registry, set spec.engine.image, and check that the release accepts the same arguments. The "
        f"operator knows {', '.join(PUBLISHED_IMAGES)}",
        blames="engine.version",
    ),
    Rule(
        "warning",
        "spec",
        f"has(self.engine.image) || !{_version_matches(_PUBLISHED_VERSIONS)} || {_version_matches(_TESTED_VERSIONS)}",
        f"is not the release for which this operator is written ({', '.join(TESTED_RELEASES)}): check that it "
        "accepts the same arguments",
        blames="engine.version",
    ),
    Rule(
        "warning",
        "spec.engine.image",
        _image_matches("self", _TESTED_VERSIONS),
        f"has a tag without a tested release ({', '.join(TESTED_RELEASES)}): check that the image accepts the same "
        "arguments",
    ),
    Rule(
        "warning",
        "spec",
        f"self.service.type == 'ClusterIP' || has(self.auth.apiKeySecretRef) || {_KEY_IN_ARGUMENTS}",
        "lets everyone on a network use the server without an API key, including the endpoints that flush its cache "
        "and replace its weights: set spec.auth.apiKeySecretRef",
        blames="service.type",
    ),
    Rule(
        "warning",
        "spec",
        f"!(has(self.ingress) || has(self.httpRoute)) || has(self.auth.apiKeySecretRef) || {_KEY_IN_ARGUMENTS}",
        "is not set, but an Ingress or an HTTPRoute leads to the server. So everyone who reaches it can use it, "
        "including the endpoints that flush its cache and replace its weights: set spec.auth.apiKeySecretRef",
        blames="auth",
    ),
    Rule(
        "warning",
        "spec",
        "self.service.type == 'ClusterIP' || !has(self.networkPolicy) || "
        "self.networkPolicy.from.exists(p, has(p.ipBlock))",
        "has no ipBlock, but spec.service.type offers the server outside the cluster. So the policy refuses these "
        "clients: add an ipBlock with the addresses that the pods see, which are often those of nodes, not of clients",
        blames="networkPolicy.from",
    ),
    Rule(
        "warning",
        "spec",
        "!has(self.monitoring) || !has(self.networkPolicy) || self.networkPolicy.from.exists(p, true)",
        "refuses Prometheus, but spec.monitoring needs Prometheus to scrape the pods: add the pods of Prometheus",
        blames="networkPolicy.from",
    ),
    Rule(
        "warning",
        "spec",
        f"!has(self.router) || has(self.auth.apiKeySecretRef) || {_KEY_IN_ARGUMENTS}",
        "has no API key. So everyone who reaches the server can add other replicas to the router, and these would "
        "receive requests of all clients: set spec.auth.apiKeySecretRef",
        blames="router",
    ),
    # This is a warning, because servers of earlier versions contain the flag and would become invalid.
    Rule(
        "warning",
        "spec",
        f"has(self.auth.apiKeySecretRef) || !{_KEY_IN_ARGUMENTS}",
        "puts the API key on SGLang's command line. Every container of the pod can read it there, and SGLang logs "
        "it: use spec.auth.apiKeySecretRef instead",
        blames="engine.extraArgs",
    ),
)

RULES = (*ERRORS, *WARNINGS)
