"""The namespace for verbs that read from a cluster."""

import argparse

from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster.credentials import current_namespace
from kimi_linear_operator.cluster.errors import ApiError


def namespace(options: argparse.Namespace) -> str:
    """Return the namespace of -n. Without -n, return the namespace of the kubeconfig's context."""
    try:
        return options.namespace or current_namespace()
    except ApiError as error:
        raise CommandError(str(error)) from error
