{{/* The operator's permissions in the namespaces that it manages. Tests run the operator with exactly these, and fail if it does not use all of them. */}}
{{- define "operator.rules" -}}
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks, kimilinearservers, kimilinearweights]
  verbs: [get, list, watch]
# delete: for spec.ttlSecondsAfterFinished of a benchmark. create and delete: for the benchmark of spec.verification of a server.
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks]
  verbs: [create, delete]
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks/status, kimilinearservers/status, kimilinearweights/status]
  verbs: [patch]
# The owner reference of a child makes the deletion of its owner wait for the child. An API server with the admission
# plugin OwnerReferencesPermissionEnforcement (on in OpenShift) requires this permission for such a reference.
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks/finalizers, kimilinearservers/finalizers, kimilinearweights/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.rbac.monitoring }}
# For spec.monitoring of a server. The definitions belong to the Prometheus Operator, which is perhaps not installed.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .Values.rbac.keda }}
# For spec.autoscaling.keda of a server. The definition belongs to KEDA, which is perhaps not installed.
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .Values.rbac.networkPolicies }}
# For spec.networkPolicy of a server.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.rbac.expose }}
# For spec.ingress and spec.httpRoute of a server.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
# No delete: only the garbage collector deletes a claim, and only if volume.deletionPolicy is Delete.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# For the readiness gate of a pod, with spec.verification.mode: Block. The operator writes nothing else in a pod's status.
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
{{- if .Values.rbac.readLogs }}
# Only the log of an engine that starts shows whether the engine loads or compiles. The last lines of the log of a pod
# that downloads weights show its progress.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
# Only Events say why the pods of a benchmark's Job are refused, or why their volumes are not mounted.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end }}

{{/* A binding of a role to the operator's service account; `kind` is Role or ClusterRole. */}}
{{- define "operator.bound" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | default (include "operator.fullname" .root) }}
subjects:
  - kind: ServiceAccount
    name: {{ include "operator.serviceAccount" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
