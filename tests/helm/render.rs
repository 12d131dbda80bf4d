//! What helm renders: valid, hardened, without secrets, accepted by the program; and what it refuses.

use serde_json::{Value, json};

use super::chart::{CHART, KUBERNETES, Rendered, lint, name, template, values_files};
use crate::harness::Scene;

/// Everything that a cluster with one broker needs to be told.
const BROKER: &str = "kafka.brokers={kafka:9092}";

#[test]
fn every_values_file_is_clean_and_valid() {
    let files = values_files();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["defaults", "full", "gpu", "hpa", "keda", "minimal", "secrets"]);
    for (name, path) in &files {
        let args = ["--values", path.to_str().unwrap()];
        lint(&args).expect(0);
        // Nothing hangs on the version of Kubernetes.
        let [old, new] = KUBERNETES.map(|version| template(version, &args).expect(0).stdout.lines().count());
        assert_eq!(old, new, "{name}");
        let rendered = Rendered::of(&args);
        hardened(name, &rendered);
        secretless(name, &rendered);
        ends_in_time(name, &rendered);
    }
    lint(&[]).expect(0);
}

/// Nobody is root, nothing can be written but what is mounted for it, no service account's token is there.
fn hardened(name: &str, rendered: &Rendered) {
    for pod in rendered.pods() {
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["runAsUser"], 10001, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{name}");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
            for mount in container["volumeMounts"].as_array().unwrap() {
                let path = mount["mountPath"].as_str().unwrap();
                let writable = ["/tmp", "/var/lib/eyewitness"].contains(&path);
                assert_eq!(mount["readOnly"] != true, writable, "{name}: {path}");
                assert!(mount["subPath"].is_null(), "{name}: a subPath is never brought up to date: {path}");
            }
        }
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume["hostPath"].is_null(), "{name}: {volume}");
        }
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[host].is_null(), "{name}: {host}");
        }
    }
}

/// The only secret that is made is the random token, and it is in no other object.
fn secretless(name: &str, rendered: &Rendered) {
    let secrets = rendered.all("Secret");
    assert!(secrets.len() <= 1, "{name}");
    for secret in &secrets {
        let token = secret["data"]["token"].as_str().unwrap();
        assert!(token.len() >= 64, "{name}");
        for other in rendered.objects.iter().filter(|object| object["kind"] != "Secret") {
            assert!(!other.to_string().contains(token), "{name}: {}", super::chart::name(other));
        }
    }
    for map in rendered.all("ConfigMap") {
        for (file, text) in map["data"].as_object().unwrap() {
            for line in text.as_str().unwrap().lines().filter(|_| file.ends_with(".toml")) {
                let key = line.split(" = ").next().unwrap().trim_matches('"');
                assert!(!["password", "token", "secret", "sasl.password"].contains(&key), "{name}: {line}");
            }
        }
    }
}

/// A pod is given the time that handing over and delivering may take.
fn ends_in_time(name: &str, rendered: &Rendered) {
    let config: toml::Table = toml::from_str(rendered.config()).unwrap();
    let grace = config["service"]["grace_secs"].as_integer().unwrap();
    let given = rendered.workers()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(given > 10 + grace, "{name}: {given} s for 10 s of handing over and {grace} s of delivering");
}

