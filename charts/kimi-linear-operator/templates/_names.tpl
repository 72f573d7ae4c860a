{{/* Names and labels that several templates share. */}}

{{- define "operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "operator.fullname" -}}
{{- $name := include "operator.name" . -}}
{{- $joined := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $joined | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "operator.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
-}}
{{- toYaml (merge (fromYaml (include "operator.selector" .)) $own .Values.commonLabels) -}}
{{- end }}

{{/* Metadata of an object: name, labels and annotations. A template can add its own labels and annotations. */}}
{{- define "operator.metadata" -}}
{{- $root := .root -}}
name: {{ .name | default (include "operator.fullname" $root) }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- toYaml (merge (fromYaml (include "operator.labels" $root)) (.labels | default dict)) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The text of a file, with labels and annotations added to its objects. Everything else stays the same, byte for byte. */}}
{{- define "operator.labelled" -}}
{{- $added := dict "labels" (fromYaml (include "operator.labels" .root)) -}}
{{- with .annotations -}}
{{- $_ := set $added "annotations" . -}}
{{- end -}}
{{- $text := toYaml $added | indent 2 -}}
{{- .root.Files.Get .path | replace "\nmetadata:\n" (printf "\nmetadata:\n%s\n" $text) -}}
{{- end }}

{{- define "operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}
