"""How a command ends if it has no answer."""

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION

INTERRUPTED = 130
"""The exit code that a shell reports when SIGINT (Ctrl-C) has ended a process."""

_UNAUTHORIZED = 401
_UNKNOWN_KIND = (
    f"the cluster does not know the kinds of {GROUP}/{VERSION}: install the operator with its chart, or only the "
    "definitions with `kimi-linear crd | kubectl apply --server-side -f -`. If they are installed, the kubeconfig's "
    "context names another cluster, or the cluster has the kinds only in another version: `kubectl api-versions` lists "
    "the versions"
)
_NO_ANSWER_REMEDY = (
    "check that the cluster runs, and that the kubeconfig's context has its address and its certificate authority"
)


class CommandError(Exception):
    """Ends a command with exit code 2, for example because a file can't be read or a cluster can't be reached."""


def of_cluster(error: ApiError) -> CommandError:
    """Return how a command ends after an error of the API server, with a remedy."""
    if error.is_unknown_kind:
        return CommandError(_UNKNOWN_KIND)
    if error.is_without_answer:
        return CommandError(f"{error}: {_NO_ANSWER_REMEDY}")
    if error.is_missing_namespace:
        return CommandError(f"{error}: create the namespace, or name another one with -n")
    if error.status == _UNAUTHORIZED:
        return CommandError(f"{error}: renew the credentials in the kubeconfig")
    return CommandError(str(error))


def of_file(option: str, error: OSError) -> CommandError:
    """Return how a command ends if the file that an option names cannot be read or written."""
    return CommandError(f"{option}: {error.strerror or error}: check the path and its permissions")


def missing(kinds: str, words: str, name: str, namespace: str) -> CommandError:
    """Return how a command ends if the cluster has no such resource.

    Args:
        kinds: The possible kinds, as text for people.
        words: The kinds as kubectl reads them, with commas.
        name: The name of the resource.
        namespace: Its namespace.
    """
    lists = f"`kubectl get {words} -n {namespace}` lists those that exist"
    return CommandError(f"no {kinds} {name} in namespace {namespace}: {lists}")
