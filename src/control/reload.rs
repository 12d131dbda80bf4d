//! The thread `reload`: takes changed profiles and secrets while the service runs. On SIGHUP it reads the configuration file
//! again; every other second it looks whether a secret has changed. A file with mistakes changes nothing.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use base::shutdown::Shutdown;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::resolver::{Resolver, Settings};
use crate::config::{self, problem::Problems};

/// How often secrets are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the thread looks whether it is to stop.
const STOP_WITHIN: Duration = Duration::from_millis(250);
/// Tables of the file that are taken anew.
const TAKEN: [&str; 3] = ["profiles", "rules", "secrets"];

/// Reads the configuration file again.
pub struct Reloader {
    path: PathBuf,
    resolver: Arc<Resolver>,
    /// The file as it was when the service started: what the rest of the house still goes by.
    started: toml::Table,
    secrets: u64,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Tables that have changed since the start and are only taken by the next one, such as `sinks`, and streams of the
    /// file, such as `streams.yard`.
    pub needs_restart: Vec<String>,
}

impl Reloader {
    /// Of a service that was started with this file, as it is now.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn new(path: &Path, resolver: Arc<Resolver>) -> Result<Self, Problems> {
        let text = fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
        let secrets = resolver.settings().secrets.stamp();
        Ok(Self { path: path.to_owned(), resolver, started: toml::from_str(&text).unwrap_or_default(), secrets })
    }

    /// Takes the profiles and secrets of the file as it is now.
    ///
    /// # Errors
    /// What is wrong with the file; then everything stays as it was.
    pub fn reload(&mut self) -> Result<Reloaded, Problems> {
        let text = fs::read_to_string(&self.path).map_err(|e| Problems::unreadable(&self.path, &e))?;
        let checked = config::parse(&self.path.display().to_string(), &text, &|name| env::var(name).ok())?;
        let now: toml::Table = toml::from_str(&text).unwrap_or_default();
        let before = self.resolver.settings();
        let is_as_started = |name: &str| stream(&now, name) == stream(&self.started, name);
        let mut streams = before.streams.clone();
        for stream in checked.streams {
            let name = stream.name.to_string();
            if is_as_started(&name) {
                streams.insert(name, stream);
            }
        }
        let secrets = checked.secrets.in_folder_of(&before.secrets);
        self.secrets = secrets.stamp();
        self.resolver.replace(Settings { profiles: checked.profiles, rules: checked.rules, secrets, streams });
        let tables: BTreeSet<_> = now.keys().chain(self.started.keys()).map(String::as_str).collect();
        let changed = tables.into_iter().filter(|name| !TAKEN.contains(name) && *name != "streams");
        let changed = changed.filter(|name| now.get(*name) != self.started.get(*name)).map(str::to_owned);
        let names: BTreeSet<_> = names(&now).chain(names(&self.started)).collect();
        let streams = names.into_iter().filter(|name| !is_as_started(name)).map(|name| format!("streams.{name}"));
        Ok(Reloaded { needs_restart: changed.chain(streams).collect() })
    }

    /// Tells the resolver when a secret has changed.
    pub fn look_at_secrets(&mut self) {
        let stamp = self.resolver.settings().secrets.stamp();
        if stamp != self.secrets {
            self.secrets = stamp;
            tracing::info!("secrets have changed: streams that use them are started anew");
            self.resolver.tell_of_change();
        }
    }

    fn on_signal(&mut self) {
        match self.reload() {
            Ok(Reloaded { needs_restart }) => {
                tracing::info!(file = %self.path.display(), "profiles, rules and secrets are read again");
                for table in needs_restart {
                    tracing::warn!(
                        table,
                        "this part of the configuration has changed, and is taken at the next start only"
                    );
                }
            }
            Err(problems) => {
                tracing::error!(
                    "the configuration has mistakes; profiles, rules and secrets stay as they were:\n{problems}"
                )
            }
        }
    }

    /// Starts the thread. From now on SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// When the system has no thread or no signals left.
    pub fn watch(mut self, shutdown: Shutdown) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut hangup = {
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        std::thread::Builder::new().name("reload".into()).spawn(move || {
            runtime.block_on(async {
                let (mut look, mut stop) = (interval(LOOK), interval(STOP_WITHIN));
                look.set_missed_tick_behavior(MissedTickBehavior::Delay);
                stop.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !shutdown.is_triggered() {
                    tokio::select! {
                        _ = hangup.recv() => self.on_signal(),
                        _ = look.tick() => self.look_at_secrets(),
                        _ = stop.tick() => {}
                    }
                }
            });
        })
    }
}

fn stream<'a>(file: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    file.get("streams")?.get(name)
}

