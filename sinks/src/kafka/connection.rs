//! How clients get into a cluster, and who they are there: what the sink and the control plane have in common.
//!
//! From the user's keys to librdkafka's properties, with passwords read at that moment. On the thread that makes a client.
//! What can be refused without a broker is refused in [`Connection::check`], which touches neither disk nor network.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::SystemTime};

use base::{expand::expand, time::Clock};
use rdkafka::{ClientConfig, error::KafkaError};

use super::{Property, oauth::Tokens, reports::Secrets};
use crate::{SinkError, delivery::text_of_file};

/// The keys that lead into a cluster; see [`super::KafkaConfig`] for what each means.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) brokers: Vec<String>,
    pub(crate) password_env: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) oauth_token_file: Option<PathBuf>,
    pub(crate) oauth_token_command: Option<Vec<String>>,
    pub(crate) properties: BTreeMap<String, Property>,
}

/// Makes the configuration of clients, each time anew: files and their passwords may have changed meanwhile.
#[derive(Clone)]
pub(crate) struct Access {
    connection: Arc<Connection>,
    secrets: Arc<Secrets>,
}

/// What the credentials were when a client was made.
#[derive(PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(String, Option<SystemTime>)>);

impl Access {
    pub(crate) fn new(connection: Connection, secrets: Arc<Secrets>) -> Self {
        Self { connection: Arc::new(connection), secrets }
    }

    pub(crate) fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// Where tokens come from, if they are used.
    pub(crate) fn tokens(&self, clock: &Arc<dyn Clock>) -> Option<Arc<Tokens>> {
        let (secrets, clock) = (Arc::clone(&self.secrets), Arc::clone(clock));
        let tokens = match (&self.connection.oauth_token_file, &self.connection.oauth_token_command) {
            (Some(path), _) => Tokens::of_file(path, secrets, clock),
            (None, Some(command)) => Tokens::of_command(command, secrets, clock),
            (None, None) => return None,
        };
        Some(Arc::new(tokens))
    }

    /// What every client begins with.
    ///
    /// # Errors
    /// When a password or a variable is not there.
    pub(crate) fn client(&self) -> Result<ClientConfig, SinkError> {
        let mut client = self.connection.common();
        for (key, value) in &self.connection.properties {
            client.set(key, self.expand(key, &value.to_string())?);
        }
        if let Some(password) = self.connection.password()? {
            self.secrets.add(&password);
            client.set("sasl.password", password);
        }
        Ok(client)
    }

    /// A property's value with variables in place; what came from a variable is a secret.
    fn expand(&self, key: &str, text: &str) -> Result<String, SinkError> {
        let expanded = expand(text, |name| {
            let value = std::env::var(name).ok()?;
            self.secrets.add(&value);
            Some(value)
        });
        let expanded = expanded.map_err(|e| SinkError::config(format!("properties.\"{key}\""), e.to_string()))?;
        if is_secret(key) {
            self.secrets.add(&expanded);
        }
        Ok(expanded)
    }

    /// What the credentials are now: the password, and the dates of the files that properties name.
    pub(crate) fn stamp(&self) -> Stamp {
        let files = self.connection.properties.iter().filter(|(key, _)| key.ends_with(".location"));
        let files = files.filter_map(|(key, value)| self.expand(key, &value.to_string()).ok());
        let changed = |path: &str| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let mut stamp: Vec<_> = files.map(|path| (path.clone(), changed(&path))).collect();
        stamp.push((self.connection.password().ok().flatten().unwrap_or_default(), None));
        Stamp(stamp)
    }
}

/// Whether a property's value must never be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    ["password", "passphrase", "secret", ".key.pem", "oauthbearer.config", "jaas"].iter().any(|part| key.contains(part))
}

/// A property that librdkafka does not take.
pub(crate) fn refused(error: KafkaError) -> SinkError {
    match error {
        // The library's text may repeat the value, and the value may be a secret.
        KafkaError::ClientConfig(_, text, key, _) if is_secret(&key) => SinkError::config(
            format!("properties.\"{key}\""),
            text.split('"').next().unwrap_or("is not accepted by librdkafka").trim(),
        ),
        KafkaError::ClientConfig(_, text, key, _) => SinkError::config(
            format!("properties.\"{key}\""),
            format!("{text}; see librdkafka's CONFIGURATION.md for its properties"),
        ),
        other => SinkError::config("properties", other.to_string()),
    }
}

