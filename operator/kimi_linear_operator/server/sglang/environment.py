"""SGLang's environment variables, and the folders that they name."""

from collections.abc import Sequence

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import ServerSpec

RECIPE_ENVIRONMENT = {"SGLANG_ROCM_FUSED_DECODE_MLA": "0"}

CACHE_VOLUME = "cache"
CACHE_PATH = "/cache"
KERNELS_PATH = "/kernels"
TRITON_PATH = f"{KERNELS_PATH}/triton"

# Hosts to which SGLang sends requests during its warm-up. These are SGLang's own addresses, so a proxy cannot reach
# them. 0.5.7 calls the host on which it listens, 0.5.23 calls a loopback address (server_args.py, url).
_OWN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104 - names for a list of exceptions
# Variables in which the Python package requests finds a proxy for http:// (requests/utils.py, get_environ_proxies).
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTION_VARIABLES = ("NO_PROXY", "no_proxy")


def variables(spec: ServerSpec) -> list[Manifest]:
    """Return the container's environment variables.

    SGLANG_ROCM_FUSED_DECODE_MLA: the image sets 1, and then 0.5.7 fails on this model. So 0 must be set explicitly.

    SGLANG_SET_CPU_AFFINITY: the image sets 1. SGLang would then pin itself to CPUs that the pod is not allowed to use,
        and fail (utils/common.py, gpu_proc_affinity).

    SGLANG_WARMUP_TIMEOUT: the compilation of all kernels takes longer than the default of 600 seconds, so the warm-up
    is allowed to take the whole start-up time.

    TRITON_CACHE_DIR, TORCHINDUCTOR_CACHE_DIR: each pod compiles kernels into its own volume, unless spec.kernelCache
    keeps Triton's kernels in another place. Pods cannot share the folder of PyTorch's inductor: the names of its
    temporary files contain only the process and thread numbers (codecache.py, write_atomic), and these are the same in
    all pods. AITER's kernels stay in the image, because the image contains most of them. With AITER_JIT_DIR, AITER
    would not find these (jit/core.py, get_module_custom_op).
    """
    result: list[Manifest] = [
        *({"name": name, "value": value} for name, value in RECIPE_ENVIRONMENT.items()),
        {"name": "SGLANG_SET_CPU_AFFINITY", "value": "0"},
        {"name": "SGLANG_WARMUP_TIMEOUT", "value": str(spec.startup.timeout_seconds)},
        {"name": "HF_HOME", "value": f"{CACHE_PATH}/huggingface"},
        {"name": "TRITON_CACHE_DIR", "value": TRITON_PATH},
        {"name": "TORCHINDUCTOR_CACHE_DIR", "value": f"{KERNELS_PATH}/inductor"},
    ]
    if token := spec.model.token_secret_ref:
        reference = {"name": token.name, "key": token.key}
        result.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return result


def with_proxy_exceptions(variables: Sequence[Manifest]) -> list[Manifest]:
    """Return environment variables. If they name a proxy for http://, SGLang's own hosts are added as exceptions.

    If the exceptions in a variable NAME come from a Secret or ConfigMap, they move to a variable GIVEN_NAME, and NAME
    refers to this variable.
    """
    names = {variable["name"] for variable in variables}
    if not names & set(_PROXY_VARIABLES):
        return list(variables)
    missing = [] if names & set(_EXCEPTION_VARIABLES) else list(_EXCEPTION_VARIABLES)
    completed = [item for variable in variables for item in _with_own_hosts(variable)]
    return [*completed, *({"name": name, "value": ",".join(_OWN_HOSTS)} for name in missing)]


def _with_own_hosts(variable: Manifest) -> list[Manifest]:
    """Return a variable; add SGLang's own hosts if it holds proxy exceptions."""
    name = variable["name"]
    if name not in _EXCEPTION_VARIABLES:
        return [variable]
    if "valueFrom" in variable:
        moved = f"GIVEN_{name}"
        return [{**variable, "name": moved}, {"name": name, "value": ",".join([f"$({moved})", *_OWN_HOSTS])}]
    value = str(variable.get("value") or "")
    hosts = [host.strip() for host in value.split(",") if host.strip()]
    missing = [] if "*" in hosts else [host for host in _OWN_HOSTS if host not in hosts]
    return [{"name": name, "value": ",".join([*hosts, *missing])} if missing else variable]
