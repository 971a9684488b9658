{{/* The pod of the explorer, which speaks HTTP, or HTTPS with tls: an authentication proxy is in front of it. */}}

{{- define "datamodels.explorer.plain" -}}
{{- $scheme := ternary "HTTPS" "HTTP" .root.Values.tls.enabled }}
metadata:
  labels: {{- include "datamodels.labels" . | nindent 4 }}
    {{- with .root.Values.serviceAccount.podLabels }}{{- toYaml . | nindent 4 }}{{- end }}
  annotations: {{- include "datamodels.scrape" . | trim | nindent 4 }}
spec:
  {{- include "datamodels.pod" . | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ add .root.Values.serve.grace 20 }}
  containers:
    - name: explorer
      command: [python, -m, datamodels.services.explorer]
      {{- include "datamodels.container" . | nindent 6 }}
      env: {{- include "datamodels.env" . | trim | nindent 8 }}
      ports:
        - {name: http, containerPort: 8080}
        - {name: metrics, containerPort: 9090}
      startupProbe: {httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}, periodSeconds: 2, failureThreshold: 90, timeoutSeconds: 5}
      readinessProbe: {httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}, periodSeconds: 5, timeoutSeconds: 5}
      livenessProbe: {httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}, periodSeconds: 20, failureThreshold: 6, timeoutSeconds: 10}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "datamodels.tls.mount" . | trim | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- include "datamodels.tls.server.volume" . | trim | nindent 4 }}
{{- end }}

{{- define "datamodels.env.explorer" -}}
- {name: DATAMODELS_SERVE_HOST, value: {{ .root.Values.serve.host | quote }}}
- {name: DATAMODELS_SERVE_PORT, value: "8080"}
- {name: DATAMODELS_SERVE_METRICS_PORT, value: "9090"}
- {name: DATAMODELS_SERVE_GRACE, value: {{ .root.Values.serve.grace | quote }}}
{{ include "datamodels.env.log" . }}
{{ include "datamodels.env.store" . }}
- {name: DATAMODELS_EXPLORER_USER_HEADER, value: {{ .values.userHeader | quote }}}
- {name: DATAMODELS_EXPLORER_HOSTS, value: {{ join "," .values.hosts | quote }}}
- {name: DATAMODELS_EXPLORER_VERDICTS, value: {{ .values.verdicts | quote }}}
- {name: DATAMODELS_EXPLORER_GROUPS_HEADER, value: {{ .values.groupsHeader | quote }}}
{{- $readers := list }}
{{- range $who, $runs := .values.readers }}
{{- $readers = append $readers (printf "%s=%s" $who (join "," $runs)) }}
{{- end }}
- {name: DATAMODELS_EXPLORER_READERS, value: {{ join ";" $readers | quote }}}
{{- if .root.Values.tls.enabled }}
- {name: DATAMODELS_SERVE_CERT_FILE, value: /etc/datamodels/tls/tls.crt}
- {name: DATAMODELS_SERVE_KEY_FILE, value: /etc/datamodels/tls/tls.key}
{{- end }}
{{- with .values.tokenSecret }}
- name: DATAMODELS_EXPLORER_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
{{- end }}
{{- end }}
