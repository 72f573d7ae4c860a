"""Finds out whether a refused list was refused by the API server itself.

A proxy in front of the API server can answer with status 403 or 404, too. For a kind that the API server does not
serve, its own answer is the text "404 page not found", and many proxies send the same text. So only discovery proves
that the cluster does not have a kind (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api).
"""

from dataclasses import replace

from kimi_linear_operator.cluster.answer import Answer, decoded, error_of, shows_forbidden
from kimi_linear_operator.cluster.errors import NOT_SERVED, UNREACHABLE, ApiError, OtherVersionError
from kimi_linear_operator.cluster.paths import version_path
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.cluster.transport import Transport
from kimi_linear_operator.jsontext import TooLongError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

REFUSALS = (403, 404)
"""The statuses of refusals: the caller may not list the kind, or the cluster does not have it."""

_FORBIDDEN = 403
_NOT_FOUND = 404
# The list of all groups. The core group is not in it, because every API server has the core group.
_GROUPS = "/apis"
# Each group and each kind takes some hundred bytes, so a cluster with a thousand definitions needs half of this.
_MOST_BYTES = 2**20


async def refusal(transport: Transport, kind: Kind, answer: Answer) -> ApiError:
    """Return the error of a list with a status in REFUSALS.

    Args:
        transport: Asks discovery, only after status 404.
        kind: The kind that was listed.
        answer: The answer to the list.

    Returns:
        An error with the status of the answer if the API server itself refused the list. Otherwise, nobody knows what
        the API server would have answered, so the error has the status UNREACHABLE.
    """
    found = error_of(answer)
    if answer.status == _FORBIDDEN:
        return found if shows_forbidden(answer) else _doubted(found, "it does not say that a permission is missing")
    try:
        serving = await _serving(transport, kind)
    except ApiError as error:
        return _doubted(found, f"discovery cannot be read: {error}")
    if kind.api_version in serving:
        return _doubted(found, "discovery names the kind")
    not_served = f"{NOT_SERVED} {kind.plural} of {kind.api_version}"
    if serving:
        return OtherVersionError(_NOT_FOUND, f"{not_served}, but of {', '.join(serving)}")
    return ApiError(_NOT_FOUND, not_served)


def _doubted(found: ApiError, why: str) -> ApiError:
    return ApiError(UNREACHABLE, f"the answer does not count ({why}): {found}", found.retry_seconds)


async def _serving(transport: Transport, kind: Kind) -> list[str]:
    """Return the API versions in which discovery names a kind.

    The version of the kind is asked for first. While an API server starts, it gives no wrong answer about a version,
    but its list of groups may be incomplete.

    Raises:
        ApiError: Discovery cannot be read.
    """
    of_version = await _answer(transport, version_path(kind))
    is_missing = of_version.status == _NOT_FOUND and bool(kind.group)
    if not is_missing and _is_named(of_version, kind):
        return [kind.api_version]
    if not kind.group:
        return []
    versions = served_versions(decoded(await _answer(transport, _GROUPS)), kind.group)
    if is_missing and kind.version in versions:
        return [kind.api_version]
    others = [replace(kind, version=version) for version in versions if version != kind.version]
    return [other.api_version for other in others if _is_named(await _answer(transport, version_path(other)), other)]


def _is_named(of_version: Answer, kind: Kind) -> bool:
    """Return whether discovery's answer about a version names a kind.

    Raises:
        ApiError: This is not the answer about the version.
    """
    return kind.plural in served_resources(decoded(of_version), kind.api_version)


async def _answer(transport: Transport, path: str) -> Answer:
    try:
        return await transport.answer(Request("GET", path), _MOST_BYTES)
    except TooLongError as error:
        raise ApiError(UNREACHABLE, f"{path} is longer than {_MOST_BYTES} bytes") from error


def served_versions(content: Manifest, group: str) -> list[str]:
    """Return the versions of a group in discovery's list of groups, such as `v1`.

    Raises:
        ApiError: This is not the list of groups. An empty list is none, because every API server has groups.
    """
    groups = _objects(content, "groups")
    if content.get("kind") != "APIGroupList" or not groups:
        raise ApiError(UNREACHABLE, "not an APIGroupList with groups")
    found = [str(version.get("groupVersion")) for each in groups for version in _objects(each, "versions")]
    return [name.removeprefix(f"{group}/") for name in found if name.startswith(f"{group}/")]


def served_resources(content: Manifest, api_version: str) -> set[str]:
    """Return the plurals of all kinds in discovery's list for an API version.

    Raises:
        ApiError: This is not the list for the API version.
    """
    resources = _objects(content, "resources")
    if (content.get("kind"), content.get("groupVersion")) != ("APIResourceList", api_version):
        raise ApiError(UNREACHABLE, f"not the APIResourceList of {api_version}")
    return {str(resource.get("name")) for resource in resources}


def _objects(content: Manifest, name: str) -> list[Manifest]:
    """Return the objects in a field.

    Raises:
        ApiError: The field does not contain objects.
    """
    objects = content.get(name)
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise ApiError(UNREACHABLE, f"the field {name} is not a list of objects")
    return objects
