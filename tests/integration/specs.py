"""Hypothesis strategies for specs: whole specs from good parts, and the same with an odd value in one place."""

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Json = Any
Strategy = st.SearchStrategy[Json]

# Values that people and templates write by mistake. In some places, some of them are valid.
ODD_ANYWHERE: tuple[Json, ...] = (
    None,
    True,
    0,
    -1,
    1,
    4.0,
    0.5,
    1e30,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    "",
    " ",
    "4",
    "true",
    "null",
    "\n",
    "a\n",
    "ü",
    "x" * 64,
    "é" * 253,
    "x" * 1025,
    [],
    [None],
    [""],
    ["x"],
    ["x", "x"],
    [1],
    [[]],
    {},
    {"x": None},
    {"x": 1},
    {"x": "y"},
    {"": ""},
)

_NAMES = st.sampled_from(("hf-token", "a", "a.b-c", "a" * 253, "0"))
_ODD_NAMES = st.sampled_from(("A", "a_b", "-a", "a-", "a" * 254, "a\n", "a b", "ä", ".a"))
_MODEL_NAMES = st.sampled_from(("main", "moonshotai/Kimi-Linear-48B-A3B-Instruct", "v1.0", "A", "x" * 253))
_ODD_MODEL_NAMES = st.sampled_from(("-x", "/x", "a b", "main\n", "x" * 254, "é", "a:b"))
_HOSTS = st.sampled_from(("kimi.example.com", "*.example.com", "a", "0.1", "x" * 253))
_ODD_HOSTS = st.sampled_from(("", "*", "a.*", "A.example", "a..b", ".a", "a_b", "a\n", "http://a", "x" * 254, "ä"))
_QUANTITIES = st.sampled_from((1, 2, 4, 8, "1", "4", "8", "04", "4k", "1Gi", "", "x" * 32))
_ODD_QUANTITIES = st.sampled_from((4.0, 4.5, True, "x" * 33, "ä" * 32, [4], {"a": 1}, 2**63))

