{{/* What the operator may do where it looks after servers. Tests run it with exactly this, and want all of it used. */}}
{{- define "operator.rules" -}}
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks, kimilinearservers, kimilinearweights]
  verbs: [get, list, watch]
# delete: spec.ttlSecondsAfterFinished of a benchmark. create: spec.verification of a server, whose benchmark it also deletes.
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks]
  verbs: [create, delete]
- apiGroups: [kimi-linear.io]
  resources: [kimilinearbenchmarks/status, kimilinearservers/status, kimilinearweights/status]
  verbs: [patch]
# Children name their server, benchmark or weights as an owner whose deletion waits for them. An API server with the
# admission plugin OwnerReferencesPermissionEnforcement (on in OpenShift) requires this permission for it.
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
# spec.monitoring of a server: definitions of the Prometheus operator, which need not be there.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .Values.rbac.networkPolicies }}
# spec.networkPolicy of a server.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.rbac.expose }}
# spec.ingress and spec.httpRoute of a server.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
# Without delete: only the garbage collector deletes a claim, and only if volume.deletionPolicy is Delete.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The readiness gate of a pod, with spec.verification.mode: Block. Nothing else of a pod's status is written.
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
{{- if .Values.rbac.readLogs }}
# Only the log of an engine that starts shows whether the engine loads or compiles. The last lines of the log of a pod
# that fetches weights show its progress.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
# Only Events say why the pods of a benchmark's Job are refused or their volumes are not mounted.
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
