//! The OpenAPI document (3.1.0), made from the one table that the router is made from. Record schemas are those of
//! `sinks::wire`.

use serde_json::{Map, Value, json};

use super::users::Role;

/// A method that the service understands; GET answers HEAD as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read.
    Get,
    /// Attach, or change what is attached.
    Put,
    /// Change a part.
    Patch,
    /// Try something; changes nothing.
    Post,
    /// Detach.
    Delete,
}

impl Verb {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// One route as it is documented.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Method.
    pub verb: Verb,
    /// Path, with `{name}` for parameters, as the router writes it.
    pub path: &'static str,
    /// In a few words.
    pub summary: &'static str,
    /// In full; may be empty.
    pub description: &'static str,
    /// Query and header parameters; those of the path are known from it.
    pub parameters: &'static [Parameter],
    /// Name of the JSON body's schema under `#/components/schemas`; none where a request has no body.
    pub body: Option<&'static str>,
    /// What a good answer is: status and media types, and what refuses it.
    pub answers: &'static [Answer],
    /// Needs no token.
    pub open: bool,
    /// Who may, where a token is needed.
    pub role: Role,
}

impl Route {
    /// A route that is read, by anybody who has a token, without parameters; the rest is put in with `..`.
    pub const fn get(path: &'static str, summary: &'static str, answers: &'static [Answer]) -> Self {
        Self {
            verb: Verb::Get,
            path,
            summary,
            description: "",
            parameters: &[],
            body: None,
            answers,
            open: false,
            role: Role::Viewer,
        }
    }

    /// A route that writes, for operators; what is asked of it stands in the audit.
    pub const fn write(verb: Verb, path: &'static str, summary: &'static str, answers: &'static [Answer]) -> Self {
        Self { verb, role: Role::Operator, ..Self::get(path, summary, answers) }
    }

    /// The role that it wants; none where no token is needed.
    pub const fn need(&self) -> Option<Role> {
        if self.open { None } else { Some(self.role) }
    }
}

/// A query parameter or header.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Its type.
    pub schema: Schema,
}

/// Type of a parameter.
#[derive(Debug, Clone, Copy)]
pub enum Schema {
    /// Free text.
    Text,
    /// Free text; the parameter may come several times.
    Texts,
    /// One of these words; the parameter may come several times.
    Words(&'static [&'static str]),
    /// A whole number from 0.
    Number,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Several of these words, with commas.
    SomeOf(&'static [&'static str]),
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// When.
    pub description: &'static str,
    /// Media types and the names of their schemas under `#/components/schemas`; an empty name for plain text.
    pub content: &'static [(&'static str, &'static str)],
}

/// Name of the schema of errors.
pub const ERROR: &str = "Error";

/// The document.
pub(super) fn document(needs_token: bool, extra: &'static [Route]) -> String {
    let mut paths = Map::new();
    for route in super::table::rows().chain(extra) {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.as_str().to_ascii_lowercase()] = operation(route, needs_token);
    }
    let mut schemas = super::schemas::control();
    for (file, text) in sinks::wire::schemas() {
        let name = file.split('.').next().unwrap_or(file);
        // Written by `sinks::wire` itself a moment ago.
        let mut schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
        relocate(&mut schema, name);
        schemas.insert(name.to_owned(), schema);
    }
    let kept: Vec<Value> = ["caption", "transcript", "status", "gap", "alert"].map(reference).into();
    schemas.insert("Record".into(), json!({ "oneOf": kept }));
    schemas.insert("Captions".into(), super::captions::answer_schema(&reference("Record")));
    schemas.insert("Lost".into(), lost());
    schemas.insert(
        ERROR.into(),
        json!({ "type": "object", "required": ["error"],
                "properties": {
                    "error": { "type": "string", "description": "What is wrong, and what to do." },
                    "reasons": { "type": "array", "items": { "type": "string" },
                                 "description": "Everything that is wrong, where it is more than one thing." },
                    "worker": { "type": "string", "description": "The worker that has what was asked for (421)." },
                    "address": { "type": "string", "description": "That worker's address, where it is known." },
                } }),
    );
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "eyewitness",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Attaching streams; their live captions and transcripts; alerts; health and metrics.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "query": { "type": "apiKey", "in": "query", "name": super::params::ACCESS_TOKEN,
                           "description": "For clients that can send no header (EventSource, WebSocket in browsers)." },
                "session": { "type": "apiKey", "in": "cookie", "name": super::sessions::COOKIE,
                             "description": "Of `POST /v1/session`. What changes something must then come from our own page." },
            },
        },
    });
    document.to_string() + "\n"
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// `#/$defs/X` of a schema that now stands inside a document.
pub(super) fn relocate(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(object) => {
            object.remove("$schema");
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replace("#/", &format!("#/components/schemas/{name}/"));
            }
            object.values_mut().for_each(|value| relocate(value, name));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| relocate(value, name)),
        _ => {}
    }
}

