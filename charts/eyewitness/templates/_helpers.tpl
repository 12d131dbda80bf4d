{{- define "eyewitness.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "eyewitness.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "eyewitness.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "eyewitness.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "eyewitness.selector" -}}
app.kubernetes.io/name: {{ include "eyewitness.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "eyewitness.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "eyewitness.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "eyewitness.workerSelector" -}}
{{ include "eyewitness.selector" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "eyewitness.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "eyewitness.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "eyewitness.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "eyewitness.tokenSecret" -}}
{{ .Values.http.existingSecret | default (printf "%s-http" (include "eyewitness.fullname" .)) }}
{{- end -}}

{{- define "eyewitness.attachmentsConfigMap" -}}
{{ .Values.attachmentsConfigMap | default (printf "%s-attachments" (include "eyewitness.fullname" .)) }}
{{- end -}}

{{- define "eyewitness.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{ add (int .Values.handoverSecs) (int .Values.graceSecs) 15 }}
{{- else -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add (int .Values.handoverSecs) (int .Values.graceSecs) 15 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d: a worker would be killed before it has handed its streams over (handoverSecs %d) and delivered what is on its way (graceSecs %d); make it their sum and 15, or leave it out" (int .Values.terminationGracePeriodSeconds) (int .Values.handoverSecs) (int .Values.graceSecs)) -}}
{{- end -}}
{{ .Values.terminationGracePeriodSeconds }}
{{- end -}}
{{- end -}}

{{/* librdkafka's properties, as YAML. */}}
{{- define "eyewitness.kafkaProperties" -}}
{{- $properties := dict -}}
{{- $tls := .Values.kafka.tls.enabled -}}
{{- $sasl := ne .Values.kafka.auth.mechanism "" -}}
{{- if or $tls $sasl -}}
{{- $protocol := ternary (ternary "SASL_SSL" "SSL" $sasl) "SASL_PLAINTEXT" $tls -}}
{{- $_ := set $properties "security.protocol" $protocol -}}
{{- end -}}
{{- if $sasl -}}
{{- $_ := set $properties "sasl.mechanisms" .Values.kafka.auth.mechanism -}}
{{- $_ := set $properties "sasl.username" .Values.kafka.auth.username -}}
{{- end -}}
{{- if and $tls .Values.kafka.tls.caSecret -}}
{{- $_ := set $properties "ssl.ca.location" (printf "/etc/eyewitness/kafka-ca/%s" .Values.kafka.tls.caKey) -}}
{{- end -}}
{{- if and $tls .Values.kafka.tls.clientSecret -}}
{{- $_ := set $properties "ssl.certificate.location" "/etc/eyewitness/kafka-client/tls.crt" -}}
{{- $_ := set $properties "ssl.key.location" "/etc/eyewitness/kafka-client/tls.key" -}}
{{- end -}}
{{- mergeOverwrite $properties (deepCopy .Values.kafka.properties) | toYaml -}}
{{- end -}}

{{/* The configuration file. */}}
{{- define "eyewitness.config" -}}
{{- $values := .Values -}}
{{- $kafka := dict "brokers" $values.kafka.brokers -}}
{{- with include "eyewitness.kafkaProperties" . | fromYaml }}{{- $_ := set $kafka "properties" . }}{{- end -}}
{{- if $values.kafka.auth.existingSecret -}}
{{- $_ := set $kafka "password_file" (printf "/etc/eyewitness/kafka/%s" $values.kafka.auth.passwordKey) -}}
{{- end -}}
{{- $http := dict "listen" (printf "%s:%d" $values.http.address (int $values.http.port)) "token_file" (printf "/etc/eyewitness/http/%s" $values.http.tokenKey) -}}
{{- with $values.http.allowedOrigins }}{{- $_ := set $http "allowed_origins" . }}{{- end -}}
{{- with $values.http.trustedProxies }}{{- $_ := set $http "trusted_proxies" . }}{{- end -}}
{{- $users := dict -}}
{{- range $name, $user := $values.http.users -}}
{{- $_ := set $users $name (dict "role" $user.role "token_file" (printf "/etc/eyewitness/users/%s/%s" $name ($user.tokenKey | default "token"))) -}}
{{- end -}}
{{- with $users }}{{- $_ := set $http "users" . }}{{- end -}}
{{- $made := dict "http" $http "service" (dict "grace_secs" $values.graceSecs "log" $values.logging.filter "log_json" $values.logging.json) -}}
{{- if $values.kafka.brokers -}}
{{- $spool := dict "path" "/var/lib/eyewitness/spool/kafka" "max_bytes" $values.spool.maxBytes "when_full" $values.spool.whenFull "durability" $values.spool.durability -}}
{{- $sink := merge (dict "type" "kafka" "topic_prefix" $values.kafka.topicPrefix "dead_letters" "/var/lib/eyewitness/dead-letters/kafka.jsonl" "spool" $spool) (deepCopy $kafka) -}}
{{- with $values.kafka.topics }}{{- $_ := set $sink "topics" . }}{{- end -}}
{{- $_ := set $made "sinks" (dict "kafka" $sink) -}}
{{- end -}}
{{- if $values.cluster.enabled -}}
{{- $group := $values.cluster.group | default $values.kafka.topicPrefix -}}
{{- $cluster := merge (dict "topic_prefix" $values.kafka.topicPrefix "group" $group "capacity" $values.cluster.capacity "leases" $values.cluster.leases) (deepCopy $kafka) -}}
{{- with $values.kafka.topics.replication_factor }}{{- $_ := set $cluster "replication_factor" . }}{{- end -}}
{{- with $values.kafka.topics.create }}{{- $_ := set $cluster "create_topics" . }}{{- end -}}
{{- $_ := set $made "cluster" $cluster -}}
{{- /* Workers name this address to whoever asks them for a stream that another one has. */ -}}
{{- $_ := set $http "advertise" (printf "${POD_NAME}.%s-workers.%s.svc:%d" (include "eyewitness.fullname" .) .Release.Namespace (int $values.http.port)) -}}
{{- $_ := set $made "attachments" (dict "folder" "/etc/eyewitness/attachments" "secrets_folder" "/etc/eyewitness/secrets") -}}
{{- end -}}
{{- /* On the volume of the spool, which it must not fill. */ -}}
{{- $_ := set $made "evidence" (dict "path" "/var/lib/eyewitness/alerts" "keep_bytes" 1073741824) -}}
{{- $_ := set $made "history" (dict "dir" "/var/lib/eyewitness/history" "max_bytes" 268435456 "clips_bytes" 268435456) -}}
{{- if $values.gpu.enabled }}{{- $_ := set $made "inference" (dict "providers" $values.gpu.providers) }}{{- end -}}
{{- $all := mergeOverwrite $made (deepCopy $values.config) -}}
# Made by the chart from its values; a change restarts the workers, one after the other.
{{- include "eyewitness.toml.table" (list "" $all) }}
{{- with $values.profiles }}

{{ . | trim }}
{{- end }}
{{- end -}}

{{/* What is refused before anything is rendered, in words that say what to do. */}}
{{- define "eyewitness.check" -}}
{{- $values := .Values -}}
{{- if and $values.cluster.enabled (not $values.kafka.brokers) -}}
{{- fail "kafka.brokers is empty: workers share their streams by way of Kafka. Name its brokers, or set cluster.enabled=false and replicas=1" -}}
{{- end -}}
{{- if not $values.cluster.enabled -}}
{{- if $values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled needs cluster.enabled: without it every pod would run every stream" -}}
{{- end -}}
{{- if gt (int $values.replicas) 1 -}}
{{- fail (printf "replicas is %d and cluster.enabled is false: every pod would run every stream; set replicas=1" (int $values.replicas)) -}}
{{- end -}}
{{- if or $values.attachments $values.attachmentsConfigMap -}}
{{- fail "attachments need cluster.enabled; without it write the streams into config.streams" -}}
{{- end -}}
{{- end -}}
{{- if and $values.cluster.enabled $values.config.streams -}}
{{- fail "config.streams cannot stand in a cluster, where every worker would run them: move them to attachments" -}}
{{- end -}}
{{- if and $values.attachments $values.attachmentsConfigMap -}}
{{- fail "attachments and attachmentsConfigMap are both given: keep one" -}}
{{- end -}}
{{- range $name, $attachment := $values.attachments -}}
{{- if regexMatch "^[^:/]+://[^/@]*@" $attachment.url -}}
{{- fail (printf "attachments.%s.url holds a user or password: make a secret with the keys username and password, name it in cameraSecrets, and say credentials: NAME in the attachment" $name) -}}
{{- end -}}
{{- with $attachment.credentials -}}
{{- $found := false -}}
{{- $wanted := . -}}
{{- range $values.cameraSecrets }}{{- if eq .name $wanted }}{{- $found = true }}{{- end }}{{- end -}}
{{- if not $found -}}
{{- fail (printf "attachments.%s.credentials is %s, which is not in cameraSecrets" $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.kafka.auth.mechanism (not $values.kafka.auth.existingSecret) -}}
{{- fail "kafka.auth.mechanism is set and kafka.auth.existingSecret is not: name the secret that holds the password" -}}
{{- end -}}
{{- range $key, $_ := $values.kafka.properties -}}
{{- if has $key (list "sasl.password" "ssl.key.password" "ssl.key.pem" "sasl.oauthbearer.client.secret" "ssl.keystore.password") -}}
{{- fail (printf "kafka.properties.%s is a secret and would be readable in a ConfigMap: use kafka.auth.existingSecret, kafka.tls.clientSecret, or ${NAME} with extraEnv" $key) -}}
{{- end -}}
{{- end -}}
{{- if dig "http" "token" "" $values.config -}}
{{- fail "config.http.token is a secret and would be readable in a ConfigMap: use http.existingSecret" -}}
{{- end -}}
{{- range $name, $user := dig "http" "users" dict $values.config -}}
{{- if dig "token" "" $user -}}
{{- fail (printf "config.http.users.%s.token is a secret and would be readable in a ConfigMap: use http.users" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.profiles (not (regexMatch "^(\\s*(#[^\\n]*)?\\n)*\\s*\\[profiles\\." $values.profiles)) -}}
{{- fail "profiles is the TOML text of tables and must begin with [profiles.NAME]" -}}
{{- end -}}
{{- if $values.autoscaling.enabled -}}
{{- if and (eq $values.autoscaling.engine "keda") (not $values.autoscaling.keda.prometheusAddress) -}}
{{- fail "autoscaling.keda.prometheusAddress is empty: workers are scaled by what Prometheus says" -}}
{{- end -}}
{{- if and (eq $values.autoscaling.engine "hpa") (not $values.autoscaling.hpa.metrics) -}}
{{- fail "autoscaling.hpa.metrics is empty: say what to scale by" -}}
{{- end -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- $most := ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled -}}
{{- if and $values.cluster.enabled (gt (int $most) (int $values.cluster.leases)) -}}
{{- fail (printf "%d workers and %d leases: a worker without a lease has no work; raise cluster.leases (before the topic is made) or take fewer workers" (int $most) (int $values.cluster.leases)) -}}
{{- end -}}
{{- end -}}
