{{/* TLS between services and clients, and tokens of runs: settings and volumes of both sides. */}}

{{- define "datamodels.tls.secret" -}}
{{- .root.Values.tls.existingSecret | default (include "datamodels.fullname" (dict "root" .root "component" "tls")) }}
{{- end }}

{{- define "datamodels.tls.clientSecret" -}}
{{- .root.Values.tls.mtls.existingSecret | default (include "datamodels.fullname" (dict "root" .root "component" "client-tls")) }}
{{- end }}

{{/* The kubelet's gRPC probes do not support TLS. */}}
{{- define "datamodels.tls.probePort" -}}
{{- ternary 50052 50051 .root.Values.tls.enabled }}
{{- end }}

{{- define "datamodels.tls.port" -}}
{{- if .root.Values.tls.enabled }}
- {name: health, containerPort: 50052}
{{- end }}
{{- end }}

{{- define "datamodels.tls.mount" -}}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/datamodels/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "datamodels.tls.server.env" -}}
{{- if .root.Values.tls.enabled }}
- {name: DATAMODELS_SERVE_CERT_FILE, value: /etc/datamodels/tls/tls.crt}
- {name: DATAMODELS_SERVE_KEY_FILE, value: /etc/datamodels/tls/tls.key}
- {name: DATAMODELS_SERVE_HEALTH_PORT, value: "50052"}
{{- if .root.Values.tls.mtls.enabled }}
- {name: DATAMODELS_SERVE_CLIENT_CA_FILE, value: /etc/datamodels/tls/client-ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.tls.server.volume" -}}
{{- if .root.Values.tls.enabled }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      - secret: {name: {{ include "datamodels.tls.secret" . }}, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
      {{- if .root.Values.tls.mtls.enabled }}
      - secret: {name: {{ include "datamodels.tls.clientSecret" . }}, items: [{key: ca.crt, path: client-ca.crt}]}
      {{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.tls.client.env" -}}
{{- if .root.Values.tls.enabled }}
- {name: DATAMODELS_CLIENT_CA_FILE, value: /etc/datamodels/tls/ca.crt}
{{- if .root.Values.tls.mtls.enabled }}
- {name: DATAMODELS_CLIENT_CERT_FILE, value: /etc/datamodels/tls/tls.crt}
- {name: DATAMODELS_CLIENT_KEY_FILE, value: /etc/datamodels/tls/tls.key}
{{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.tls.client.volume" -}}
{{- if .root.Values.tls.enabled }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      - secret: {name: {{ include "datamodels.tls.secret" . }}, items: [{key: ca.crt, path: ca.crt}]}
      {{- if .root.Values.tls.mtls.enabled }}
      - secret: {name: {{ include "datamodels.tls.clientSecret" . }}, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
      {{- end }}
{{- end }}
{{- end }}

{{/* `checked` is "true" if a service requires tokens, `asks` if it also asks the API server for the signing keys. */}}
{{- define "datamodels.tokens.checked" -}}
{{- $readers := and (eq .component "query") (gt (len .root.Values.auth.readers.runs) 0) }}
{{- and .root.Values.auth.tokens.enabled (or $readers (has .component (list "aggregator" "fitter"))) }}
{{- end }}

{{- define "datamodels.tokens.asks" -}}
{{- and (eq (include "datamodels.tokens.checked" .) "true") (not .root.Values.auth.tokens.jwksConfigMap) }}
{{- end }}

{{- define "datamodels.tokens.server.env" -}}
{{- if eq (include "datamodels.tokens.checked" .) "true" }}
{{- $subjects := list }}
{{- range $account := list "driver" "trainer" }}
{{- $subjects = append $subjects (printf "system:serviceaccount:%s:%s" $.root.Release.Namespace (include "datamodels.account" (dict "root" $.root "account" $account))) }}
{{- end }}
- {name: DATAMODELS_AUTH_KEYS, value: {{ ternary "/etc/datamodels/keys/jwks.json" "https://kubernetes.default.svc" (ne .root.Values.auth.tokens.jwksConfigMap "") }}}
- {name: DATAMODELS_AUTH_ISSUER, value: {{ .root.Values.auth.tokens.issuer | quote }}}
- {name: DATAMODELS_AUTH_SUBJECTS, value: {{ join "," $subjects | quote }}}
{{- with .root.Values.auth.readers }}
{{- $readers := list }}
{{- range $who, $runs := .runs }}
{{- $readers = append $readers (printf "%s=%s" $who (join "," $runs)) }}
{{- end }}
{{- if $readers }}
- {name: DATAMODELS_AUTH_READERS, value: {{ join ";" $readers | quote }}}
- {name: DATAMODELS_AUTH_AUDIENCE, value: {{ .audience | quote }}}
{{- if .discovery }}
- {name: DATAMODELS_AUTH_READER_KEYS, value: {{ .discovery | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.tokens.server.mount" -}}
{{- if and (eq (include "datamodels.tokens.checked" .) "true") .root.Values.auth.tokens.jwksConfigMap }}
- {name: keys, mountPath: /etc/datamodels/keys, readOnly: true}
{{- end }}
{{- end }}

{{- define "datamodels.tokens.server.volume" -}}
{{- if and (eq (include "datamodels.tokens.checked" .) "true") .root.Values.auth.tokens.jwksConfigMap }}
- {name: keys, configMap: {name: {{ .root.Values.auth.tokens.jwksConfigMap }}}}
{{- end }}
{{- end }}

{{- define "datamodels.tokens.client.env" -}}
{{- if .root.Values.auth.tokens.enabled }}
- {name: DATAMODELS_CLIENT_TOKEN_FILE, value: /var/run/secrets/datamodels/token}
{{- end }}
{{- end }}

{{- define "datamodels.tokens.client.mount" -}}
{{- if .root.Values.auth.tokens.enabled }}
- {name: run-token, mountPath: /var/run/secrets/datamodels, readOnly: true}
{{- end }}
{{- end }}

{{/* `submit` and the driver replace the audience by that of the run. */}}
{{- define "datamodels.tokens.client.volume" -}}
{{- with .root.Values.auth.tokens }}
{{- if .enabled }}
- name: run-token
  projected:
    defaultMode: 0440
    sources: [{serviceAccountToken: {path: token, audience: datamodels, expirationSeconds: {{ .expirationSeconds }}}}]
{{- end }}
{{- end }}
{{- end }}
