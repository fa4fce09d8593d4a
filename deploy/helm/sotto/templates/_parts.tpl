{{- define "sotto.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "sotto.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The authority that the agents ask: one that is there already, or the controller. */}}
{{- define "sotto.caAddress" -}}
{{ .Values.ca.address | default (printf "sotto-controller.%s.svc:15012" .Release.Namespace) }}
{{- end }}

{{- define "sotto.caRootConfigMap" -}}
{{ if .Values.ca.address }}{{ .Values.ca.rootConfigMap }}{{ else }}sotto-ca-root-cert{{ end }}
{{- end }}

{{- /* Flags from a dict of names and values; those without a value are left out. */}}
{{- define "sotto.flags" -}}
{{- range $name, $value := . }}
{{- with $value }}
- {{ printf "--%s=%s" $name . | quote }}
{{- end }}
{{- end }}
{{- end }}