#[test]
fn the_program_takes_every_configuration() {
    for (name, path) in values_files() {
        let rendered = Rendered::of(&["--values", path.to_str().unwrap()]);
        let scene = Scene::new();
        scene.file("eyewitness.toml", rendered.config());
        let done = scene
            .command(&["validate", "eyewitness.toml"])
            .env("EYEWITNESS_WEBHOOK_SECRET", "x")
            .env("POD_NAME", "eyewitness-0")
            .output();
        let done = crate::harness::Done::from(done.unwrap());
        assert!(done.status.success(), "{name}: {}\n{}", done.stderr, rendered.config());
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let full = format!("{CHART}/ci/full-values.yaml");
    let rendered = Rendered::of(&["--values", &full]);
    let config: Value = serde_json::to_value(toml::from_str::<toml::Table>(rendered.config()).unwrap()).unwrap();
    let workers = rendered.workers();
    let pod = &workers["spec"]["template"]["spec"];
    let attachments = rendered.one("ConfigMap", "-attachments")["data"]["streams.toml"].as_str().unwrap();
    let attachments: Value = serde_json::to_value(toml::from_str::<toml::Table>(attachments).unwrap()).unwrap();
    let monitor = rendered.one("ServiceMonitor", "watch");
    let claim = &workers["spec"]["volumeClaimTemplates"][0]["spec"];
    let check = |what: &Value, pointer: &str, expected: Value| {
        assert_eq!(what.pointer(pointer), Some(&expected), "{pointer} in {what:#}");
    };
    // Whole numbers stay whole, and what looks like TOML or YAML within a text stays text.
    check(&config, "/sinks/kafka/spool/max_bytes", json!(5_368_709_120_u64));
    check(&config, "/sinks/kafka/topics/config/retention.ms", json!(604_800_000));
    check(&config, "/sinks/kafka/properties/security.protocol", json!("SASL_SSL"));
    check(&config, "/sinks/kafka/password_file", json!("/etc/eyewitness/kafka/pass"));
    check(&config, "/sinks/on-call/secret_env", json!("EYEWITNESS_WEBHOOK_SECRET"));
    check(&config, "/cluster/capacity", json!(12.5));
    check(&config, "/cluster/replication_factor", json!(3));
    check(&config, "/cluster/properties/ssl.key.location", json!("/etc/eyewitness/kafka-client/tls.key"));
    check(&config, "/attachments/folder", json!("/etc/eyewitness/attachments"));
    check(&config, "/http/token_file", json!("/etc/eyewitness/http/bearer"));
    check(&config, "/profiles/words/transcribe", json!("whisper-tiny.en"));
    check(&attachments, "/streams/front-door/tags/who's", json!("say \"hello\" <here>"));
    check(&attachments, "/streams/front-door/source/reconnect/max_secs", json!(10));
    check(&attachments, "/streams/front-door/weight", json!(1.5));
    check(workers, "/spec/replicas", json!(4));
    check(
        workers,
        "/spec/persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    check(claim, "/resources/requests/storage", json!("10Gi"));
    check(pod, "/terminationGracePeriodSeconds", json!(90));
    check(pod, "/topologySpreadConstraints/0/whenUnsatisfiable", json!("DoNotSchedule"));
    check(monitor, "/spec/endpoints/0/authorization/credentials", json!({"name": "eyewitness-token", "key": "bearer"}));
    check(monitor, "/metadata/labels/release", json!("prometheus"));
    // Each camera's secret is a folder of its own name.
    let folders =
        &pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "camera-secrets").unwrap()["projected"];
    check(folders, "/sources/1/secret/name", json!("cameras-south"));
    check(folders, "/sources/1/secret/items/0", json!({"key": "user", "path": "south/username"}));
    let policy = &rendered.one("NetworkPolicy", "watch")["spec"];
    check(policy, "/ingress/0/ports", json!([{"port": "http", "protocol": "TCP"}]));
    check(policy, "/egress/2/to/0/ipBlock/cidr", json!("192.0.2.0/24"));
    assert_eq!(policy["ingress"].as_array().unwrap().len(), 1);

    let gpu = Rendered::of(&["--values", &format!("{CHART}/ci/gpu-values.yaml")]);
    let pod = &gpu.workers()["spec"]["template"]["spec"];
    check(pod, "/containers/0/resources/limits/nvidia.com~1gpu", json!(1));
    check(pod, "/runtimeClassName", json!("nvidia"));
    check(pod, "/tolerations/0/key", json!("nvidia.com/gpu"));
    assert!(gpu.config().contains("providers = [\"cuda\", \"cpu\"]"), "{}", gpu.config());

    let keda = Rendered::of(&["--values", &format!("{CHART}/ci/keda-values.yaml")]);
    assert!(keda.workers()["spec"]["replicas"].is_null(), "two would decide on one number");
    let scaled = &keda.one("ScaledObject", "cams-eyewitness")["spec"];
    check(scaled, "/scaleTargetRef/kind", json!("StatefulSet"));
    check(scaled, "/scaleTargetRef/name", json!(name(keda.workers())));
    let kinds: Vec<_> = scaled["triggers"].as_array().unwrap().iter().map(|t| t["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["prometheus", "prometheus", "prometheus", "cron"], "by lag, never by CPU");

    // A changed configuration restarts workers; a changed list of streams does not.
    let sum = |args: &[&str]| {
        let rendered = Rendered::of(args);
        rendered.workers()["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    let first = sum(&["--set", BROKER]);
    assert_eq!(first, sum(&["--set", BROKER, "--set", "attachments.a.url=rtsp://h/1"]));
    assert_ne!(first, sum(&["--set", BROKER, "--set", "graceSecs=21"]));
}

#[test]
fn a_deployment_keeps_nothing_and_says_so() {
    let rendered = Rendered::of(&["--set", BROKER, "--set", "workload.kind=Deployment"]);
    let workers = rendered.workers();
    assert_eq!(workers["kind"], "Deployment");
    assert!(workers["spec"]["volumeClaimTemplates"].is_null());
    let volumes = workers["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|v| v["name"] == "data" && v["emptyDir"].is_object()), "{volumes:?}");
}

#[test]
fn wrong_values_are_refused() {
    let check = |set: &[&str], parts: &[&str]| {
        let mut args = vec!["--set", BROKER];
        args.extend(set.iter().flat_map(|value| ["--set", value]));
        let [_, newest] = KUBERNETES;
        template(newest, &args).expect(1).complains(parts);
    };
    // By the schema.
    check(&["replica=3"], &["replica"]);
    check(&["replicas=three"], &["replicas", "integer"]);
    check(&["kafka.brokers={kafka}"], &["/kafka/brokers/0", "pattern"]);
    check(&["kafka.brokers={user:secret@kafka:9092}"], &["/kafka/brokers/0"]);
    check(&["kafka.auth.mechanism=GSSAPI"], &["mechanism"]);
    check(&["kafka.auth.password=hunter2"], &["password"]);
    check(&["spool.whenFull=panic"], &["whenFull"]);
    check(&["spool.maxBytes=5"], &["maxBytes"]);
    check(&["spool.size=lots"], &["size"]);
    check(&["workload.kind=DaemonSet"], &["kind"]);
    check(&["image.digest=sha256:1"], &["digest"]);
    check(&["http.port=70000"], &["port"]);
    check(&["http.token=0123456789abcdef0123"], &["token"]);
    check(&["http.allowedOrigins={wall.example}"], &["allowedOrigins"]);
    check(&["gpu.providers={gpu}"], &["providers"]);
    check(&["config.sink.x=1"], &["sink"]);
    check(&["attachments.a.tags.Location=Front"], &["url"]);
    check(&["attachments.a.url=rtsp://h/1", "attachments.a.password=x"], &["password"]);
    check(&["attachments.a.url=rtsp://h/1", "attachments.a.weight=0"], &["weight"]);
    check(&["cameraSecrets[0].name=north"], &["existingSecret"]);
    check(&["cameraSecrets[0].name=../x", "cameraSecrets[0].existingSecret=a"], &["name"]);
    check(&["networkPolicy.egress.cameras[0].cidr=everywhere"], &["cidr"]);
    check(&["podDisruptionBudget.maxUnavailable=some"], &["maxUnavailable"]);
    check(&["serviceMonitor.interval=often"], &["interval"]);
    // By what fits together.
    check(&["kafka.brokers=null"], &["kafka.brokers is empty", "cluster.enabled=false"]);
    check(&["cluster.enabled=false"], &["replicas is 3", "replicas=1"]);
    check(&["cluster.enabled=false", "replicas=1", "attachments.a.url=rtsp://h/1"], &["config.streams"]);
    check(&["cluster.leases=2"], &["3 workers and 2 leases"]);
    check(&["config.streams.a.url=test://"], &["attachments"]);
    check(&["config.http.token=0123456789abcdef"], &["http.existingSecret"]);
    check(&["kafka.properties.sasl\\.password=hunter2"], &["kafka.auth.existingSecret"]);
    check(&["kafka.auth.mechanism=PLAIN"], &["kafka.auth.existingSecret"]);
    check(&["attachments.a.url=rtsp://u:hunter2@h/1"], &["cameraSecrets", "credentials"]);
    check(&["attachments.a.url=rtsp://h/1", "attachments.a.credentials=north"], &["north", "cameraSecrets"]);
    check(&["attachments.a.url=rtsp://h/1", "attachmentsConfigMap=x"], &["keep one"]);
    check(&["terminationGracePeriodSeconds=20"], &["graceSecs 20"]);
    check(&["autoscaling.enabled=true"], &["prometheusAddress"]);
    check(&["autoscaling.enabled=true", "autoscaling.engine=hpa"], &["autoscaling.hpa.metrics"]);
    check(
        &["autoscaling.enabled=true", "autoscaling.keda.prometheusAddress=http://p:9090", "autoscaling.minReplicas=20"],
        &["minReplicas"],
    );
    check(&["autoscaling.enabled=true", "cluster.enabled=false"], &["cluster.enabled"]);
    check(&["profiles=detect = 1"], &["[profiles.NAME]"]);
}

#[test]
fn the_schema_is_closed() {
    fn walk(schema: &Value, path: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            for (key, inner) in properties {
                walk(inner, &format!("{path}.{key}"));
            }
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"));
        }
    }
    let text = std::fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    walk(&schema, "");
    assert!(schema["properties"].as_object().unwrap().len() > 40);
}

#[test]
fn the_checks_can_fail() {
    let yaml = |text: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: x }}\nspec: {text}\n");
    let monitor = |text: &str| {
        let head = "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: { name: x }\nspec: ";
        format!("{head}{text}\n")
    };
    let check = |text: String, expected: Option<&str>| {
        let said = super::chart::complaints(&["objects", "1.37.0"], &text);
        match expected {
            None => assert_eq!(said, ""),
            Some(part) => assert!(said.contains(part), "`{part}` is missing in: {said}"),
        }
    };
    check(yaml("{ ports: [{ port: 80 }] }"), None);
    check(yaml("{ ports: [{ port: eighty }] }"), Some("eighty"));
    check(yaml("{ prots: [] }"), Some("prots"));
    check(yaml("{ type: ClusterIP, type: NodePort }"), Some("twice"));
    check(monitor("{ selector: {}, endpoints: [{ port: http }] }"), None);
    check(monitor("{ selector: {}, endpoints: [{ prt: http }] }"), Some("prt"));
    check(monitor("{ endpoints: [] }"), Some("selector"));
    assert!(super::chart::complaints(&["promql"], r#"["sum(rate(a[5m])"]"#).contains("sum(rate"));
}
