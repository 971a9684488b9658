{{/* Environment variables of a kind of container: the chart's own, unless the component's values override them. The API
server refuses duplicate names. */}}
{{- define "datamodels.env" -}}
{{- $set := .values.env | default dict }}
{{- range include (printf "datamodels.env.%s" .kind) . | fromYamlArray }}
{{- if not (hasKey $set .name) }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- range $name, $value := $set }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "datamodels.env.serve" -}}
- {name: DATAMODELS_SERVE_HOST, value: {{ .root.Values.serve.host | quote }}}
- {name: DATAMODELS_SERVE_PORT, value: "50051"}
- {name: DATAMODELS_SERVE_METRICS_PORT, value: "9090"}
- {name: DATAMODELS_SERVE_GRACE, value: {{ .root.Values.serve.grace | quote }}}
- {name: DATAMODELS_SERVE_REFLECTION, value: {{ .root.Values.serve.reflection | quote }}}
{{ include "datamodels.env.log" . }}
{{- end }}

{{- define "datamodels.env.log" -}}
- {name: DATAMODELS_LOG_LEVEL, value: {{ .root.Values.log.level }}}
- {name: DATAMODELS_LOG_FORMAT, value: {{ .root.Values.log.format }}}
{{- if .root.Values.log.access }}
- {name: DATAMODELS_LOG_ACCESS, value: "true"}
{{- end }}
{{- with .root.Values.log.traces }}
- {name: DATAMODELS_LOG_TRACES, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "datamodels.env.store" -}}
- {name: DATAMODELS_STORE_URL, value: {{ include "datamodels.storeUrl" . | quote }}}
- {name: DATAMODELS_STORE_S3_ENDPOINT, value: {{ include "datamodels.storeEndpoint" . | quote }}}
- {name: DATAMODELS_STORE_S3_REGION, value: {{ .root.Values.store.region }}}
- {name: DATAMODELS_STORE_S3_CHECKSUMS, value: {{ .root.Values.store.checksums }}}
{{- if .root.Values.devStore.enabled }}
- {name: AWS_ACCESS_KEY_ID, value: anyone}
- {name: AWS_SECRET_ACCESS_KEY, value: anything}
{{- else if .root.Values.store.existingSecret }}
{{- range $name := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.root.Values.store.existingSecret }}, key: {{ $name }}, optional: {{ eq $name "AWS_SESSION_TOKEN" }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "datamodels.env.services" -}}
{{- range $name := list "sampler" "aggregator" "fitter" "query" }}
- {name: DATAMODELS_CLIENT_{{ upper $name }}, value: {{ include "datamodels.address" (dict "root" $.root "component" $name) | quote }}}
{{- end }}
{{- include "datamodels.tls.client.env" . }}
{{- include "datamodels.tokens.client.env" . }}
{{- end }}

{{- define "datamodels.env.service" -}}
{{ include "datamodels.env.serve" . }}
{{- if .store }}
{{ include "datamodels.env.store" . }}
{{- end }}
{{- if .scratch }}
- {name: DATAMODELS_FITTER_SCRATCH, value: /scratch}
{{- end }}
{{- if eq .component "query" }}
- {name: DATAMODELS_QUERY_WARM, value: "true"}
{{- end }}
{{- include "datamodels.tls.server.env" . }}
{{- include "datamodels.tokens.server.env" . }}
{{- end }}

{{- define "datamodels.env.trust" -}}
{{- with .root.Values.trust.modules }}
- {name: DATAMODELS_TRUST_MODULES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}

{{- define "datamodels.env.trainer" -}}
{{ include "datamodels.env.serve" . }}
{{ include "datamodels.env.trust" . }}
{{ include "datamodels.env.services" . }}
- {name: DATAMODELS_TRAINER_HEARTBEAT_FILE, value: /tmp/heartbeat}
{{- end }}

{{- define "datamodels.env.driver" -}}
{{ include "datamodels.env.serve" . }}
{{ include "datamodels.env.trust" . }}
{{ include "datamodels.env.store" . }}
{{ include "datamodels.env.services" . }}
- {name: DATAMODELS_CLUSTER_TEMPLATES, value: /etc/datamodels/jobs}
- {name: DATAMODELS_CLUSTER_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- name: DATAMODELS_CLUSTER_OWNER
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}
- name: DATAMODELS_CLUSTER_OWNER_UID
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}
- {name: DATAMODELS_CLUSTER_FITTER_START, value: {{ .root.Values.jobs.fitter.startSeconds | quote }}}
{{- if .root.Values.jobs.driver.gradients }}
- {name: DATAMODELS_CLUSTER_GRADIENTS, value: "true"}
{{- end }}
- {name: DATAMODELS_CLUSTER_SETTLE, value: {{ add .root.Values.monitoring.interval 5 | quote }}}
{{- end }}

{{- define "datamodels.env.upkeep" -}}
{{ include "datamodels.env.log" . }}
{{ include "datamodels.env.store" . }}
{{- end }}
