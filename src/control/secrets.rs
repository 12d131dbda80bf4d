//! Users and passwords of sources, kept apart from attachments: from the configuration's `[secrets]`, or from a folder as
//! Kubernetes mounts secrets. Reads files and the environment, anew each time, on the caller's thread. Must never show a
//! user or a password: not in an error, not in `Debug`.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base::redact::{SourceUrl, is_secret_parameter, percent_encoded};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::config::problem::candidates;

/// Longer files are none with a user or a password.
const MOST_BYTES: u64 = 64 * 1024;
/// How often a mounted secret is read again because it was exchanged meanwhile.
const TRIES: usize = 3;

/// User and password of sources. Files are looked at every other second: streams whose secret has changed are started anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretConfig {
    /// The user's name.
    pub user: Option<String>,
    /// File that holds the user's name; line ends after it are ignored.
    pub user_file: Option<PathBuf>,
    /// Environment variable that holds the user's name.
    pub user_env: Option<String>,
    /// File that holds the password; line ends after it are ignored.
    pub password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    pub password_env: Option<String>,
}

impl SecretConfig {
    /// Refuses what cannot be meant. Whether files and variables are there is seen when they are needed.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let user = [self.user.is_some(), self.user_file.is_some(), self.user_env.is_some()];
        if user.iter().filter(|given| **given).count() > 1 {
            return Err("use one of `user`, `user_file` and `user_env`".into());
        }
        if self.password_file.is_some() && self.password_env.is_some() {
            return Err("`password_file` and `password_env` are both there; use one".into());
        }
        if !user.contains(&true) && self.password_file.is_none() && self.password_env.is_none() {
            return Err(
                "is empty: give `password_file` or `password_env`, and where the source wants one a `user`".into()
            );
        }
        Ok(())
    }

    fn read(&self) -> Result<Credentials, String> {
        let from = |key: &str, file: &Option<PathBuf>, variable: &Option<String>| match (file, variable) {
            (Some(file), _) => text_of_file(file).map(Some).map_err(|e| format!("`{key}_file`: {e}")),
            (_, Some(name)) => match env::var(name) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(format!("`{key}_env`: the environment has no variable `{name}` with text in it")),
            },
            (None, None) => Ok(None),
        };
        let user = match &self.user {
            Some(user) => Some(user.clone()),
            None => from("user", &self.user_file, &self.user_env)?,
        };
        Credentials::new(user, from("password", &self.password_file, &self.password_env)?)
    }
}

/// A user with a password. `Debug` shows neither.
#[derive(Clone)]
pub struct Credentials {
    user: Option<SecretString>,
    password: Option<SecretString>,
}

impl Credentials {
    fn new(user: Option<String>, password: Option<String>) -> Result<Self, String> {
        for (what, text) in [("user", &user), ("password", &password)] {
            match text.as_deref() {
                Some("") => return Err(format!("its {what} is empty")),
                Some(text) if text.contains(char::is_control) => {
                    return Err(format!("its {what} has a line end or another control character in it"));
                }
                _ => {}
            }
        }
        Ok(Self { user: user.map(Into::into), password: password.map(Into::into) })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// All secrets that attachments can name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secrets {
    configured: BTreeMap<String, SecretConfig>,
    folder: Option<PathBuf>,
}

impl Secrets {
    /// Those of the configuration, and those of a folder that has one folder for each. Where both have one of a name, the
    /// configuration's is taken.
    pub fn new(configured: BTreeMap<String, SecretConfig>, folder: Option<PathBuf>) -> Self {
        Self { configured, folder }
    }

    /// The same, with the folder of others.
    #[must_use]
    pub fn in_folder_of(self, others: &Self) -> Self {
        Self { folder: others.folder.clone(), ..self }
    }

    /// Differs when any of them has changed. Means nothing outside this process.
    pub fn stamp(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        for name in self.names() {
            name.hash(&mut hash);
            // Of one that cannot be read it only counts that it cannot.
            if let Ok(Credentials { user, password }) = self.credentials(&name) {
                [user, password].map(|part| part.map(|part| part.expose_secret().to_owned())).hash(&mut hash);
            }
        }
        hash.finish()
    }

