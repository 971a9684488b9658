{{/* Helpers take a dict with `root` (the chart's context), `component`, and `values` (the component's values). */}}

{{- define "datamodels.fullname" -}}
{{- printf "%s-%s" (.root.Values.fullnameOverride | default .root.Release.Name | trunc 40 | trimSuffix "-") .component }}
{{- end }}

{{- define "datamodels.selector" -}}
app.kubernetes.io/name: datamodels
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "datamodels.match" -}}
matchLabels: {{- include "datamodels.selector" . | nindent 2 }}
{{- end }}

{{- define "datamodels.labels" -}}
{{ include "datamodels.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "datamodels.metadata" -}}
name: {{ include "datamodels.fullname" . }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "datamodels.labels" . | nindent 2 }}
{{- end }}

{{- define "datamodels.image" -}}
{{- $own := .values.image | default dict }}
{{- $chart := ternary (omit .root.Values.image "digest") .root.Values.image (hasKey $own "tag") }}
{{- $image := ternary $own (merge (dict) $own $chart) (hasKey $own "repository") }}
{{- with $image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "datamodels.account" -}}
{{- include "datamodels.fullname" (dict "root" .root "component" .account) }}
{{- end }}

{{- define "datamodels.address" -}}
dns:///{{ include "datamodels.fullname" . }}.{{ .root.Release.Namespace }}:50051
{{- end }}

{{- define "datamodels.storeUrl" -}}
{{- if .root.Values.devStore.enabled }}s3://datamodels/store{{ else }}{{ required "store.url: set it to s3://BUCKET/PREFIX" .root.Values.store.url }}{{ end }}
{{- end }}

{{- define "datamodels.storeEndpoint" -}}
{{- if .root.Values.devStore.enabled }}http://{{ include "datamodels.fullname" (dict "root" .root "component" "devstore") }}:4566{{ else }}{{ .root.Values.store.endpoint }}{{ end }}
{{- end }}

{{/* Fields of every pod. `account` is the service account, "" if the pod needs none. */}}
{{- define "datamodels.pod" -}}
{{- if .account }}
serviceAccountName: {{ include "datamodels.account" . }}
{{- end }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ ternary . (get (ternary dict . (kindIs "string" .)) "name") (kindIs "string" .) }}
{{- end }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "priorityClassName" "runtimeClassName" }}
{{- with index $.values $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A pod template with what the values add to it. `pod`: the template. `more`: fields as in the schema's $defs/pod. What
the chart sets itself wins, except for environment variables of the same name. */}}
{{- define "datamodels.extended" -}}
{{- $more := .more | default dict }}
{{- $metadata := .pod.metadata }}
{{- $spec := .pod.spec }}
{{- range $field := list "labels" "annotations" }}
{{- with merge (dict) (get $metadata $field | default dict) (get $more $field | default dict) }}
{{- $_ := set $metadata $field . }}
{{- else }}
{{- $_ := unset $metadata $field }}
{{- end }}
{{- end }}
{{- range $field := list "affinity" "initContainers" "serviceAccountName" "topologySpreadConstraints" }}
{{- with get $more $field }}
{{- $_ := set $spec $field . }}
{{- end }}
{{- end }}
{{- with $more.volumes }}
{{- $_ := set $spec "volumes" (concat $spec.volumes .) }}
{{- end }}
{{- $container := first $spec.containers }}
{{- range $field := list "volumeMounts" "envFrom" }}
{{- with get $more $field }}
{{- $_ := set $container $field (concat (get $container $field | default list) .) }}
{{- end }}
{{- end }}
{{- with $more.env }}
{{- $names := list }}
{{- range . }}{{- $names = append $names .name }}{{- end }}
{{- $env := list }}
{{- range $container.env }}
{{- if not (has .name $names) }}{{- $env = append $env . }}{{- end }}
{{- end }}
{{- $_ := set $container "env" (concat $env .) }}
{{- end }}
{{- $_ := set $spec "containers" (list $container) }}
{{- toYaml .pod }}
{{- end }}

{{/* Fields of every container, except its command and mounts. */}}
{{- define "datamodels.container" -}}
image: {{ include "datamodels.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- with .values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- define "datamodels.ports" -}}
- {name: grpc, containerPort: 50051}
- {name: metrics, containerPort: 9090}
{{- end }}

{{- define "datamodels.scrape" -}}
{{- if .root.Values.monitoring.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: "9090"
{{- end }}
{{- end }}

{{- define "datamodels.kueue" -}}
{{- with .root.Values.jobs.kueue.queue }}
kueue.x-k8s.io/queue-name: {{ . }}
{{- end }}
{{- with .root.Values.jobs.kueue.priorityClass }}
kueue.x-k8s.io/priority-class: {{ . }}
{{- end }}
{{- end }}

{{- define "datamodels.monitoring" -}}
{{ include "datamodels.metadata" . }}
{{- with .root.Values.monitoring.labels }}{{- toYaml . | nindent 2 }}{{- end }}
{{- end }}
