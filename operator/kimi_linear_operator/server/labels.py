"""Labels, annotations and names that only the objects of servers have."""

from kimi_linear_operator.kubernetes.kinds import GROUP
from kimi_linear_operator.server.spec import KimiLinearServer

SERVER_LABEL = KimiLinearServer.label()

REVISION_ANNOTATION = f"{GROUP}/revision"
"""On a Deployment: the number of the kept revision whose pod template it has."""

ROLLOUT_ANNOTATION = f"{GROUP}/rollout"
"""On a server: any new value takes the newest pod template."""

AUTOMATIC_ANNOTATION = f"{GROUP}/automatic-rollout"
"""On a kept revision: the operator took it by itself, and the server has not been Ready with it yet."""

HEADLESS_SUFFIX = "-headless"
"""Ends the name of the Service that leads to each pod alone."""
