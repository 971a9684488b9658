{{- define "datamodels.trainer.pod" -}}
metadata:
  labels: {{- include "datamodels.labels" . | nindent 4 }}
    datamodels/pool: {{ .pool }}
  annotations: {{- include "datamodels.scrape" . | trim | nindent 4 }}
spec:
  restartPolicy: Never
  {{- include "datamodels.pod" (merge (dict "account" (ternary "trainer" "" .root.Values.auth.tokens.enabled)) . .root.Values.jobs.trainer) | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ .root.Values.jobs.trainer.terminationGracePeriodSeconds }}
  containers:
    - name: trainer
      command: [python, -m, datamodels.services.trainer]
      {{- include "datamodels.container" . | nindent 6 }}
      env:
        {{- include "datamodels.env" (merge (dict "kind" "trainer") .) | trim | nindent 8 }}
      {{- with int .root.Values.jobs.trainer.heartbeatSeconds }}
      livenessProbe: # checks a file, because no port answers while training holds the interpreter lock
        exec:
          command:
            - python
            - -ISc
            - import os, sys, time; sys.exit(time.time() - os.stat("/tmp/heartbeat").st_mtime > {{ . }})
        periodSeconds: {{ min 60 (max 1 (div . 3)) }}
        timeoutSeconds: 30
        failureThreshold: 3
      {{- end }}
      ports: {{- include "datamodels.ports" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "datamodels.tls.mount" . | nindent 8 }}
        {{- include "datamodels.tokens.client.mount" . | nindent 8 }}
        {{- if .root.Values.jobs.trainer.dataClaim }}
        - {name: data, mountPath: /data, readOnly: true}
        {{- end }}
  volumes:
    {{- include "datamodels.tls.client.volume" . | nindent 4 }}
    {{- include "datamodels.tokens.client.volume" . | nindent 4 }}
    - {name: tmp, emptyDir: {sizeLimit: {{ .root.Values.jobs.trainer.tmp }}}}
    {{- with .root.Values.jobs.trainer.dataClaim }}
    - {name: data, persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}}
    {{- end }}
{{- end }}
