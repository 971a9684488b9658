{{/* Parts of NetworkPolicies. */}}

{{/* Has no empty lists: what is not listed is denied, and the API server drops them, which GitOps tools take for a drift. */}}
{{- define "datamodels.net.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{- include "datamodels.metadata" . | nindent 2 }}
spec:
  podSelector: {{- include "datamodels.match" . | nindent 4 }}
  policyTypes: [Ingress, Egress]
{{- end }}

{{/* Peers: pods of this release that belong to `components`. */}}
{{- define "datamodels.net.peers" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: datamodels
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .components }}]}
{{- end }}

{{- define "datamodels.net.namespaces" -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: [{{ join ", " . }}]}
{{- end }}

{{/* One egress rule to `place`, which has cidrs, namespaces and ports. */}}
{{- define "datamodels.net.place" -}}
{{- if or .place.cidrs .place.namespaces }}
- to:
    {{- range .place.cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
    {{- with .place.namespaces }}
    {{- include "datamodels.net.namespaces" . | trim | nindent 4 }}
    {{- end }}
  {{- with .place.ports }}
  ports: {{- range . }}
    - {protocol: TCP, port: {{ . }}}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.net.dns" -}}
- to:
    {{- with .root.Values.networkPolicy.dns.namespaces }}
    {{- include "datamodels.net.namespaces" . | trim | nindent 4 }}
    {{- else }}
    - namespaceSelector: {}
    {{- end }}
    {{- range .root.Values.networkPolicy.dns.cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports: {{- range .root.Values.networkPolicy.dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end }}

{{- define "datamodels.net.store" -}}
{{- if .root.Values.devStore.enabled }}
- to: {{- include "datamodels.net.peers" (dict "root" .root "components" (list "devstore")) | trim | nindent 4 }}
  ports: [{protocol: TCP, port: 4566}]
{{- else }}
{{- include "datamodels.net.place" (dict "place" .root.Values.networkPolicy.store) }}
{{- end }}
{{- end }}

{{- define "datamodels.net.services" -}}
- to: {{- include "datamodels.net.peers" . | trim | nindent 4 }}
  ports: [{protocol: TCP, port: 50051}]
{{- end }}

{{- define "datamodels.net.metrics" -}}
{{- with .root.Values.networkPolicy.metrics.namespaces }}
- from: {{- include "datamodels.net.namespaces" . | trim | nindent 4 }}
  ports: [{protocol: TCP, port: 9090}]
{{- end }}
{{- end }}

{{/* The policy of a service that `components` call. */}}
{{- define "datamodels.net.service" -}}
{{ include "datamodels.net.policy" . }}
  ingress:
    - from:
        {{- include "datamodels.net.peers" . | trim | nindent 8 }}
        {{- with .namespaces }}
        {{- include "datamodels.net.namespaces" . | trim | nindent 8 }}
        {{- end }}
        {{- if eq .component "query" }}
        - podSelector: {}
        {{- end }}
      ports: [{protocol: TCP, port: 50051}]
    {{- include "datamodels.net.metrics" . | trim | nindent 4 }}
  {{- if .store }}
  egress:
    {{- include "datamodels.net.dns" . | trim | nindent 4 }}
    {{- include "datamodels.net.store" . | trim | nindent 4 }}
    {{- if eq (include "datamodels.tokens.asks" .) "true" }}
    {{- include "datamodels.net.place" (dict "place" .root.Values.networkPolicy.api) | trim | nindent 4 }}
    {{- end }}
    {{- if and (eq (include "datamodels.tokens.checked" .) "true") .root.Values.auth.readers.discovery }}
    {{- include "datamodels.net.place" (dict "place" .root.Values.auth.readers.egress) | trim | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}