# For each field: its good values, and values that are nearly right.
_SCALARS: Mapping[str, tuple[Strategy, Strategy]] = {
    "hardware": (st.sampled_from(("mi300x", "mi325x", "mi355x")), st.sampled_from(("MI300X", "mi300x ", "h100"))),
    "model.variant": (st.just("instruct"), st.sampled_from(("thinking", "Instruct"))),
    "model.revision": (_MODEL_NAMES, _ODD_MODEL_NAMES),
    "model.path": (
        st.sampled_from(("/m", "/models/kimi", "/é", "/" + "x" * 1023, "//")),
        st.sampled_from(("/", "models", "/a b", "/a\n", "/a\tb", "/" + "x" * 1024, "/a\u00a0b", "/a\u2003b", "/a\vb")),
    ),
    "model.weights": (_NAMES, _ODD_NAMES),
    "model.image": (st.sampled_from(("a/b:1", "x" * 512)), st.sampled_from(("", ":v1", "a b", "x" * 513))),
    "model.servedName": (_MODEL_NAMES, _ODD_MODEL_NAMES),
    "model.tokenSecretRef.name": (_NAMES, _ODD_NAMES),
    "model.tokenSecretRef.key": (st.sampled_from(("token", "HF_TOKEN", ".x", "-")), st.sampled_from(("a/b", "a b"))),
    "tensorParallelism": (st.sampled_from((1, 2, 4, 8)), st.sampled_from((3, 16, 4.0, 8.5, "4", -4))),
    "reasoningParser": (st.just("disabled"), st.sampled_from(("enabled", False, "Disabled", "kimi_k2"))),
    "toolCallParser": (st.sampled_from(("disabled", "enabled")), st.sampled_from((True, "kimi_k2"))),
    "replicas": (st.sampled_from((0, 1, 2, 1000)), st.sampled_from((1001, -1, 2.0, "1"))),
    "autoscaling.minReplicas": (st.sampled_from((0, 1, 2, 1000)), st.sampled_from((-1, 1001, "1", 2.0))),
    "autoscaling.maxReplicas": (st.sampled_from((1, 4, 1000)), st.sampled_from((0, 1001, "4", 4.0))),
    "autoscaling.target.queuedRequests": (st.sampled_from((1, 4, 10_000)), st.sampled_from((0, 10_001, "4"))),
    "autoscaling.target.runningRequests": (st.sampled_from((1, 100, 10_000)), st.sampled_from((0, 10_001, 0.5))),
    "autoscaling.scaleUp.replicas": (st.sampled_from((1, 100)), st.sampled_from((0, 101, "1"))),
    "autoscaling.scaleUp.stabilizationSeconds": (st.sampled_from((0, 3600)), st.sampled_from((-1, 3601, "1m"))),
    "autoscaling.scaleDown.stabilizationSeconds": (st.sampled_from((0, 3600)), st.sampled_from((-1, 3601, "1m"))),
    "autoscaling.keda.prometheusAddress": (
        st.sampled_from(("http://p:9090", "https://prometheus.monitoring.svc/a-b/", "http://[::1]:9090")),
        st.sampled_from(
            ("p:9090", "http://user:word@p", "http://p?x=1", "http://p\n", "http://p/ a", "ftp://p", "http://")
        ),
    ),
    "autoscaling.keda.wakeQuery": (st.sampled_from(("sum(requests)", "é\n", "x" * 2048)), st.sampled_from(("", 1))),
    "autoscaling.keda.idleSeconds": (st.sampled_from((1, 604_800)), st.sampled_from((0, 604_801, "1h"))),
    "autoscaling.keda.authentication.triggerAuthentication": (_NAMES, _ODD_NAMES),
    "autoscaling.keda.authentication.modes": (
        st.sampled_from((["bearer"], ["tls", "basic"])),
        st.sampled_from(([], ["oauth"], "bearer", ["tls"] * 5)),
    ),
    "suspend": (st.booleans(), st.sampled_from(("yes", 0, 1, "false"))),
    "engine.version": (
        st.sampled_from(("v0.5.7", "v0.5.8", "v0.5.7.post1", "v0.6.0rc1", "v10.20.30")),
        st.sampled_from(
            (
                "v0.5.7\n",
                "0.5.7",
                "v0.5",
                "latest",
                "v0.5.7-rocm",
                "V0.5.7",
                "v0.5.7 ",
                "v" + "1" * 70,
                "v\u0660.\u0665.\u0667",
            )
        ),
    ),
    "engine.image": (
        st.sampled_from(
            (
                "lmsysorg/sglang:v0.5.7-rocm700-mi30x",
                "registry.local:5000/sglang:v0.5.7",
                "registry.local/sglang@sha256:" + "0" * 64,
                "sglang:v0.5.71",
                "x" * 512,
            )
        ),
        st.sampled_from(("lmsysorg/sglang:v0.5.7-rocm700-mi35x", ":v1", "a b", "x" * 513, "a:v0.5.7\n", "-a")),
    ),
    "engine.contextLength": (st.sampled_from((1, 4096, 1_048_576)), st.sampled_from((0, 1_048_577, 4096.0, "4096"))),
    "engine.memoryFractionStatic": (
        st.sampled_from((0.1, 0.5, 0.85, 0.99)),
        st.sampled_from((0.09, 0.999, 1, 0, "0.8", 0.9900000000000001)),
    ),
    "engine.attentionBackend": (st.sampled_from(("triton", "aiter", "x" * 64)), st.sampled_from(("Triton", "a-b"))),
    "startup.timeoutSeconds": (st.sampled_from((60, 3600, 86_400)), st.sampled_from((59, 86_401, "3600", 60.0))),
    "drain.timeoutSeconds": (st.sampled_from((0, 300, 3600)), st.sampled_from((-1, 3601, "5m"))),
    "rollout.strategy": (st.sampled_from(("InPlace", "Surge", "Recreate")), st.sampled_from(("inPlace", "Rolling"))),
    "service.type": (st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer")), st.just("ExternalName")),
    "service.port": (st.sampled_from((1, 80, 65_535)), st.sampled_from((0, 65_536, "http", 80.0))),
    "service.annotations": (
        st.dictionaries(st.sampled_from(("a", "b/c", "ü")), st.sampled_from(("", "x", "true", "x" * 4096)), max_size=3),
        st.sampled_from(
            ({"a": 1}, {"a": None}, {"a": True}, {"a": "x" * 4097}, {str(i): "x" for i in range(33)}, {"a": {}})
        ),
    ),
    "service.headless": (st.booleans(), st.sampled_from(("no", 1))),
    "service.loadBalancerClass": (
        st.sampled_from(("internal", "example.com/internal", "x" * 63)),
        st.sampled_from(("", "/x", "a b", "x\n", "x" * 317)),
    ),
    "service.externalTrafficPolicy": (st.sampled_from(("Cluster", "Local")), st.sampled_from(("local", True))),
    "ingress.className": (_NAMES, _ODD_NAMES),
    "ingress.tlsSecretName": (_NAMES, _ODD_NAMES),
    "ingress.annotations": (
        st.dictionaries(st.sampled_from(("a", "b/c")), st.sampled_from(("", "x", "true")), max_size=3),
        st.sampled_from(({"a": 1}, {"a": None}, {"a": True}, {"a": {}})),
    ),
    "httpRoute.path": (
        st.sampled_from(("/", "/kimi", "/a/b.c~d-e_f")),
        st.sampled_from(("", "kimi", "//", "/a/", "/a b", "/a\n", "/é", "/" + "x" * 256)),
    ),
    "httpRoute.scheme": (st.sampled_from(("http", "https")), st.sampled_from(("HTTP", "tcp"))),
    "router.replicas": (st.sampled_from((1, 2, 100)), st.sampled_from((0, 101, "2", 2.0))),
    "router.policy": (st.sampled_from(("LeastLoad", "CacheAware", "RoundRobin")), st.sampled_from(("", "Random"))),
    "router.image": (st.sampled_from(("a/b:1", "x" * 512)), st.sampled_from(("", ":v1", "a b", "x" * 513))),
    "router.resources": (
        st.sampled_from(({}, {"limits": {"memory": "1Gi"}}, {"requests": {"cpu": 1}, "limits": {}})),
        st.sampled_from(({"limits": {"memory": 1.5}}, {"limits": {"memory": None}}, {"claims": []}, "1Gi")),
    ),
    "auth.apiKeySecretRef.name": (_NAMES, _ODD_NAMES),
    "auth.apiKeySecretRef.key": (st.sampled_from(("token", "api-key")), st.sampled_from(("a/b", ""))),
    "kernelCache.existingClaim": (_NAMES, _ODD_NAMES),
    "kernelCache.hostPath": (st.sampled_from(("/k", "/var/lib/kernels")), st.sampled_from(("/", "k", "/a b"))),
    "kernelCache.sizeLimit": (st.sampled_from(("1Gi", "512Mi")), st.sampled_from(("1", 1, "0Gi", "1G", "1.5Gi"))),
    "verification.mode": (st.sampled_from(("Off", "Warn", "Block")), st.sampled_from((False, "off", "block"))),
    "verification.onFailure": (st.sampled_from(("Hold", "Rollback")), st.just("rollback")),
    "verification.numQuestions": (st.sampled_from((50, 200, 1319)), st.sampled_from((49, 1320, 200.0, "200"))),
    "verification.minAccuracy": (st.sampled_from((0, 0.6, 1)), st.sampled_from((-0.1, 1.1, "0.6"))),
    "verification.minValidToolCalls": (st.sampled_from((0, 0.8, 1)), st.sampled_from((-1, 2, None))),
    "verification.dataset.configMap": (_NAMES, _ODD_NAMES),
    "verification.dataset.path": (st.sampled_from(("a", "a/b.jsonl")), st.sampled_from(("", "/a", "a b"))),
    "verification.timeoutSeconds": (st.sampled_from((60, 86_400)), st.sampled_from((59, 86_401, 60.0))),
    "monitoring.labels": (
        st.dictionaries(st.sampled_from(("release", "a/b")), st.sampled_from(("", "x", "a.b")), max_size=2),
        st.sampled_from(({"a": 1}, {"a": "-"}, {"kimi-linear.io/server": "x"}, {"ü": "x"}, {"a": None}, ["a"])),
    ),
    "monitoring.slowFirstTokenSeconds": (st.sampled_from((0.5, 5, 400)), st.sampled_from((0, -1, 401, "5", True))),
    "queueName": (
        st.sampled_from(("a", "user-queue", "a" * 63)),
        st.sampled_from(("A", "a.b", "-a", "a" * 64, "", "a\n")),
    ),
    "preflight": (st.sampled_from(("disabled", "enabled")), st.sampled_from((True, "off", "Enabled"))),
    "security.hostIPC": (st.booleans(), st.sampled_from(("false", 1))),
    "security.seccompProfile": (st.sampled_from(("Unconfined", "RuntimeDefault")), st.just("Localhost")),
}

_LISTS: Mapping[str, tuple[Strategy, Strategy]] = {
    "engine.extraArgs": (
        st.lists(
            st.sampled_from(
                ("--dist-timeout=9", "--disable-radix-cache", "--log-level", "info", "x y", "--tpx", "é" * 1024)
            ),
            max_size=4,
        ),
        st.lists(
            st.sampled_from(
                (
                    "--tp=8",
                    "--tp",
                    "--host",
                    "--dp=2",
                    "--ssl-certfile=/c",
                    "--node-rank",
                    "--api-key=$(KEY)",
                    "--api-key=sk-1",
                    "--tokenizer-worker-num=4",
                    "-h",
                    "--port 1",
                    "--model-path=x",
                    "--log-level info",
                    "",
                    "x" * 1025,
                    "--tp\n",
                    "a\n--tp",
                    "é" * 1025,
                )
            ),
            min_size=1,
            max_size=65,
        ),
    ),
    "engine.extraPipPackages": (
        st.lists(st.sampled_from(("tiktoken", "a[b,c]==1.0", "x>=1,<2", "a.b_c-d~=1.0")), max_size=3),
        st.sampled_from((["-e ."], ["a b"], ["a;rm"], ["a==\n"], ["a\n"], ["x"] * 17, ["x" * 129], ["ä"], [""])),
    ),
    "ingress.hosts": (st.lists(_HOSTS, max_size=3), st.lists(_ODD_HOSTS, min_size=1, max_size=17)),
    "httpRoute.hostnames": (st.lists(_HOSTS, max_size=3), st.lists(_ODD_HOSTS, min_size=1, max_size=17)),
    "httpRoute.parentRefs": (
        st.lists(
            st.fixed_dictionaries({"name": _NAMES}, optional={"namespace": _NAMES, "sectionName": _NAMES}),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from(([], [{}], [{"name": "a"}] * 9, [{"name": "A"}], [{"name": "a", "port": 80}], [None], ["a"])),
    ),
    "security.capabilities": (
        st.lists(st.sampled_from(("SYS_PTRACE", "IPC_LOCK", "A")), max_size=3),
        st.sampled_from((["sys_ptrace"], ["_A"], ["A"] * 17, ["A\n"], ["A" * 65], "SYS_PTRACE")),
    ),
}


_GOOD_PEERS: tuple[Json, ...] = (
    {"podSelector": {}},
    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chat"}}},
    {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "namespaceSelector": {}},
    {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}},
)
_ODD_PEERS: tuple[Json, ...] = (
    {},
    {"podSelector": None},
    {"podSelector": {"matchLabels": {"a": None}}},
    {"podSelector": {"matchLabels": {"a": 1}}},
    {"podSelector": {"matchExpressions": [{"key": "a", "operator": "exists"}]}},
    {"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}},
    {"ipBlock": {}},
    {"ipBlock": {"cidr": "192.0.2.0"}},
    {"ipBlock": {"cidr": "192.0.2.0/24\n"}},
    {"ipBlock": {"cidr": "192.0.2.0/24", "except": "192.0.2.1/32"}},
    {"endpointSelector": {}},
    None,
    "x",
)
_PEERS = (
    st.lists(st.sampled_from(_GOOD_PEERS), max_size=3),
    st.lists(st.sampled_from((*_GOOD_PEERS, *_ODD_PEERS)), min_size=1, max_size=3),
)
_LISTS = {**_LISTS, "networkPolicy.from": _PEERS, "networkPolicy.to": _PEERS}


def _containers(names: Strategy) -> Strategy:
    """Containers of a pod template. A field that is valid in one container may be invalid in another."""
    plain = {
        "image": st.sampled_from(("busybox", "", "x" * 513)),
        "command": st.lists(st.sampled_from(("sh", "")), max_size=2),
        "args": st.lists(st.just("-c"), max_size=2),
    }
    return st.fixed_dictionaries(
        {"name": names},
        optional={
            **plain,
            "env": st.lists(_environment, max_size=2),
            "envFrom": st.sampled_from(([], [{"secretRef": {"name": "s"}}], [{"configMapRef": {}}], [{}], None, {})),
            "ports": st.lists(_ports, max_size=2),
            "resources": _resources,
            "volumeMounts": st.lists(_mounts, max_size=2),
            "$patch": st.sampled_from(("delete", "replace")),
            "nobodyKnowsThis": st.sampled_from((None, 1, "x", {"a": [None]})),
        },
    )


_environment = st.fixed_dictionaries(
    {"name": st.sampled_from(("NCCL_DEBUG", "SGLANG_ROCM_FUSED_DECODE_MLA", "KEY", "", "x" * 256, "x" * 257))},
    optional={
        "value": st.sampled_from(("1", "", None, 5, True, "x" * 32_769)),
        "valueFrom": st.sampled_from(
            ({"fieldRef": {"fieldPath": "spec.nodeName"}}, {"secretKeyRef": {"name": "s", "key": "k"}}, None, {}, "x")
        ),
    },
)
_ports = st.fixed_dictionaries(
    {"containerPort": st.sampled_from((8080, 9000, 30000, 0, 65_536, "80", 8080.0))},
    optional={
        "name": st.sampled_from(("metrics", "http", "x" * 15, "x" * 16)),
        "protocol": st.sampled_from(("TCP", "tcp", None)),
    },
)
_mounts = st.fixed_dictionaries(
    {"name": st.sampled_from(("models", "cache", ""))},
    optional={
        "mountPath": st.sampled_from(("/models", "/cache", "/dev/shm", "", "/" + "x" * 1024)),  # noqa: S108
        "readOnly": st.sampled_from((True, "true", None)),
        "subPath": st.sampled_from(("a", 1)),
    },
)
_volumes = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(("models", "cache", "dshm", "", "x" * 64)),
        "hostPath": st.sampled_from(({"path": "/models"}, None)),
    },
)
_node_terms = st.lists(
    st.sampled_from(
        ({}, {"matchExpressions": None}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, [])
    ),
    max_size=2,
)
_affinities = st.sampled_from(({}, {"nodeAffinity": None}, {"podAffinity": {}}, [])) | _node_terms.map(
    lambda terms: {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
)
_amounts = st.dictionaries(
    st.sampled_from(("amd.com/gpu", "cpu", "memory")), st.one_of(_QUANTITIES, _QUANTITIES, _ODD_QUANTITIES), max_size=2
)
_resources = st.fixed_dictionaries({}, optional={"limits": _amounts, "requests": _amounts, "claims": st.just([])})
_labels = st.dictionaries(
    st.sampled_from(("team", "kimi-linear.io/server", "app.kubernetes.io/name", "app.kubernetes.io/version", "", "ü")),
    st.sampled_from(("a", "", "x" * 63, "x" * 64, 1, None)),
    max_size=2,
)
_texts = st.sampled_from(({"a": "b"}, {"a": None}, {"a": 1}, {"a": True}, {"": ""}, {"a": "x" * 4096}, ["a"]))
_tolerations = st.sampled_from(
    (
        {"operator": "Exists"},
        {"key": "amd.com/gpu", "value": "true", "effect": "NoSchedule"},
        {"key": "amd.com/gpu", "value": True},
        {"tolerationSeconds": 300},
        {"tolerationSeconds": 300.0},
        {"tolerationSeconds": "300"},
        {"unknown": {"a": None}},
        "x",
    )
)
POD_TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": _labels, "annotations": _texts}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(_containers(st.sampled_from(("sglang", "sglang", "proxy"))), max_size=3),
                "initContainers": st.lists(_containers(st.sampled_from(("fetch", "sglang", ""))), max_size=2),
                "tolerations": st.lists(_tolerations, max_size=2),
                "imagePullSecrets": st.sampled_from(([{"name": "a"}], [{}], ["a"], [{"name": 1}])),
                "serviceAccountName": st.sampled_from(("a", 1, None, "x" * 254)),
                "volumes": st.lists(_volumes, max_size=2),
                "affinity": _affinities,
                "$patch": st.just("replace"),
                "nodeSelector": _texts | st.none(),
                "nobodyKnowsThis": st.sampled_from((None, 1, {"a": None})),
            },
        ),
    },
)
_plain_pod_templates: Strategy = st.sampled_from(
    (
        {},
        {"metadata": {"labels": {"team": "a"}}},
        {"spec": {"tolerations": [{"operator": "Exists"}]}},
        {"spec": {"containers": [{"name": "sglang", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}]}},
        {"spec": {"containers": [{"name": "proxy", "image": "envoy", "ports": [{"containerPort": 80}]}]}},
        {"spec": {"initContainers": [{"name": "fetch", "image": "busybox", "command": ["true"]}]}},
    )
)

