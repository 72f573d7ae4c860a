"""`kimi-linear run`: the operator."""

import argparse
import asyncio
import gc

import uvloop

from kimi_linear_operator.cli import context
from kimi_linear_operator.cli.failure import CommandError, of_cluster
from kimi_linear_operator.cluster.credentials import own_namespace
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.paths import may_exist
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime import logs
from kimi_linear_operator.runtime.endpoints import AddressError
from kimi_linear_operator.runtime.process import Settings, serve
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "-n",
        "--namespace",
        action="append",
        default=[],
        type=context.namespace_name,
        help="watch only this namespace; can be repeated",
    )
    parser.add_argument(
        "--lease",
        metavar="NAMESPACE/NAME",
        default=f"{own_namespace()}/{MANAGER}",
        help="the Lease that lets only one of several replicas work at a time (default: %(default)s); operators that "
        "watch different namespaces need different Leases",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=":8080",
        help="address and port for /healthz, /readyz and /metrics (default: %(default)s, which means all addresses)",
    )
    parser.add_argument(
        "--rollout-pause",
        metavar="SECONDS",
        type=pause_seconds,
        help="roll out this version's new pod templates to all servers, one server after the other, and pause this "
        "many seconds after each server is Ready (without this option, a server takes a new template only with the "
        f"next change of its spec or of the annotation {ROLLOUT_ANNOTATION})",
    )
    parser.add_argument(
        access.OPTION,
        action="store_true",
        help="accept resources whose podTemplate or security gives pods access beyond the pod: to the node's "
        "namespaces, files, ports and devices, to other service accounts, or to more capabilities",
    )
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="default: %(default)s")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="text", help="default: %(default)s")


def pause_seconds(text: str) -> float:
    """Return the length of a pause, for argparse.

    Raises:
        argparse.ArgumentTypeError: The value is not a number of seconds, or is below 1.
    """
    try:
        pause = float(text)
    except ValueError:
        pause = 0.0
    if not 1 <= pause < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, 1 or more")
    return pause


def run(options: argparse.Namespace) -> int:
    """Run the operator until a signal stops it."""
    settings = _settings(options)
    logs.configure(options.log_level, options.log_format)
    # Imported modules are never garbage. A full collection that scans them would stop the operator for 80 ms.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings, TYPES))
        except ApiError as error:
            raise of_cluster(error) from error
        except AddressError as error:
            raise CommandError(f"cannot listen on {options.listen}: {error}; choose another with --listen") from error
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    lease_namespace, _, lease_name = options.lease.partition("/")
    host, _, port = options.listen.rpartition(":")
    if not (context.is_namespace(lease_namespace) and lease_name and may_exist(lease_name)):
        raise CommandError(f"--lease {options.lease}: must be NAMESPACE/NAME")
    if not port.isdecimal() or int(port) > 65535:
        raise CommandError(f"--listen {options.listen}: must be HOST:PORT or :PORT")
    return Settings(
        namespaces=options.namespace,
        lease_namespace=lease_namespace,
        lease_name=lease_name,
        host=host.strip("[]"),
        port=int(port),
        options=Options(allows_node_access=options.allow_node_access, rollout_pause=options.rollout_pause),
    )
