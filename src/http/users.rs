//! Who may use the service: people with a role and a token of their own. Pure, except for reading the tokens' files. No
//! token is ever shown.

use std::{fs, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{HttpConfig, HttpError, config::secret};

/// Who has the token of `http.token`.
pub(super) const OPERATOR: &str = "operator";
/// Everybody, where no token is needed.
pub(super) const LOCAL: &str = "local";
/// Fewest characters of a token: what 96 random bits are in Base64.
const LEAST_TOKEN: usize = 16;
/// Most characters of a user's name.
const MOST_NAME: usize = 64;

/// What somebody may do. Who may do more may do all that others may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything, but for the audit, and changes nothing.
    Viewer,
    /// Reads and changes everything.
    Operator,
}

impl Role {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// One person or program that may use the service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// What they may do: a `viewer` reads, an `operator` also attaches, changes, acknowledges and silences.
    pub role: Role,
    /// Their token, as `http.token`; no two users have the same. Example: `"${ANNAS_TOKEN}"`.
    #[serde(default, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,
    /// File that holds it; spaces and newlines around it are ignored.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// A user whose token is known.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    token: SecretString,
}

impl User {
    pub(super) fn new(name: &str, role: Role, token: SecretString) -> Self {
        Self { name: name.into(), role, token }
    }
}

/// Whose token this is. Compares with every one, in constant time, whichever it is.
pub(super) fn whose<'u>(users: &'u [User], given: &str) -> Option<&'u User> {
    let mut found = None;
    for user in users {
        if bool::from(given.as_bytes().ct_eq(user.token.expose_secret().as_bytes())) {
            found = Some(user);
        }
    }
    found
}

impl HttpConfig {
    /// Whether clients need a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some() || self.token_file.is_some() || !self.users.is_empty()
    }

    /// Checks users and tokens as far as no file is needed.
    pub(super) fn check_users(&self) -> Result<(), HttpError> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err(HttpError::TwoTokens);
        }
        self.token.as_ref().map_or(Ok(()), check_token)?;
        for (name, user) in &self.users {
            let wrong = |problem: String| HttpError::User { name: name.clone(), problem };
            check_name(name, self.token.is_some() || self.token_file.is_some()).map_err(wrong)?;
            match (&user.token, &user.token_file) {
                (Some(_), Some(_)) => return Err(wrong(HttpError::TwoTokens.to_string())),
                (None, None) => {
                    return Err(wrong("has no token: set `token` (such as \"${ANNAS_TOKEN}\") or `token_file`".into()));
                }
                (Some(token), None) => check_token(token).map_err(|e| wrong(e.to_string()))?,
                (None, Some(_)) => {}
            }
        }
        let of_users = self.users.iter().map(|(name, user)| (name.as_str(), user.token.as_ref()));
        let inline = std::iter::once((OPERATOR, self.token.as_ref())).chain(of_users);
        different(inline.filter_map(|(name, token)| Some((name, token?))))
    }

    /// The users with their tokens, from wherever those are.
    pub(super) fn read_users(&self) -> Result<Vec<User>, HttpError> {
        let mut users = Vec::new();
        if let Some(token) = read(self.token.as_ref(), self.token_file.as_ref())? {
            users.push(User::new(OPERATOR, Role::Operator, token));
        }
        for (name, user) in &self.users {
            let token = read(user.token.as_ref(), user.token_file.as_ref())
                .map_err(|e| HttpError::User { name: name.clone(), problem: e.to_string() })?;
            users.extend(token.map(|token| User::new(name, user.role, token)));
        }
        different(users.iter().map(|user| (&*user.name, &user.token)))?;
        Ok(users)
    }
}

fn read(token: Option<&SecretString>, file: Option<&PathBuf>) -> Result<Option<SecretString>, HttpError> {
    let Some(path) = file else { return Ok(token.cloned()) };
    let text = fs::read_to_string(path).map_err(|source| HttpError::TokenFile { path: path.clone(), source })?;
    let token = SecretString::from(text.trim());
    check_token(&token)?;
    Ok(Some(token))
}

/// RFC 6750, section 2.1: `b64token`.
fn check_token(token: &SecretString) -> Result<(), HttpError> {
    let token = token.expose_secret();
    if token.len() < LEAST_TOKEN {
        return Err(HttpError::ShortToken { length: token.len(), least: LEAST_TOKEN });
    }
    if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)) {
        return Err(HttpError::TokenCharacters);
    }
    Ok(())
}