_FIELDS = {**_SCALARS, **_LISTS, "podTemplate": (_plain_pod_templates, POD_TEMPLATES)}
_GROUPS = sorted({path.rpartition(".")[0] for path in _FIELDS if "." in path})

_SERVER_NAMES = st.one_of(
    st.just("kimi"),
    st.just("kimi"),
    st.just("kimi"),
    st.sampled_from(("a", "a-1", "a" * 50, "a" * 51, "1a", "a.b", "A", "a_", "-a", "a-", "ä", "a" * 300, "a\n")),
)


@st.composite
def _good(draw: st.DrawFn) -> dict[str, Json]:
    """A spec of good parts. The parts may still exclude each other."""
    chosen = draw(st.lists(st.sampled_from(sorted(_FIELDS)), max_size=6, unique=True))
    spec: dict[str, Json] = {}
    for path in chosen:
        put(spec, path, draw(_FIELDS[path][0]))
    # A reference with a key also needs a name.
    if "key" in spec.get("model", {}).get("tokenSecretRef", {}):
        put(spec, "model.tokenSecretRef.name", "hf-token")
    if "autoscaling" in spec:
        spec["autoscaling"].setdefault("maxReplicas", 4)
        if "keda" in spec["autoscaling"]:
            spec["autoscaling"]["keda"].setdefault("prometheusAddress", "http://p:9090")
        if "authentication" in spec["autoscaling"].get("keda", {}):
            put(spec, "autoscaling.keda.authentication.triggerAuthentication", "prometheus")
    if "key" in spec.get("auth", {}).get("apiKeySecretRef", {}):
        put(spec, "auth.apiKeySecretRef.name", "clients")
    return spec


