"""The API server's address and our credentials.

They come from kubectl's kubeconfig, or else from the pod's service account.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import list_kube_config_contexts, load_incluster_config, load_kube_config

from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.cluster.proxies import proxy_for

# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def configuration() -> Configuration:
    """Return the API server's address, the proxy to it, and credentials.

    Raises:
        ApiError: There are no credentials.
    """
    loaded = Configuration()
    await load(loaded)
    # As in kubectl, the proxy in the kubeconfig (proxy-url) takes precedence over proxies in the environment.
    loaded.proxy = loaded.proxy or proxy_for(str(loaded.host), os.environ)
    return loaded


async def load(into: Configuration) -> None:
    """Read the credentials that kubectl would use, or else the pod's credentials.

    Raises:
        ApiError: There are no credentials.
    """
    files = _kubeconfigs()
    if files and not any(file.exists() for file in files):
        raise ApiError(UNREACHABLE, f"no cluster: KUBECONFIG names the file {files[0]}, which does not exist")
    try:
        if files:
            await load_kube_config(os.pathsep.join(map(str, files)), client_configuration=into)
        else:
            load_incluster_config(client_configuration=into)
    except Exception as error:  # a broken file can make the loader raise any exception
        raise _no_cluster_error(error, files) from error


async def add_to(headers: dict[str, str], client: ApiClient, method: str, url: str) -> None:
    """Add the current credentials to the headers of a request. The client library reads a token again once a minute.

    Raises:
        ApiError: The credentials cannot be read at this moment, for example because the file with the token is empty.
    """
    try:
        await client.update_params_for_auth(headers, [], ["BearerToken"], url, method, None)
    except Exception as error:  # like the loader, the hook that reads a token again can raise any exception
        raise ApiError(UNREACHABLE, f"cannot authenticate: {str(error) or type(error).__name__}") from error


async def renew_certificates(client: ApiClient) -> None:
    """Read the cluster's certificate authorities and the client's certificate again.

    An authority can be replaced while the operator runs. The kubelet then writes the new authority into the pod.
    Earlier authorities stay trusted until the process ends. Open connections do not change.

    Raises:
        ApiError: There are no credentials.
        OSError: A certificate cannot be read.
    """
    configuration, context = client.configuration, client.rest_client.ssl_context
    await load(configuration)
    if configuration.ssl_ca_cert or configuration.ca_cert_data:
        context.load_verify_locations(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)


def own_namespace() -> str:
    """Return the namespace of our pod, or "default" outside of pods."""
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"


def current_namespace() -> str:
    """Return the namespace that kubectl would use: the namespace of the kubeconfig's context, or else of the pod.

    Raises:
        ApiError: The kubeconfig cannot be read.
    """
    files = _kubeconfigs()
    if not any(file.exists() for file in files):
        return own_namespace()
    try:
        _, context = list_kube_config_contexts(os.pathsep.join(map(str, files)))
    except Exception as error:  # a broken file can make the loader raise any exception
        raise _no_cluster_error(error, files) from error
    return str(context["context"].get("namespace") or "default")


def _kubeconfigs() -> list[Path]:
    """Return the kubeconfigs that kubectl would read, empty if it would use the pod's service account."""
    if paths := os.environ.get("KUBECONFIG"):
        return [Path(file) for file in paths.split(os.pathsep)]
    default = Path.home() / ".kube" / "config"
    return [default] if default.exists() else []


def _no_cluster_error(error: Exception, files: Sequence[Path]) -> ApiError:
    """Return an error that names the files from which the credentials could not be read."""
    if not files:
        where = "there is no ~/.kube/config, and this is not a pod"
        return ApiError(UNREACHABLE, f"no cluster: {where} ({error}): set KUBECONFIG to the path of a kubeconfig")
    names = os.pathsep.join(map(str, files))
    cause = f"{names} cannot be used as a kubeconfig: {str(error) or type(error).__name__}"
    return ApiError(UNREACHABLE, f"no cluster: {cause}. Correct the file, or set KUBECONFIG to another one")