    /// Names of secrets, as far as they are known now.
    pub fn names(&self) -> Vec<String> {
        let entries = self.folder.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mounted = entries.filter(|entry| entry.path().is_dir()).filter_map(|e| e.file_name().into_string().ok());
        let mut names: Vec<_> =
            self.configured.keys().cloned().chain(mounted.filter(|name| check_name(name).is_ok())).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What a secret says now.
    ///
    /// # Errors
    /// When it is not there or cannot be read, in words.
    pub fn credentials(&self, name: &str) -> Result<Credentials, String> {
        check_name(name)?;
        let wrong = |e: String| format!("secret `{name}`: {e}");
        if let Some(secret) = self.configured.get(name) {
            return secret.read().map_err(wrong);
        }
        match self.folder.as_ref().map(|folder| folder.join(name)).filter(|folder| folder.is_dir()) {
            Some(folder) => read_mounted(&folder).map_err(wrong),
            None => {
                let names = self.names();
                let hint = candidates(name, names.iter().map(String::as_str));
                let hint =
                    hint.unwrap_or_else(|| "write one under [secrets], or set attachments.secrets_folder".into());
                Err(format!("no secret is called `{name}`; {hint}"))
            }
        }
    }

    /// A source's URL with the user and password of this secret in it: where the URL has a secret parameter without a value
    /// (`?token=`, `?user=&password=`) they are put in there; else, with SRT, the password is the passphrase; else they are
    /// put before the host.
    ///
    /// # Errors
    /// When there is no such secret, or the URL has no place for it, in words and without the secret.
    pub fn url_with(&self, url: &str, credentials: &str) -> Result<SourceUrl, String> {
        let found = self.credentials(credentials)?;
        let plain = ingest::source_url(url).map_err(|e| e.to_string())?;
        let mut url = Url::parse(plain.expose()).map_err(|e| format!("`{plain}` is no URL ({e})"))?;
        let expose = |secret: &Option<SecretString>| secret.as_ref().map(|s| percent_encoded(s.expose_secret()));
        let (user, password) = (expose(&found.user), expose(&found.password));
        let missing = |what: &str| format!("secret `{credentials}` has no {what}, which `{plain}` wants");
        if let Some(query) = filled_query(&url, user.as_deref(), password.as_deref()).map_err(missing)? {
            url.set_query(Some(&query));
        } else if url.scheme() == "srt" {
            let password = password.ok_or_else(|| missing("password"))?;
            let query = url.query().map(|query| format!("{query}&")).unwrap_or_default();
            url.set_query(Some(&format!("{query}passphrase={password}")));
        } else {
            // Already encoded: what can stand there is not encoded again.
            let set = url.set_username(user.as_deref().unwrap_or_default());
            set.and_then(|()| url.set_password(password.as_deref()))
                .map_err(|()| format!("`{plain}` has no place for a user and a password: take `credentials` out"))?;
        }
        SourceUrl::parse(url.as_str()).map_err(|e| e.to_string())
    }
}

/// The query with its empty secret parameters filled in; none where it has none. The error is what the secret lacks.
fn filled_query(url: &Url, user: Option<&str>, password: Option<&str>) -> Result<Option<String>, &'static str> {
    let mut n_filled = 0;
    let mut pairs = Vec::new();
    for pair in url.query().unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some((name, "")) if is_secret_parameter(name) => {
                let is_user = name.to_ascii_lowercase().starts_with("user");
                let value = if is_user { user.ok_or("user")? } else { password.ok_or("password")? };
                pairs.push(format!("{name}={value}"));
                n_filled += 1;
            }
            _ => pairs.push(pair.to_owned()),
        }
    }
    Ok((n_filled > 0).then(|| pairs.join("&")))
}

/// Refuses names that could lead out of the folder, or to what Kubernetes keeps beside its secrets.
///
/// # Errors
/// In words.
pub fn check_name(name: &str) -> Result<(), String> {
    let ok = (1..=253).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let told = name.escape_debug();
    let wrong = || {
        format!(
            "`{told}` is no name of a secret: use letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
        )
    };
    if ok { Ok(()) } else { Err(wrong()) }
}

/// `username` and `password` of one folder. Kubernetes exchanges both at once, by pointing the link `..data` elsewhere (in the
/// folder itself, or, of a volume of several secrets, in the one above), and then takes the old files away: what was read
/// behind that link holds if the link is still the same afterwards.
fn read_mounted(folder: &Path) -> Result<Credentials, String> {
    let link = folder.join("..data");
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    // A link that leads nowhere is just being exchanged.
    let target = || fs::canonicalize(if is_there(&link) { &link } else { folder }).ok();
    for _ in 0..TRIES {
        match target() {
            Some(data) => {
                let outcome = read_pair(&data);
                if target().is_some_and(|now| now == data) {
                    return outcome;
                }
            }
            None if !is_there(folder) => return read_pair(folder),
            None => {}
        }
    }
    Err(format!("{} is exchanged all the time", folder.display()))
}