@st.composite
def _odd(draw: st.DrawFn) -> Json:
    """A good spec with one odd value, which may be invalid."""
    spec = draw(_good())
    kind = draw(st.sampled_from(("nearly", "nearly", "nearly", "podTemplate", "anything", "group", "unknown", "all")))
    if kind == "nearly":
        path = draw(st.sampled_from(sorted(_FIELDS)))
        put(spec, path, draw(_FIELDS[path][1]))
    elif kind == "podTemplate":
        spec["podTemplate"] = draw(POD_TEMPLATES)
    elif kind == "anything":
        put(spec, draw(st.sampled_from(sorted(_FIELDS))), copy.deepcopy(draw(st.sampled_from(ODD_ANYWHERE))))
    elif kind == "group":
        put(spec, draw(st.sampled_from(_GROUPS)), copy.deepcopy(draw(st.sampled_from(ODD_ANYWHERE))))
    elif kind == "unknown":
        group = draw(st.sampled_from(("", *(f"{group}." for group in _GROUPS))))
        put(spec, f"{group}tensorParalelism", draw(st.sampled_from((None, 1, "x", {}))))
    else:
        return copy.deepcopy(draw(st.sampled_from(ODD_ANYWHERE)))
    return spec


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Json]:
    """A KimiLinearServer as users might write it. About half of them are valid."""
    manifest: dict[str, Json] = {
        "apiVersion": "kimi-linear.io/v1alpha1",
        "kind": "KimiLinearServer",
        "metadata": {"name": draw(_SERVER_NAMES)},
        "spec": draw(st.one_of(_good(), _odd())),
    }
    if draw(st.integers(0, 19)) == 0:
        del manifest["spec"]
    return manifest


