"""Labels, annotations and name suffixes of a server and its children."""

from kimi_linear_operator.kubernetes.kinds import GROUP
from kimi_linear_operator.server.spec import KimiLinearServer

SERVER_LABEL = KimiLinearServer.label()

REVISION_ANNOTATION = f"{GROUP}/revision"
"""On a Deployment: the number of the revision with its pod template."""

ROLLOUT_ANNOTATION = f"{GROUP}/rollout"
"""On a server: after a change of the value, the server takes the newest pod template."""

AUTOMATIC_ANNOTATION = f"{GROUP}/automatic-rollout"
"""On a revision of an automatic rollout, until the server is Ready with this revision.

The value is "asleep" if KEDA had removed all replicas when the server took the template, and "true" otherwise.
"""

ROUTER_HASH_ANNOTATION = f"{GROUP}/router-template"
"""On a revision of an automatic rollout of only the router: the hash of the router's new pod template."""

ROUTER_NUMBER_ANNOTATION = f"{GROUP}/router-revision"
"""On a revision that was made again under another number: the number of the router's template, which stays."""

LEFT_OUT_ANNOTATION = f"{GROUP}/left-out"
"""On a revision: fields of the server's spec that are perhaps only defaults. The pod template ignores these fields."""

SEEN_ANNOTATION = f"{GROUP}/seen"
"""On a revision: what the operator saw of a later spec that it did not apply."""

UNOWNED_ANNOTATION = f"{GROUP}/unowned"
"""On a revision: fields of the server's spec that nobody had set. They had the defaults of the CRD of that time."""

VERIFICATION_ANNOTATION = f"{GROUP}/verification"
"""On a revision: the result of the verification of its pod template."""

TEMPLATE_ANNOTATION = f"{GROUP}/pod-template"
"""On a router's Deployment: the record of its pod template."""

TEMPLATE_LABEL = f"{GROUP}/template"
"""On pods with a readiness gate: the hash of their pod template."""

HEADLESS_SUFFIX = "-headless"
"""Suffix of the name of the headless Service."""

ROUTER_SUFFIX = "-router"
"""Suffix of the names of the router's objects."""

ROUTER_LABEL = f"{GROUP}/router"
"""On the router's pods: the name of the server. These pods do not have the label of replicas."""
