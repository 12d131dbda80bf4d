//! Where to post, and everything that nobody may read in a log: pure text.

use std::fmt;

use base::redact::{REDACTED, SourceUrl};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;

/// Shorter values are no secrets, and stand in many words.
const SHORTEST_SECRET: usize = 6;
/// Parts of a path from this length on may be tokens, as in the URLs of chat services.
const SHORTEST_TOKEN: usize = 16;

/// A URL whose `Display` shows no secret: no user, no query, no part of the path that looks like a token.
pub(super) struct Target {
    url: Url,
    /// Knows the credentials in all their spellings.
    source: SourceUrl,
    shown: String,
    secrets: Vec<String>,
}

impl Target {
    pub(super) fn new(url: Url, source: SourceUrl) -> Self {
        let mut shown = url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        let mut secrets: Vec<String> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        // As they stand there, too: not every value reads the same once decoded.
        let pairs = url.query().unwrap_or_default().split('&');
        secrets.extend(pairs.filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned()));
        let mut show = |segment| {
            if looks_like_token(segment) {
                secrets.push(String::from(segment));
                return REDACTED;
            }
            segment
        };
        let path: Vec<&str> = url.path().split('/').map(&mut show).collect();
        shown.set_path(&path.join("/"));
        if let Some(password) = url.password() {
            // As it travels, in case that the receiver repeats the header.
            secrets.push(STANDARD.encode(format!("{}:{}", decoded(url.username()), decoded(password))));
        }
        // Fails only for URLs that cannot carry a user.
        if !url.username().is_empty() || url.password().is_some() {
            let _ = shown.set_username(REDACTED);
            let _ = shown.set_password(None);
        }
        let mut target = Self { url, source, shown: shown.to_string(), secrets: Vec::new() };
        target.hide(secrets);
        target
    }

    /// More texts that nobody may read.
    pub(super) fn hide(&mut self, secrets: Vec<String>) {
        self.secrets.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET));
        // One secret may be a part of another.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.secrets.dedup();
    }

    /// The whole URL, only for the request.
    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    /// Takes all secrets out of a text that comes from elsewhere.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = self.source.scrub(text);
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Names are words; tokens have digits or capital letters somewhere.
fn looks_like_token(segment: &str) -> bool {
    segment.len() >= SHORTEST_TOKEN && segment.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
}

fn decoded(text: &str) -> String {
    let mut form = String::from("http://host/?a=");
    form.push_str(&text.replace('+', "%2B").replace('&', "%26").replace('#', "%23"));
    let url = Url::parse(&form).ok();
    url.and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(Url::parse(url).expect(url), SourceUrl::parse(url).expect(url))
    }

    #[test]
    fn shown_without_secrets() {
        let check = |url: &str, expected: &str| assert_eq!(target(url).to_string(), expected);
        check("https://hooks.example.org/eyewitness", "https://hooks.example.org/eyewitness");
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080/");
        check("https://ann:hunter2@h:8443/a?sig=abcdefgh&v=1", "https://***@h:8443/a");
        check(
            "https://hooks.chat.example/services/T012/B345/aB3dE5gH7jK9mN1pQ3sT5v7x",
            "https://hooks.chat.example/services/T012/B345/***",
        );
        check("https://h/a%20b/", "https://h/a%20b/");
        check("https://h/a-long-name-in-words/events", "https://h/a-long-name-in-words/events");
    }

    #[test]
    fn texts_are_scrubbed() {
        let mut hook = target("https://ann:hun%40ter2@h/aB3dE5gH7jK9mN1pQ3sT5v7x/x?format=json%2Bgz&sig=abc%2Fdef");
        hook.hide(vec!["Bearer tok-12345".into(), "tok-12345".into(), "short".into()]);
        let check = |text: &str, expected: &str| assert_eq!(hook.scrub(text), expected);
        check("no route to aB3dE5gH7jK9mN1pQ3sT5v7x", "no route to ***");
        check("hun@ter2 or hun%40ter2, abc/def or abc%2Fdef", "*** or ***, *** or ***");
        let basic = STANDARD.encode("ann:hun@ter2");
        check(&format!("you sent Bearer tok-12345 and Basic {basic}"), "you sent *** and Basic ***");
        check("tok-12345: a short text", "***: a short text");
    }
}