fn check_name(name: &str, has_operator: bool) -> Result<(), String> {
    if name == LOCAL || name == OPERATOR && has_operator {
        let whom = if name == LOCAL { "whoever needs no token" } else { "whoever has `http.token`" };
        return Err(format!("the name is that of {whom}: take another"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > MOST_NAME || !name.chars().all(plain) {
        return Err(format!("a user's name has letters, digits, `.`, `_`, `-` and `@`, {MOST_NAME} at most"));
    }
    Ok(())
}

/// With one token for two, nobody could say who it was.
fn different<'u>(tokens: impl Iterator<Item = (&'u str, &'u SecretString)>) -> Result<(), HttpError> {
    let mut known: Vec<(&str, &SecretString)> = Vec::new();
    for (name, token) in tokens {
        if let Some((first, _)) = known.iter().find(|(_, other)| other.expose_secret() == token.expose_secret()) {
            return Err(HttpError::SameToken { first: (*first).to_owned(), second: name.to_owned() });
        }
        known.push((name, token));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn checks() {
        let check = |json: &str, expected: Result<(), &[&str]>| {
            let got = serde_json::from_str::<HttpConfig>(json)
                .map_err(|e| e.to_string())
                .and_then(|c| c.check().map_err(|e| e.to_string()));
            match (&got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(parts)) => {
                    for part in parts {
                        assert!(got.contains(part), "{json}: `{part}` is missing in: {got}");
                    }
                    assert!(!got.contains("hunter2") && !got.contains(TOKEN), "{got}");
                }
                _ => panic!("{json}: {got:?}, not {expected:?}"),
            }
        };
        let anna = |rest: &str| format!(r#"{{"users":{{"anna":{{{rest}}}}}}}"#);
        check(&anna(&format!(r#""role":"viewer","token":"{TOKEN}""#)), Ok(()));
        check(&anna(r#""role":"operator","token_file":"t""#), Ok(()));
        check(&anna(r#""role":"viewer""#), Err(&["`anna`", "`token_file`"]));
        check(&anna(&format!(r#""token":"{TOKEN}""#)), Err(&["missing field `role`"]));
        check(&anna(r#""role":"admin","token_file":"t""#), Err(&["unknown variant", "viewer"]));
        check(&anna(r#""role":"viewer","token":"hunter2""#), Err(&["`anna`", "7 characters"]));
        check(&anna(&format!(r#""role":"viewer","token":"{TOKEN}","token_file":"t""#)), Err(&["`anna`", "take one"]));
        // Somebody's token is enough for an address that others can reach.
        check(&format!(r#"{{"listen":"0.0.0.0:1","users":{{"a":{{"role":"viewer","token":"{TOKEN}"}}}}}}"#), Ok(()));
        let two = |first: &str, second: &str| {
            format!(
                r#"{{{first}"users":{{"{second}":{{"role":"viewer","token":"{TOKEN}"}},
                   "zoe":{{"role":"viewer","token":"{TOKEN}z"}}}}}}"#
            )
        };
        check(&two("", "anna"), Ok(()));
        check(&two(&format!(r#""token":"{TOKEN}","#), "anna"), Err(&["`operator`", "`anna`", "same token"]));
        check(&two(&format!(r#""token":"{TOKEN}z","#), "anna"), Err(&["`operator`", "`zoe`", "same token"]));
        check(&two(r#""token_file":"t","#, "operator"), Err(&["`operator`", "take another"]));
        check(&two("", "operator"), Ok(()));
        check(&two("", "local"), Err(&["`local`", "take another"]));
        for name in ["", "a b", "ä", &"x".repeat(65)] {
            check(&two("", name), Err(&["letters, digits"]));
        }
    }

    #[test]
    fn tokens_of_files_are_read_and_held_against_each_other() {
        let folder = tempfile::tempdir().expect("folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let user = |path: &PathBuf, role| UserConfig { role, token: None, token_file: Some(path.clone()) };
        let mut config = HttpConfig { token_file: Some(one.clone()), ..HttpConfig::default() };
        assert!(config.read_users().expect_err("no file").to_string().contains("token_file"));
        fs::write(&one, format!("  {TOKEN}\n")).expect("file");
        fs::write(&two, format!("{TOKEN}-two\n")).expect("file");
        config.users.insert("anna".into(), user(&two, Role::Viewer));
        let users = config.read_users().expect("users");
        let found = |given: &str| whose(&users, given).map(|user| (user.name.to_string(), user.role));
        assert_eq!(found(TOKEN), Some((OPERATOR.into(), Role::Operator)));
        assert_eq!(found(&format!("{TOKEN}-two")), Some(("anna".into(), Role::Viewer)));
        for wrong in ["", "0123", "0123456789abcdeF", "0123456789abcdef-"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        fs::write(&two, TOKEN).expect("file");
        let refused = config.read_users().expect_err("same").to_string();
        assert!(refused.contains("`operator`") && refused.contains("`anna`") && !refused.contains(TOKEN), "{refused}");
        fs::write(&two, "\n").expect("file");
        assert!(config.read_users().expect_err("empty").to_string().contains("`anna`"));
    }

    #[test]
    fn tokens_are_never_shown() {
        let json = format!(r#"{{"users":{{"a":{{"role":"viewer","token":"{TOKEN}"}}}}}}"#);
        let config: HttpConfig = serde_json::from_str(&json).expect("configuration");
        let shown = format!("{config:?} {:?}", config.read_users().expect("users"));
        assert!(!shown.contains(TOKEN), "{shown}");
    }
}
