"""Namespaces on the command line, and the namespace for verbs that read from a cluster."""

import argparse
import re

from kimi_linear_operator.cli.failure import of_cluster
from kimi_linear_operator.cluster.credentials import current_namespace
from kimi_linear_operator.cluster.errors import ApiError

# A label of RFC 1123 (k8s.io/apimachinery, ValidateNamespaceName).
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
RULE = "use at most 63 lower-case letters, digits and '-', and begin and end with a letter or a digit"
"""What the name of a namespace must be."""


def add_namespace_argument(parser: argparse.ArgumentParser, of: str, *, without_cluster: str = "") -> None:
    """Add -n.

    Args:
        parser: The parser of the verb.
        of: Whose namespace it is, as text for people.
        without_cluster: The end of the help, for verbs that may use no cluster.
    """
    text = f"namespace of {of}; by default the namespace of the kubeconfig's context{without_cluster}"
    parser.add_argument("-n", "--namespace", type=_namespace_or_none, help=text)


def namespace(options: argparse.Namespace) -> str:
    """Return the namespace of -n. Without -n, return the namespace of the kubeconfig's context."""
    try:
        return options.namespace or current_namespace()
    except ApiError as error:
        raise of_cluster(error) from error


def is_namespace(name: str) -> bool:
    """Return whether a namespace can have this name."""
    return bool(_NAMESPACE.fullmatch(name))


def namespace_name(text: str) -> str:
    """Return the name of a namespace, for argparse.

    Raises:
        argparse.ArgumentTypeError: No namespace can have this name.
    """
    if not is_namespace(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be the name of a namespace: {RULE}")
    return text


def _namespace_or_none(text: str) -> str:
    """Return the name of a namespace, for argparse. As for kubectl, an empty text stands for no option at all.

    Raises:
        argparse.ArgumentTypeError: No namespace can have this name.
    """
    return text and namespace_name(text)