fn names(file: &toml::Table) -> impl Iterator<Item = &str> {
    file.get("streams").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use base::time::SystemClock;

    use super::*;
    use crate::control::{attachment::Attachment, keeper::resolve::fingerprint};

    const STREAMS: &str = "[streams.fixed]\nurl = 'test://'\n[streams.other]\nurl = 'test://'\n";

    struct Scene {
        dir: tempfile::TempDir,
        resolver: Arc<Resolver>,
        reloader: Reloader,
    }

    impl Scene {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().expect("dir");
            fs::create_dir(dir.path().join("cam")).expect("folder");
            fs::write(dir.path().join("cam/password"), "first").expect("file");
            let path = dir.path().join("eyewitness.toml");
            let text = format!("{text}[attachments]\nsecrets_folder = '{}'\n", dir.path().display());
            fs::write(&path, &text).expect("file");
            let checked = config::load(&path).map_err(|e| e.to_string()).expect("good");
            let streams = checked.streams.into_iter().map(|stream| (stream.name.to_string(), stream)).collect();
            let resolver = Resolver::new(Settings {
                profiles: checked.profiles,
                rules: checked.rules,
                secrets: checked.secrets,
                streams,
            });
            let reloader = Reloader::new(&path, Arc::clone(&resolver)).map_err(|e| e.to_string()).expect("file");
            Self { dir, resolver, reloader }
        }

        fn write(&self, text: &str) {
            let text = format!("{text}[attachments]\nsecrets_folder = '{}'\n", self.dir.path().display());
            fs::write(self.dir.path().join("eyewitness.toml"), text).expect("file");
        }

        fn meaning(&self, attachment: &str) -> Result<(String, String), String> {
            let attachment: Attachment = toml::from_str(attachment).expect("attachment");
            let resolved = self.resolver.resolve("cam", &attachment).map_err(|e| e.join("; "))?;
            Ok((resolved.profile, resolved.stream.url.expose().to_owned()))
        }
    }

    #[test]
    fn a_changed_file_is_taken() {
        let mut scene = Scene::new(STREAMS);
        let plain = "url = 'test://'";
        let secret = "url = 'rtsp://h/1'\ncredentials = 'new'";
        assert_eq!(scene.meaning(plain).expect("good").0, "default");
        assert!(scene.meaning(secret).expect_err("no secret").contains("no secret is called `new`"));
        let profiles = "[profiles.mine]\nselect = { names = ['cam', 'fixed'] }\nclasses = ['dog']\n";
        scene.write(&format!("{STREAMS}{profiles}[secrets.new]\nuser = 'u'\n"));
        let reloaded = scene.reloader.reload().map_err(|e| e.to_string()).expect("good");
        assert_eq!(reloaded.needs_restart, [""; 0]);
        assert_eq!(scene.resolver.generation(), 1);
        assert_eq!(scene.meaning(plain).expect("good").0, "mine");
        assert_eq!(scene.meaning(secret).expect("good").1, "rtsp://u@h/1");
        // The file's own streams find their new profile as well.
        let settings = scene.resolver.settings();
        assert_eq!(settings.streams["fixed"].profile.classes, ["dog"]);
        assert!(settings.streams["other"].profile.classes.is_empty());
    }

    #[test]
    fn only_what_a_stream_runs_on_counts_as_its_change() {
        let print = |scene: &Scene, attachment: &str| {
            let attachment: Attachment = toml::from_str(attachment).expect("attachment");
            fingerprint(
                &crate::control::keeper::resolve::Resolve::resolve(&scene.resolver, "cam", &attachment).expect("good"),
            )
        };
        let (plain, secret) = ("url = 'test://'", "url = 'rtsp://h/1'\ncredentials = 'cam'");
        let mut scene = Scene::new("[profiles.a]\nselect = { names = ['cam'] }\n");
        let before = (print(&scene, plain), print(&scene, secret));
        let mut after = |text: &str| {
            scene.write(text);
            scene.reloader.reload().map_err(|e| e.to_string()).expect("good");
            (print(&scene, plain), print(&scene, secret))
        };
        assert_eq!(after("[profiles.a]\nselect = { names = ['c*'] }\n[profiles.b]\ntrack = false\n"), before);
        assert_ne!(
            after(
                "[profiles.a]\nselect = { names = ['x'] }\ntrack = false\n[profiles.b]\nselect = { names = ['c*'] }\nclasses = ['dog']\n"
            ),
            before
        );
        assert_eq!(after("[profiles.a]\nselect = { names = ['cam'] }\n"), before);
        fs::write(scene.dir.path().join("cam/password"), "second").expect("file");
        assert_eq!(print(&scene, plain), before.0);
        assert_ne!(print(&scene, secret), before.1);
    }

    #[test]
    fn other_rules_do_not_disturb_a_stream() {
        use crate::control::keeper::resolve::{Resolve as _, fingerprint_of_rules};
        let rule = |name: &str, more: &str| format!("[rules.{name}]\n{more}\nwhen = {{ type = 'appeared' }}\n");
        let mut scene = Scene::new(STREAMS);
        let attachment: Attachment = toml::from_str("url = 'test://'").expect("attachment");
        let mut after = |text: &str| {
            scene.write(&format!("{STREAMS}{text}"));
            scene.reloader.reload().map_err(|e| e.to_string()).expect("good");
            let attached = Resolver::resolve(&scene.resolver, "cam", &attachment).expect("good").stream;
            let fixed = scene.resolver.fixed("fixed").expect("it is there");
            assert_eq!(fingerprint_of_rules(&attached.rules), fingerprint_of_rules(&fixed.rules));
            (fingerprint(&fixed), fingerprint_of_rules(&fixed.rules))
        };
        let (plain, one, other) = (after(""), after(&rule("a", "")), after(&rule("b", "")));
        let (milder, again) = (after(&rule("a", "severity = 'info'")), after(&rule("a", "")));
        let elsewhere = after(&rule("a", "select = { names = ['x'] }"));
        assert!([one, other, milder, again, elsewhere].iter().all(|print| print.0 == plain.0), "none starts anew");
        assert_eq!((one.1, plain.1), (again.1, elsewhere.1));
        assert_eq!(std::collections::BTreeSet::from([plain.1, one.1, other.1, milder.1]).len(), 4);
    }

    #[test]
    fn a_wrong_file_changes_nothing() {
        let mut scene = Scene::new("[profiles.mine]\nselect = { names = ['cam'] }\n");
        scene.write("[profiles.mine]\nselct = { names = ['cam'] }\n[secrets.a]\npassword = 'hunter2'\n");
        let told = scene.reloader.reload().expect_err("wrong").to_string();
        assert!(told.contains("did you mean `select`") && !told.contains("hunter2"), "{told}");
        assert_eq!(
            (scene.resolver.generation(), scene.meaning("url = 'test://'").expect("good").0.as_str()),
            (0, "mine")
        );
    }

    #[test]
    fn what_needs_a_restart_is_told() {
        let mut scene = Scene::new(STREAMS);
        let changed = STREAMS.replacen("test://", "test://?width=320&height=240", 1);
        scene.write(&format!("{changed}[streams.third]\nurl = 'test://'\n[service]\ngrace_secs = 1\n[profiles.default]\nclasses = ['cat']\n"));
        let reloaded = scene.reloader.reload().map_err(|e| e.to_string()).expect("good");
        assert_eq!(reloaded.needs_restart, ["service", "streams.fixed", "streams.third"]);
        let settings = scene.resolver.settings();
        assert_eq!(settings.streams.keys().collect::<Vec<_>>(), ["fixed", "other"]);
        assert_eq!(settings.streams["other"].profile.classes, ["cat"]);
        assert_eq!(settings.streams["fixed"].url.expose(), "test://", "as it runs");
    }

    #[test]
    fn a_changed_secret_is_noticed() {
        let mut scene = Scene::new("");
        let attachment = "url = 'rtsp://h/1'\ncredentials = 'cam'";
        assert_eq!(scene.meaning(attachment).expect("good").1, "rtsp://:first@h/1");
        scene.reloader.look_at_secrets();
        assert_eq!(scene.resolver.generation(), 0);
        fs::write(scene.dir.path().join("cam/password"), "second").expect("file");
        scene.reloader.look_at_secrets();
        scene.reloader.look_at_secrets();
        assert_eq!(scene.resolver.generation(), 1);
        assert_eq!(scene.meaning(attachment).expect("good").1, "rtsp://:second@h/1");
    }

    #[test]
    fn a_real_signal_reloads() {
        let Scene { dir, resolver, reloader } = Scene::new("");
        let shutdown = Shutdown::default();
        let thread = reloader.watch(shutdown.clone()).expect("thread");
        fs::write(dir.path().join("eyewitness.toml"), "[profiles.all]\nselect = { names = ['*'] }\n").expect("file");
        let pid = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
        let clock = SystemClock::new();
        while resolver.generation() == 0 {
            assert!(clock.monotonic() < Duration::from_secs(60), "the signal was not heard");
            std::thread::sleep(Duration::from_millis(10));
        }
        let attachment: Attachment = toml::from_str("url = 'test://'").expect("attachment");
        assert_eq!(resolver.profile("cam", &attachment), "all");
        shutdown.trigger();
        thread.join().expect("thread");
    }
}
