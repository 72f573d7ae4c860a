"""What a benchmark measures: where it is, what its client needs, and whether it stays the same meanwhile."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import client
from kimi_linear_operator.benchmark.address import TargetKey, key_of, label_of
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.service import url
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

# What an endpoint of which nothing else is known is asked with: the recipe's image and packages.
_RECIPE = ServerSpec.model_validate({})
_GENERATIONS = 2**63


@dataclass(frozen=True)
class Target:
    """A server as a benchmark's client sees it.

    Attributes:
        name: The server's name, or the endpoint's address.
        label: The value of a label that all Jobs against this server have, however its address is written.
        former_label: The label that earlier builds of the operator gave: Jobs that run during an upgrade have it.
        url: Where requests go.
        model: The model on the Hugging Face hub.
        image: Image to run the client in.
        packages: Python packages that the tokenizer needs.
        environment: Variables of the client, of which secrets are references.
        facts: What the status says was measured.
        revision: The commit, branch or tag of the model that the server has, if it names one.
        pod: Fields of a pod's spec that the server's pods have and the client's need, too.
    """

    name: str
    label: str
    former_label: str
    url: str
    model: str
    image: str
    packages: Sequence[str]
    environment: Sequence[Manifest]
    facts: Manifest
    revision: str | None = None
    pod: Manifest = field(default_factory=dict)


def of_server(benchmark: KimiLinearBenchmark, server: KimiLinearServer, template: Manifest | None = None) -> Target:
    """Return the target that a server of ours is.

    Args:
        benchmark: The benchmark.
        server: The server.
        template: The pod template that its pods have, which another version may have built; None if that is not known.
    """
    spec = server.spec
    running = sglang.command_line(template) if template else []
    command = server.status.get("command") if template else None
    image = (sglang.image_in(template) if template else None) or sglang.image(spec)
    facts = {
        "server": server.metadata.name,
        "serverGeneration": server.metadata.generation,
        "image": image,
        "podTemplateHash": template_hash(template),
        "command": command or sglang.recipe_command(spec),
        "hardware": spec.hardware,
        "tensorParallelism": spec.tensor_parallelism,
        "version": sglang.release(spec),
    }
    packages = benchmark.spec.client.extra_pip_packages
    return Target(
        name=server.metadata.name,
        label=label_of(TargetKey(server.metadata.namespace, server.metadata.name)),
        former_label=server.metadata.name,
        url=url(server),
        model=sglang.value_of("--model-path", running) or sglang.model_path(spec),
        image=benchmark.spec.client.image or image,
        packages=_packages(spec, template) if packages is None else packages,
        environment=[*_token(spec), *_api_key(api_key_reference(spec))],
        facts={name: value for name, value in facts.items() if value is not None},
        revision=sglang.value_of("--revision", running) if running else spec.model.revision,
        pod=_shared_pod_fields(spec),
    )


def _packages(spec: ServerSpec, template: Manifest | None) -> Sequence[str]:
    """Return the Python packages that a server's pods have, as far as that is known."""
    running = sglang.packages_in(template) if template else None
    return spec.engine.extra_pip_packages if running is None else running


def of_endpoint(benchmark: KimiLinearBenchmark) -> Target:
    """Return the target that the spec's endpoint is."""
    endpoint, given = benchmark.spec.endpoint, benchmark.spec.client
    assert endpoint  # noqa: S101 - a rule sees to it that there is one where no server is named
    key, packages = endpoint.api_key_secret_ref, given.extra_pip_packages
    return Target(
        name=endpoint.url,
        label=label_of(key_of(endpoint.url, benchmark.metadata.namespace)),
        former_label=f"endpoint-{hashlib.sha256(endpoint.url.encode()).hexdigest()[:16]}",
        url=endpoint.url,
        model=endpoint.model,
        image=given.image or sglang.image(_RECIPE),
        packages=_RECIPE.engine.extra_pip_packages if packages is None else packages,
        environment=_api_key({"name": key.name, "key": key.key} if key else None),
        facts={"server": endpoint.url},
    )


def api_key_reference(spec: ServerSpec) -> Manifest | None:
    """Return the key of a Secret that a server takes its API key from, None if it has none or gets it otherwise."""
    name = sglang.api_key_variable(spec)
    containers = _overlaid_pod(spec).get("containers", ()) if name else ()
    variables = [item for one in containers if one["name"] == sglang.CONTAINER for item in one.get("env", ())]
    for variable in variables:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if variable["name"] == name and reference:
            return dict(reference)
    return None


