"""Labels, annotations and name suffixes of a server and its children."""

from kimi_linear_operator.kubernetes.kinds import GROUP
from kimi_linear_operator.server.spec import KimiLinearServer

SERVER_LABEL = KimiLinearServer.label()

REVISION_ANNOTATION = f"{GROUP}/revision"
"""On a Deployment: the number of the revision whose pod template it has."""

ROLLOUT_ANNOTATION = f"{GROUP}/rollout"
"""On a server: any new value makes the server take the newest pod template."""

AUTOMATIC_ANNOTATION = f"{GROUP}/automatic-rollout"
"""On a revision: the operator took it by itself, and the server has not been Ready with it yet."""

LEFT_OUT_ANNOTATION = f"{GROUP}/left-out"
"""On a revision: fields of the server's spec that may be only defaults, and that its pod template lacks."""

VERIFICATION_ANNOTATION = f"{GROUP}/verification"
"""On a revision: the result of the verification of its pod template."""

TEMPLATE_LABEL = f"{GROUP}/template"
"""On pods with a readiness gate: the hash of their pod template."""

HEADLESS_SUFFIX = "-headless"
"""Suffix of the name of the headless Service."""

ROUTER_SUFFIX = "-router"
"""Suffix of the names of the router's objects."""

ROUTER_LABEL = f"{GROUP}/router"
"""On the router's pods: the name of the server. They do not have the label of its replicas."""