def put(spec: dict[str, Json], path: str, value: Json) -> None:
    """Set a field. Values on its path that are not objects are replaced."""
    *groups, last = path.split(".")
    for group in groups:
        if not isinstance(spec.get(group), dict):
            spec[group] = {}
        spec = spec[group]
    spec[last] = value


def draw_manifest(
    draw: st.DrawFn,
    kind: str,
    names: Strategy,
    fields: Mapping[str, tuple[Strategy, Strategy]],
    spec: dict[str, Json],
) -> dict[str, Json]:
    """Return a resource as users might write it. About half of them are valid.

    Args:
        draw: Hypothesis' own.
        kind: Its kind.
        names: Its names, good and odd.
        fields: Good values and odd ones of each field of the spec, by its path.
        spec: The spec to add fields to.
    """
    for path in draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)):
        put(spec, path, draw(fields[path][0]))
    wanted = draw(st.sampled_from(("good", "good", "nearly", "nearly", "anything", "unknown")))
    if wanted != "good":
        path = draw(st.sampled_from(sorted(fields)))
        odd = {"nearly": fields[path][1], "anything": st.sampled_from(ODD_ANYWHERE), "unknown": st.just("x")}[wanted]
        put(
            spec,
            f"{path.rpartition('.')[0]}.unknown".strip(".") if wanted == "unknown" else path,
            copy.deepcopy(draw(odd)),
        )
    return {"apiVersion": "kimi-linear.io/v1alpha1", "kind": kind, "metadata": {"name": draw(names)}, "spec": spec}