fn read_pair(folder: &Path) -> Result<Credentials, String> {
    let part = |name: &str| {
        let path = folder.join(name);
        path.exists().then(|| text_of_file(&path)).transpose()
    };
    match (part("username")?, part("password")?) {
        (None, None) => Err(format!("{} has neither a file `username` nor a file `password`", folder.display())),
        (user, password) => Credentials::new(user, password),
    }
}

fn text_of_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    let too_long = text.len() as u64 > MOST_BYTES;
    let read = if too_long { Err(io::Error::other("it is far too long for a user or a password")) } else { read };
    read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn secrets(text: &str) -> Secrets {
        Secrets::new(toml::from_str(text).expect(text), None)
    }

    /// As Kubernetes mounts a secret: the files are links into `..data`, which is a link to a folder with a date.
    fn mount(folder: &Path, date: &str, user: &str, password: &str) {
        let dated = folder.join(date);
        fs::create_dir_all(&dated).expect("folder");
        fs::write(dated.join("username"), user).expect("file");
        fs::write(dated.join("password"), password).expect("file");
        let link = folder.join("..data_tmp");
        symlink(date, &link).expect("link");
        fs::rename(&link, folder.join("..data")).expect("exchange");
        for name in ["username", "password"] {
            let _ = symlink(Path::new("..data").join(name), folder.join(name));
        }
    }

    #[test]
    fn credentials_are_put_into_urls() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("password");
        fs::write(&file, "p@ss w/rd:%?\n").expect("file");
        let secrets = secrets(&format!(
            "both = {{ user = 'ad min', password_file = '{0}' }}\npassword.password_file = '{0}'\nuser.user = 'tok3n'",
            file.display()
        ));
        let check = |url: &str, secret: &str, expected: &str, shown: &str| {
            let url = secrets.url_with(url, secret).expect(url);
            assert_eq!(url.expose(), expected);
            assert_eq!(url.to_string(), shown);
        };
        let encoded = "p%40ss%20w%2Frd%3A%25%3F";
        check("rtsp://h/1", "both", &format!("rtsp://ad%20min:{encoded}@h/1"), "rtsp://***@h/1");
        check("rtsp://h:554/1?x=1", "password", &format!("rtsp://:{encoded}@h:554/1?x=1"), "rtsp://***@h:554/1?x=1");
        check("rtsp://h/1", "user", "rtsp://tok3n@h/1", "rtsp://***@h/1");
        check("https://h/a.m3u8", "both", &format!("https://ad%20min:{encoded}@h/a.m3u8"), "https://***@h/a.m3u8");
        check(
            "https://h/a?token=&x=1",
            "password",
            &format!("https://h/a?token={encoded}&x=1"),
            "https://h/a?token=***&x=1",
        );
        check(
            "http://h/a?user=&pwd=",
            "both",
            &format!("http://h/a?user=ad%20min&pwd={encoded}"),
            "http://h/a?user=***&pwd=***",
        );
        check(
            "srt://h:1?mode=caller",
            "password",
            &format!("srt://h:1?mode=caller&passphrase={encoded}"),
            "srt://h:1?mode=caller&passphrase=***",
        );
        let refuse = |url: &str, secret: &str, expected: &str| {
            let told = secrets.url_with(url, secret).expect_err(url);
            assert!(told.contains(expected) && !told.contains("w/rd"), "{told}");
        };
        refuse("file:///a.mp4", "both", "no place for a user");
        refuse("srt://h:1", "user", "secret `user` has no password");
        refuse("http://h/a?user=&pwd=", "password", "secret `password` has no user");
        refuse("rtsp://h/1", "bth", "no secret is called `bth`; did you mean `both`?");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, expected: &str| {
            let told = match toml::from_str::<SecretConfig>(text) {
                Ok(secret) => secret.check().expect_err(text),
                Err(e) => e.message().to_owned(),
            };
            assert!(told.contains(expected), "{told}");
        };
        check("", "is empty");
        check("user = 'a'\nuser_env = 'B'", "one of `user`");
        check("password_env = 'A'\npassword_file = 'b'", "are both there");
        check("password = 'hunter2'", "unknown field `password`");
        for name in ["..", "../x", "a/b", "/etc", "", ".", "..data", "a\0b", "a\nb", "ä", "-x"] {
            let told = secrets("").credentials(name).expect_err(name);
            assert!(told.contains("is no name of a secret"), "{told}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let check = |text: &str, expected: &str| {
            let told = secrets(text).credentials("cam").expect_err(text);
            assert!(told.contains(expected), "{told}");
        };
        check("cam.password_file = '/no/such/file'", "secret `cam`: `password_file`: cannot read /no/such/file");
        check("cam.password_env = 'NO_SUCH_VARIABLE'", "has no variable `NO_SUCH_VARIABLE`");
        check("cam = { user = '', password_env = 'PATH' }", "its user is empty");
        check("", "write one under [secrets]");
        check("yard.user = 'a'", "known are `yard`");
    }

    #[test]
    fn a_mounted_secret_is_read_anew() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("yard");
        mount(&folder, "..2026_01", "admin", "old-one");
        fs::create_dir(dir.path().join("..junk")).expect("folder");
        let secrets = Secrets::new(BTreeMap::new(), Some(dir.path().into()));
        assert_eq!(secrets.names(), ["yard"]);
        let url = |name| secrets.url_with("rtsp://h/1", name);
        assert_eq!(url("yard").expect("url").expose(), "rtsp://admin:old-one@h/1");
        mount(&folder, "..2026_02", "root", "new-one\n");
        assert_eq!(url("yard").expect("url").expose(), "rtsp://root:new-one@h/1");
        // A basic secret without links, and without a name.
        let plain = dir.path().join("plain");
        fs::create_dir(&plain).expect("folder");
        assert!(url("plain").expect_err("empty").contains("neither a file `username` nor a file `password`"));
        fs::write(plain.join("password"), "two\nlines").expect("file");
        assert!(url("plain").expect_err("two lines").contains("line end"));
        fs::write(plain.join("password"), "x".repeat(70_000)).expect("file");
        assert!(url("plain").expect_err("long").contains("far too long"));
        assert!(url("../yard").is_err() && url("yard/..2026_01").is_err());
        let shown = format!("{secrets:?} {:?}", secrets.credentials("yard"));
        assert!(!shown.contains("new-one") && !shown.contains("root"), "{shown}");
    }

    /// As Kubernetes mounts several secrets as one volume.
    fn mount_all(volume: &Path, date: &str, user: &str, password: &str) {
        let folder = volume.join(date).join("cam");
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("username"), user).expect("file");
        fs::write(folder.join("password"), password).expect("file");
        symlink(date, volume.join("..data_tmp")).expect("link");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("exchange");
        let _ = symlink("..data/cam", volume.join("cam"));
    }

    /// Both files are exchanged at once; whoever reads meanwhile never sees the one with the other's partner.
    #[test]
    fn an_exchange_is_never_seen_halfway() {
        exchange(|dir, date, user, password| mount(&dir.join("cam"), date, user, password), "cam");
        exchange(mount_all, "");
    }

    fn exchange(mount: impl Fn(&Path, &str, &str, &str) + Sync, dated: &str) {
        let dir = tempfile::tempdir().expect("dir");
        mount(dir.path(), "..0", "user-0", "pass-0");
        let secrets = Secrets::new(BTreeMap::new(), Some(dir.path().into()));
        std::thread::scope(|scope| {
            let exchanges = std::thread::Builder::new().spawn_scoped(scope, || {
                for n in 1..200 {
                    mount(dir.path(), &format!("..{n}"), &format!("user-{n}"), &format!("pass-{n}"));
                    fs::remove_dir_all(dir.path().join(dated).join(format!("..{}", n - 1))).expect("old one");
                }
            });
            let exchanges = exchanges.expect("thread");
            while !exchanges.is_finished() {
                // One that is exchanged at every reading is told, and read again by whoever asks.
                if let Ok(found) = secrets.credentials("cam") {
                    let number = |secret: &Option<SecretString>| {
                        secret.as_ref().map(|s| s.expose_secret().rsplit('-').next().map(str::to_owned))
                    };
                    assert_eq!(number(&found.user), number(&found.password));
                }
            }
        });
        assert_eq!(secrets.url_with("rtsp://h/1", "cam").expect("url").expose(), "rtsp://user-199:pass-199@h/1");
    }
}
