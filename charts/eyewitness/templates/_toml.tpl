{{/*
Writes YAML values as TOML 1.0. Helm's own toToml writes whole numbers as floats, which the program refuses.
*/}}

{{- define "eyewitness.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ . | toJson }}{{ end -}}
{{- end -}}

{{- define "eyewitness.toml.value" -}}
{{- if kindIs "string" . -}}{{ . | toJson }}
{{- else if kindIs "bool" . -}}{{ . }}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else if kindIs "slice" . -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "eyewitness.toml.value" $item }}{{ end }}]
{{- else if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $pairs = append $pairs (printf "%s = %s" (include "eyewitness.toml.key" $key) (include "eyewitness.toml.value" $value)) -}}
{{- end -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else -}}{{ . }}
{{- end -}}
{{- end -}}

{{/* A table: plain keys first, then the tables in it. Takes a list of its path and the map. */}}
{{- define "eyewitness.toml.table" -}}
{{- $path := index . 0 -}}
{{- $map := index . 1 -}}
{{- $plain := false -}}
{{- range $key, $value := $map -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}{{- $plain = true -}}{{- end -}}
{{- end -}}
{{- if and $path (or $plain (not $map)) }}
[{{ $path }}]
{{- end }}
{{- range $key, $value := $map }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "eyewitness.toml.key" $key }} = {{ include "eyewitness.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := $map }}
{{- if kindIs "map" $value }}
{{- $inner := include "eyewitness.toml.key" $key }}
{{- include "eyewitness.toml.table" (list (ternary $inner (printf "%s.%s" $path $inner) (eq $path "")) $value) }}
{{- end }}
{{- end }}
{{- end -}}
