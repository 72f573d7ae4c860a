{{/* Resources of one kind, from a map of names. */}}
{{- define "resources" -}}
{{- range $name, $resource := .resources }}
---
apiVersion: kimi-linear.io/v1alpha1
kind: {{ $.kind }}
metadata:
  name: {{ $name | quote }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- $own := dict "helm.sh/chart" (printf "%s-%s" $.root.Chart.Name $.root.Chart.Version | replace "+" "_") }}
    {{- toYaml (merge $own ($resource.labels | default dict) $.root.Values.commonLabels) | nindent 4 }}
  {{- with $resource.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- toYaml ($resource.spec | default dict) | nindent 2 }}
{{- end }}
{{- end }}
