"""The target of a benchmark: its address, what clients need to use it, and whether it changes between suites."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kimi_linear_operator.benchmark import commands
from kimi_linear_operator.benchmark.address import TargetKey, key_of, label_of
from kimi_linear_operator.benchmark.spec import Environment, KimiLinearBenchmark
from kimi_linear_operator.kubernetes import record_text
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.server import model_location
from kimi_linear_operator.server.client_pod import api_key_reference, shared_pod_fields
from kimi_linear_operator.server.service import url
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.sglang.images import image_of, release_of
from kimi_linear_operator.server.sglang.running import command_line_in, image_in, packages_in, value_of
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.weights.location import Location

# The server of the recipe: clients of an endpoint use its image and packages by default.
_RECIPE = ServerSpec.model_validate({})
# Generations are signed 64-bit integers in the API.
_GENERATIONS = 2**63
# In characters. All annotations of an object together can have 256 KiB.
_LONGEST_SNAPSHOT = 262_144


@dataclass(frozen=True)
class Target:
    """The facts about a server that a benchmark's client needs.

    Attributes:
        name: The server's name, or the endpoint's address.
        label: The value of the target label of Jobs and pods. All ways to write the server's address give the same
            value.
        former_label: The value of this label in earlier builds of the operator. Jobs that run during an upgrade have
            this value.
        url: The address for requests.
        model: The name of the model on the Hugging Face hub.
        image: The image that the client runs in.
        packages: The Python packages that the tokenizer needs.
        environment: The client's environment variables; secrets are references.
        facts: The contents of `status.environment`.
        revision: The commit, branch or tag of the server's model, None if the server does not set one.
        pod: Fields of the pod spec that the client's pod copies from the server's pods.
        location: Where the client's pod finds the tokenizer, None if it comes from the hub.
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
    location: Location | None = None


def of_server(benchmark: KimiLinearBenchmark, server: KimiLinearServer, template: Manifest | None = None) -> Target:
    """Return the target for a KimiLinearServer.

    Args:
        benchmark: The benchmark.
        server: The server.
        template: The pod template of the server's pods. Another version of the operator may have built it. None if the
            server has no Deployment.
    """
    spec = server.spec
    running = command_line_in(template) if template else []
    facts = _facts(server, template)
    packages = benchmark.spec.client.extra_pip_packages
    return Target(
        name=server.metadata.name,
        label=label_of(TargetKey(server.metadata.namespace, server.metadata.name)),
        former_label=server.metadata.name,
        url=url(server),
        model=value_of("--model-path", running) or command_line.model_path(spec),
        image=benchmark.spec.client.image or facts["image"],
        packages=_packages(spec, template) if packages is None else packages,
        environment=[*_token(spec), *_api_key(api_key_reference(spec))],
        facts=facts,
        revision=value_of("--revision", running) if running else spec.model.revision,
        pod=shared_pod_fields(spec),
        location=model_location.of_pods(spec, template),
    )


