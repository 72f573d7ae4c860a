"""A usual kopf operator. It creates the same children, with a creation handler and the typed client.

Run by `kopf run`, with its defaults. It makes the same objects as our operator, and reports the same status.
"""

import json
from typing import Any

import kopf

import kubernetes
from benchmarks.manifests import Template, build_first_status, build_main_children
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE

_DEPLOYMENT = Template.of(build_main_children()[DEPLOYMENT])
_SERVICE = Template.of(build_main_children()[SERVICE])
_STATUS = Template.of(build_first_status())


@kopf.on.startup()
def configure(**_: Any) -> None:
    kubernetes.config.load_kube_config()


@kopf.on.create("kimi-linear.io", "v1alpha1", "kimilinearservers")
def create(name: str, meta: kopf.Meta, patch: kopf.Patch, **_: Any) -> None:
    namespace = str(meta.namespace)
    deployment, service = json.loads(_DEPLOYMENT.named(name)), json.loads(_SERVICE.named(name))
    for child in (deployment, service):
        del child["metadata"]["ownerReferences"]
        kopf.adopt(child)
    kubernetes.client.AppsV1Api().create_namespaced_deployment(namespace, deployment)
    kubernetes.client.CoreV1Api().create_namespaced_service(namespace, service)
    patch.status.update(json.loads(_STATUS.named(name)))