impl Connection {
    /// Checks what the types cannot. `own`: what else is wrong with a property, in words.
    pub(crate) fn check(&self, own: impl Fn(&str, &Property) -> Result<(), String>) -> Result<(), SinkError> {
        if self.brokers.is_empty() || self.brokers.iter().any(|broker| broker.trim().is_empty()) {
            return Err(SinkError::config("brokers", "name at least one broker, such as [\"localhost:9092\"]"));
        }
        if self.password_env.is_some() && self.password_file.is_some() {
            return Err(SinkError::config("password_file", "use either this or `password_env`, not both"));
        }
        self.check_tokens()?;
        for (key, value) in &self.properties {
            let refuse = |problem| SinkError::config(format!("properties.\"{key}\""), problem);
            own(key, value).and_then(|()| self.check_property(key, value)).map_err(refuse)?;
        }
        Ok(())
    }

    fn check_property(&self, key: &str, value: &Property) -> Result<(), String> {
        let value = value.to_string();
        let wants_token = self.oauth_token_file.is_some() || self.oauth_token_command.is_some();
        if matches!(key, "sasl.mechanisms" | "sasl.mechanism") {
            if wants_token && value != "OAUTHBEARER" {
                return Err("must be `OAUTHBEARER` with a token; take one of them out".into());
            }
            let method = self.properties.get("sasl.oauthbearer.method").map(ToString::to_string);
            if value == "OAUTHBEARER" && !wants_token && method.as_deref() != Some("oidc") {
                return Err("`OAUTHBEARER` needs `oauth_token_file` or `oauth_token_command`".into());
            }
        }
        // The name of a variable that is not closed is found without its value.
        expand(&value, |_| Some(String::new())).map(drop).map_err(|e| e.to_string())
    }

    fn check_tokens(&self) -> Result<(), SinkError> {
        if self.oauth_token_file.is_some() && self.oauth_token_command.is_some() {
            return Err(SinkError::config("oauth_token_command", "use either this or `oauth_token_file`, not both"));
        }
        if self.oauth_token_command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
            return Err(SinkError::config("oauth_token_command", "name a program, such as [\"/usr/bin/get-token\"]"));
        }
        let protocol = self.properties.get("security.protocol").map(|text| text.to_string().to_ascii_uppercase());
        let (wants_token, key) = match (&self.oauth_token_file, &self.oauth_token_command) {
            (Some(_), _) => (true, "oauth_token_file"),
            (_, command) => (command.is_some(), "oauth_token_command"),
        };
        if wants_token && !protocol.is_some_and(|protocol| protocol.contains("SASL") || protocol.contains("${")) {
            let problem = "is used with SASL only: set properties.\"security.protocol\" to `SASL_SSL`";
            return Err(SinkError::config(key, problem));
        }
        Ok(())
    }

    /// The client's configuration as far as it can be checked without passwords and variables.
    pub(crate) fn checked(&self) -> ClientConfig {
        let mut client = self.common();
        for (key, value) in &self.properties {
            let mut known = true;
            let expanded = expand(&value.to_string(), |name| {
                let value = std::env::var(name).ok();
                known &= value.is_some();
                value
            });
            if let Ok(value) = expanded
                && known
            {
                client.set(key, value);
            }
        }
        client
    }

    /// Properties of every client.
    fn common(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "eyewitness")
            .set("reconnect.backoff.max.ms", "5000")
            // A topic that a broker makes by itself has the wrong settings.
            .set("allow.auto.create.topics", "false");
        if self.oauth_token_file.is_some() || self.oauth_token_command.is_some() {
            client.set("sasl.mechanisms", "OAUTHBEARER");
        }
        client
    }

    /// The password, from wherever it is.
    pub(super) fn password(&self) -> Result<Option<String>, SinkError> {
        if let Some(name) = &self.password_env {
            return match std::env::var(name) {
                Ok(password) => Ok(Some(password)),
                Err(_) => Err(SinkError::config("password_env", format!("the environment has no variable `{name}`"))),
            };
        }
        if let Some(path) = &self.password_file {
            return Ok(Some(text_of_file("password_file", path)?.trim().to_owned()));
        }
        Ok(None)
    }
}