def _facts(server: KimiLinearServer, template: Manifest | None) -> Manifest:
    """Return the contents of `status.environment`."""
    spec = server.spec
    command = server.status.get("command") if template else None
    facts = {
        "server": server.metadata.name,
        "serverGeneration": server.metadata.generation,
        "image": (image_in(template) if template else None) or image_of(spec),
        "podTemplateHash": template_hash(template),
        "command": command or recipe_command(spec),
        "hardware": spec.hardware,
        "tensorParallelism": spec.tensor_parallelism,
        "version": release_of(spec),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _packages(spec: ServerSpec, template: Manifest | None) -> Sequence[str]:
    """Return the extra Python packages of a server's pods: those of the pod template, else those of the spec."""
    running = packages_in(template) if template else None
    return spec.engine.extra_pip_packages if running is None else running


def of_endpoint(benchmark: KimiLinearBenchmark) -> Target:
    """Return the target for `spec.endpoint`."""
    endpoint, client_spec = benchmark.spec.endpoint, benchmark.spec.client
    assert endpoint  # noqa: S101 - a rule requires either serverRef or endpoint
    key, packages = endpoint.api_key_secret_ref, client_spec.extra_pip_packages
    return Target(
        name=endpoint.url,
        label=label_of(key_of(endpoint.url, benchmark.metadata.namespace)),
        former_label=f"endpoint-{hashlib.sha256(endpoint.url.encode()).hexdigest()[:16]}",
        url=endpoint.url,
        model=endpoint.model,
        image=client_spec.image or image_of(_RECIPE),
        packages=_RECIPE.engine.extra_pip_packages if packages is None else packages,
        environment=_api_key({"name": key.name, "key": key.key} if key else None),
        facts={"server": endpoint.url},
    )


def template_hash(template: Manifest | None) -> str | None:
    """Return a hash of a pod template. Labels and annotations do not count, because they do not change the server."""
    if template is None:
        return None
    return hashlib.sha256(json.dumps(template.get("spec"), sort_keys=True).encode()).hexdigest()[:16]


def snapshot(server: Manifest | None, restarts: Mapping[str, int], template: Manifest | None = None) -> str:
    """Return the part of a server's state that must not change during a suite, as JSON.

    Args:
        server: The server, None if there is none.
        restarts: How often the containers of each of its pods were restarted.
        template: The template of the pods, None if the server has no Deployment.
    """
    if server is None:
        return "{}"
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
    """Return messages about what changed between two snapshots of a server."""
    old, new = _state(before), _state(after)
    if old.get("uid") != new.get("uid"):
        return ["the server was deleted or replaced during the suite"]
    messages = []
    old_generation, new_generation = _generation(old), _generation(new)
    if old_generation != new_generation:
        messages.append(
            f"the server's spec changed during the suite (generation {old_generation}, then {new_generation})"
        )
    if old.get("image") != new.get("image"):
        messages.append("the server's image changed during the suite")
    return messages + _pod_changes(_restart_counts(old), _restart_counts(new))


def changes_since(facts: Manifest, before: str) -> list[str]:
    """Return messages about what changed between the first suite and a later one.

    If `facts` cannot be read, the suites may have measured different servers. So this counts as a change.

    Args:
        facts: The contents of `status.environment`, recorded when the first suite started. Another version of the
            operator may have written them.
        before: The snapshot of the server before the later suite.
    """
    compared = {name: facts[name] for name in ("serverGeneration", "podTemplateHash") if name in facts}
    if not is_readable(Environment, compared):
        return ["it is unknown whether the server changed between suites: status.environment cannot be read"]
    state = _state(before)
    old_generation, new_generation = facts.get("serverGeneration"), _generation(state)
    if old_generation is not None and old_generation != new_generation:
        return [f"the server's spec changed between suites (generation {old_generation}, then {new_generation})"]
    old_template, new_template = facts.get("podTemplateHash"), state.get("template")
    if old_template and new_template and old_template != new_template:
        return ["the server got other pods between suites"]
    return []


def _pod_changes(old: dict[str, int], new: dict[str, int]) -> list[str]:
    """Return messages about pods that were restarted or replaced, given their restarts by name."""
    messages = [
        f"pod {name} of the server was restarted during the suite"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    if old.keys() != new.keys():
        messages.append("pods of the server were replaced during the suite")
    return messages


def _restart_counts(state: dict[str, Any]) -> dict[str, int]:
    restarts = state.get("restarts")
    return restarts if isinstance(restarts, dict) else {}


def _generation(state: dict[str, Any]) -> int | None:
    """Return the generation in a snapshot, None if it is not a valid number."""
    generation = state.get("generation")
    return generation if isinstance(generation, int) and abs(generation) < _GENERATIONS else None


def _state(text: str) -> dict[str, Any]:
    """Parse a snapshot.

    A user can change its annotation, so anything other than an object counts as an empty snapshot. So does a text that
    takes long to decode.
    """
    state = record_text.decode(text, _LONGEST_SNAPSHOT)
    return state if isinstance(state, dict) else {}


def restarts(pods: Iterable[Manifest]) -> dict[str, int]:
    """Return how often the containers of each pod were restarted. Pods that are being deleted do not count."""
    return {pod["metadata"]["name"]: _restarts(pod) for pod in pods if not is_being_deleted(pod)}


def _restarts(pod: Manifest) -> int:
    return sum(container["restartCount"] for container in pod.get("status", {}).get("containerStatuses", ()))


def _token(spec: ServerSpec) -> list[Manifest]:
    token = spec.model.token_secret_ref
    return [_from_secret("HF_TOKEN", {"name": token.name, "key": token.key})] if token else []


def _api_key(reference: Manifest | None) -> list[Manifest]:
    return [_from_secret(commands.API_KEY_VARIABLE, reference)] if reference else []


def _from_secret(variable: str, reference: Manifest) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}