fn operation(route: &Route, needs_token: bool) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for part in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let schema = json!({ "type": "string" });
        let name = part.trim_start_matches('*');
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for parameter in route.parameters {
        let mut schema = match parameter.schema {
            Schema::Text => json!({ "type": "string" }),
            Schema::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Schema::Words(words) => json!({ "type": "array", "items": { "type": "string", "enum": words } }),
            Schema::Number => json!({ "type": "integer", "minimum": 0 }),
            Schema::OneOf(words) => json!({ "type": "string", "enum": words }),
            Schema::SomeOf(words) => json!({ "type": "array", "items": { "type": "string", "enum": words } }),
        };
        let mut entry = json!({ "name": parameter.name, "in": parameter.place, "required": false,
                                "description": parameter.description, "schema": schema.take() });
        if matches!(parameter.schema, Schema::SomeOf(_)) {
            entry["style"] = "form".into();
            entry["explode"] = false.into();
        }
        parameters.push(entry);
    }
    let mut answers = Map::new();
    let mut add = |answer: &Answer| {
        let mut entry = json!({ "description": answer.description });
        if !answer.content.is_empty() {
            let content = answer.content.iter().map(|(media_type, schema)| {
                let schema = if schema.is_empty() { json!({ "type": "string" }) } else { reference(schema) };
                ((*media_type).to_owned(), json!({ "schema": schema }))
            });
            entry["content"] = content.collect::<Map<String, Value>>().into();
        }
        answers.insert(answer.status.to_string(), entry);
    };
    route.answers.iter().for_each(&mut add);
    let refusal = |status, description| Answer { status, description, content: &[("application/json", ERROR)] };
    if !route.open {
        add(&refusal(401, "The token is missing or wrong, or the session is over."));
    }
    add(&refusal(
        429,
        "Too many requests, or too many wrong tokens, came from there: `Retry-After` says when to try again.",
    ));
    if route.body.is_some() {
        add(&refusal(408, "The body took too long to come."));
        add(&refusal(413, "The body is longer than 64 KiB."));
        add(&refusal(415, "`Content-Type` is not `application/json`."));
    }
    add(&refusal(
        403,
        "A page of another origin asks, and that origin is not allowed; or a viewer asks for what operators do.",
    ));
    add(&refusal(
        421,
        "The service listens for this machine only and was asked under another name; or another worker has the stream.",
    ));
    let security = match (route.open, needs_token) {
        (true, _) => json!([]),
        (false, true) => json!([{ "bearer": [] }, { "query": [] }, { "session": [] }]),
        // Nothing is needed now; a token is understood where one is set.
        (false, false) => json!([{}, { "bearer": [] }, { "query": [] }, { "session": [] }]),
    };
    let mut operation = json!({ "summary": route.summary, "security": security, "responses": answers });
    if let Some(role) = route.need() {
        operation["x-role"] = role.as_str().into();
    }
    if !route.description.is_empty() {
        operation["description"] = route.description.into();
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": reference(body) } } });
    }
    operation
}

fn lost() -> Value {
    json!({
        "type": "object",
        "description": "Records are missing: the reader was too slow, or came back too late.",
        "required": ["type", "stream", "n_records", "detail"],
        "properties": {
            "type": { "const": "lost" },
            "stream": { "type": "string" },
            "n_records": { "type": ["integer", "null"], "description": "How many; null when nobody can know." },
            "detail": { "type": "string" },
        },
    })
}
