{{/* The pod template of a service. `store`: whether it uses the object store. `scratch`: size of its disk, if any. */}}
{{- define "datamodels.service.plain" -}}
metadata:
  labels: {{- include "datamodels.labels" . | nindent 4 }}
    {{- if .store }}{{- with .root.Values.serviceAccount.podLabels }}{{- toYaml . | nindent 4 }}{{- end }}{{- end }}
  annotations: {{- include "datamodels.scrape" . | trim | nindent 4 }}
spec:
  {{- include "datamodels.pod" (merge (dict "account" (ternary "store" "" .store) "token" (eq (include "datamodels.tokens.asks" .) "true")) .) | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ add .root.Values.serve.grace 20 }}
  containers:
    - name: {{ .component }}
      command: [python, -m, datamodels.services.{{ .component }}]
      {{- include "datamodels.container" . | nindent 6 }}
      env:
        {{- include "datamodels.env" (merge (dict "kind" "service") .) | trim | nindent 8 }}
      ports: {{- include "datamodels.ports" . | nindent 8 }}
        {{- include "datamodels.tls.port" . | nindent 8 }}
      startupProbe: {grpc: {port: {{ include "datamodels.tls.probePort" . }}}, periodSeconds: 2, failureThreshold: 90, timeoutSeconds: 5}
      {{- /* The health of the service is that of its store; the health without a name, which the others ask for, is that of the process. */}}
      readinessProbe: {grpc: {port: {{ include "datamodels.tls.probePort" . }}, service: datamodels.v1.{{ title .component }}Service}, periodSeconds: 5, timeoutSeconds: 5}
      livenessProbe: {grpc: {port: {{ include "datamodels.tls.probePort" . }}}, periodSeconds: 20, failureThreshold: 6, timeoutSeconds: 10}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .scratch }}
        - {name: scratch, mountPath: /scratch}
        {{- end }}
        {{- include "datamodels.tls.mount" . | nindent 8 }}
        {{- include "datamodels.tokens.server.mount" . | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- if .scratch }}
    - {name: scratch, emptyDir: {sizeLimit: {{ .scratch }}}}
    {{- end }}
    {{- include "datamodels.tls.server.volume" . | nindent 4 }}
    {{- include "datamodels.tokens.server.volume" . | nindent 4 }}
  {{- if .values.topologySpread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ .values.topologySpread.topologyKey }}
      whenUnsatisfiable: {{ .values.topologySpread.whenUnsatisfiable }}
      labelSelector: {{- include "datamodels.match" . | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "datamodels.service.pod" -}}
{{- include "datamodels.extended" (dict "pod" (include "datamodels.service.plain" . | fromYaml) "more" .values.pod) }}
{{- end }}

{{- define "datamodels.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata: {{- include "datamodels.metadata" . | nindent 2 }}
spec:
  {{- if not .autoscaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy: {type: {{ .strategy | default "RollingUpdate" }}}
  selector: {{- include "datamodels.match" . | nindent 4 }}
  template: {{- include "datamodels.service.pod" . | nindent 4 }}
{{- end }}

{{/* Headless, so that clients see every pod and balance calls over them. */}}
{{- define "datamodels.service" -}}
apiVersion: v1
kind: Service
metadata: {{- include "datamodels.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector: {{- include "datamodels.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: 50051, targetPort: grpc}
    - {name: metrics, port: 9090, targetPort: metrics}
{{- end }}
