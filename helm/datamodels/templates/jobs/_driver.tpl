{{- define "datamodels.driver.pod" -}}
metadata:
  labels: {{- include "datamodels.labels" . | nindent 4 }}
    {{- with .root.Values.serviceAccount.podLabels }}{{- toYaml . | nindent 4 }}{{- end }}
  annotations: {{- include "datamodels.scrape" . | trim | nindent 4 }}
spec:
  restartPolicy: Never
  {{- include "datamodels.pod" (merge (dict) . .root.Values.jobs.driver) | trim | nindent 2 }}
  containers:
    - name: driver
      command: [datamodels, drive]
      {{- include "datamodels.container" . | nindent 6 }}
      env:
        {{- include "datamodels.env" (merge (dict "kind" "driver") .) | trim | nindent 8 }}
      ports: {{- include "datamodels.ports" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "datamodels.tls.mount" . | nindent 8 }}
        {{- include "datamodels.tokens.client.mount" . | nindent 8 }}
        - {name: jobs, mountPath: /etc/datamodels/jobs, readOnly: true}
        {{- if .root.Values.jobs.trainer.dataClaim }}
        - {name: data, mountPath: /data, readOnly: true}
        {{- end }}
  volumes:
    {{- include "datamodels.tls.client.volume" . | nindent 4 }}
    {{- include "datamodels.tokens.client.volume" . | nindent 4 }}
    - {name: tmp, emptyDir: {}}
    - {name: jobs, configMap: {name: {{ include "datamodels.fullname" (dict "root" .root "component" "jobs") }}}}
    {{- with .root.Values.jobs.trainer.dataClaim }}
    - {name: data, persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}}
    {{- end }}
{{- end }}