def template_hash(template: Manifest | None) -> str | None:
    """Return what tells pods of one template from those of another; labels and annotations make no other server."""
    if template is None:
        return None
    return hashlib.sha256(json.dumps(template.get("spec"), sort_keys=True).encode()).hexdigest()[:16]


def snapshot(server: Manifest | None, pods: Iterable[Manifest], template: Manifest | None = None) -> str:
    """Return a server's state as text: what must be the same before and after a suite.

    Args:
        server: The server, if there is one.
        pods: Its pods.
        template: The pod template that they have, None if that is not known.
    """
    if server is None:
        return "{}"
    restarts = {pod["metadata"]["name"]: _restarts(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    status = server.get("status", {})
    state = {
        "uid": server["metadata"]["uid"],
        "generation": server["metadata"]["generation"],
        "image": status.get("image"),
        "restarts": restarts,
        "template": template_hash(template),
    }
    return json.dumps(state, sort_keys=True)


def changes(before: str, after: str) -> list[str]:
    """Return what changed between two snapshots, in words."""
    old, new = _state(before), _state(after)
    if old.get("uid") != new.get("uid"):
        return ["the server was deleted or replaced meanwhile"]
    told = []
    was, has_become = _generation(old), _generation(new)
    if was != has_become:
        told.append(f"the server's spec changed meanwhile (generation {was}, then {has_become})")
    if old.get("image") != new.get("image"):
        told.append("the server's image changed meanwhile")
    return told + _pod_changes(_restart_counts(old), _restart_counts(new))


def changes_since(facts: Manifest, before: str) -> list[str]:
    """Return what changed between the first suite and the snapshot of a later one, in words."""
    state = _state(before)
    then, now = facts.get("serverGeneration"), _generation(state)
    if then is not None and then != now:
        return [f"the server's spec changed between suites (generation {then}, then {now})"]
    template, has_become = facts.get("podTemplateHash"), state.get("template")
    if template and has_become and template != has_become:
        return ["the server got other pods between suites"]
    return []


def _pod_changes(old: dict[str, int], new: dict[str, int]) -> list[str]:
    told = [
        f"pod {name} of the server was restarted meanwhile"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    if old.keys() != new.keys():
        told.append("pods of the server were replaced meanwhile")
    return told


def _restart_counts(state: dict[str, Any]) -> dict[str, int]:
    restarts = state.get("restarts")
    return restarts if isinstance(restarts, dict) else {}


def _generation(state: dict[str, Any]) -> int | None:
    """Return the generation in a snapshot, None if it is no number that the API server counts to."""
    generation = state.get("generation")
    return generation if isinstance(generation, int) and abs(generation) < _GENERATIONS else None


def _state(text: str) -> dict[str, Any]:
    """Return a snapshot, an empty one if somebody has written something else in its place."""
    try:
        state = jsontext.decode(text)
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _restarts(pod: Manifest) -> int:
    return sum(container["restartCount"] for container in pod.get("status", {}).get("containerStatuses", ()))


# A client pulls the same image, often from the same private registry, and on the same tainted nodes.
_SHARED_POD_FIELDS = ("imagePullSecrets", "tolerations")


def _shared_pod_fields(spec: ServerSpec) -> Manifest:
    pod = _overlaid_pod(spec)
    return {name: pod[name] for name in _SHARED_POD_FIELDS if pod.get(name)}


def _overlaid_pod(spec: ServerSpec) -> Manifest:
    """Return what a server's podTemplate says about the pods' spec."""
    template = spec.pod_template.model_dump(by_alias=True, exclude_none=True) if spec.pod_template else {}
    return dict(template.get("spec", {}))


def _token(spec: ServerSpec) -> list[Manifest]:
    token = spec.model.token_secret_ref
    return [_from_secret("HF_TOKEN", {"name": token.name, "key": token.key})] if token else []


def _api_key(reference: Manifest | None) -> list[Manifest]:
    return [_from_secret(client.API_KEY_VARIABLE, reference)] if reference else []


def _from_secret(variable: str, reference: Manifest) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}
