//! A real folder, a real desk; the keeper is played by whoever answers.

use std::{fs, os::unix::fs::symlink, path::Path};

use base::queue::{Received, Receiver, WhenFull, queue};

use super::*;
use crate::control::{
    attachment::{Attachment, Origin},
    desk::{Board, Granted, Listed, Refused, Request, Wish},
    resolver::Settings,
    secrets::Secrets,
};

/// The folder with a thread's work done by hand.
struct Scene {
    dir: tempfile::TempDir,
    resolver: Arc<Resolver>,
    files: Files,
    sync: Sync,
    desk: Desk,
    board: Arc<Board>,
    requests: Receiver<Request>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let profiles = toml::from_str("people = {}").expect("profiles");
        let resolver = Resolver::new(Settings { profiles, ..Settings::default() });
        let (sender, requests) = queue("wishes", 1024, WhenFull::DropNewest);
        let board = Arc::new(Board::default());
        let desk = Desk::new(sender, Arc::clone(&board));
        let files = Files::new(dir.path());
        Self { dir, resolver, files, sync: Sync::default(), desk, board, requests }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).expect("file");
    }

    /// Looks until nothing changes any more; gives what is told about files and names.
    fn settle(&mut self) -> Vec<String> {
        while !self.files.look(&self.resolver) {}
        self.files.told()
    }

    /// What is wanted, as `name url`.
    fn wanted(&self) -> Vec<String> {
        self.files.wanted().streams.iter().map(|(name, attachment)| format!("{name} {}", attachment.url)).collect()
    }

    /// One step of asking; the keeper grants everything, and shows it.
    fn step(&mut self) -> Vec<String> {
        self.step_with(|_| Ok(()))
    }

    fn step_with(&mut self, answer: impl Fn(&Wish) -> Result<(), Refused>) -> Vec<String> {
        self.sync.step(&self.files.wanted(), &self.desk);
        let mut asked = Vec::new();
        while let Received::Item(Request { wish, origin, reply }) = self.requests.recv_timeout(Duration::ZERO) {
            assert_eq!(origin, Origin::Folder);
            let outcome = answer(&wish);
            match wish {
                Wish::Put { name, attachment } => {
                    asked.push(format!("put {name} {}", attachment.url));
                    if outcome.is_ok() {
                        self.board.show(&name, listed(*attachment, Origin::Folder));
                    }
                }
                Wish::Remove { name } => {
                    asked.push(format!("remove {name}"));
                    if outcome.is_ok() {
                        self.board.forget(&name);
                    }
                }
                Wish::Patch { .. } => panic!("the folder changes nothing in parts"),
            }
            reply
                .send(outcome.map(|()| Granted { created: true, changed: true, revision: 1 }))
                .expect("somebody waits");
        }
        self.sync.take_answers();
        asked
    }
}

fn listed(attachment: Attachment, origin: Origin) -> Listed {
    Listed { attachment, origin, revision: 1, profile: "default".into(), report: None }
}

fn stream(name: &str, more: &str) -> String {
    format!("[streams.{name}]\nurl = 'rtsp://h/{name}'\n{more}\n")
}

#[test]
fn what_the_files_say_is_attached() {
    let mut scene = Scene::new();
    scene.write("a.toml", &(stream("one", "") + &stream("two", "tags = { Location = 'Front' }\nweight = 2.0")));
    scene.write("b.json", r#"{"streams": {"three": {"url": "rtsp://h/three", "profile": "people"}}}"#);
    scene.write(".hidden.toml", "not = 'read'");
    scene.write("readme.md", "not read");
    assert_eq!(scene.settle(), [""; 0]);
    let puts = ["put one rtsp://h/one", "put three rtsp://h/three", "put two rtsp://h/two"];
    assert_eq!(scene.step(), puts);
    assert_eq!(scene.step(), [""; 0], "all is as it should be");
    // A change, a table less, a file less.
    scene.write("a.toml", "[streams.one]\nurl = 'rtsp://h/uno'\n");
    scene.settle();
    assert_eq!(scene.step(), ["put one rtsp://h/uno", "remove two"]);
    scene.remove("b.json");
    scene.settle();
    assert_eq!(scene.step(), ["remove three"]);
    assert_eq!(scene.step(), [""; 0]);
    let expected: Attachment = toml::from_str("url = 'rtsp://h/uno'").expect("attachment");
    assert_eq!(scene.board.stream("one").expect("shown").attachment, expected);
}

#[test]
fn a_file_is_taken_when_it_is_the_same_twice() {
    let mut scene = Scene::new();
    scene.write("a.toml", &stream("one", ""));
    assert!(!scene.files.look(&scene.resolver));
    assert_eq!(scene.wanted(), [""; 0]);
    scene.write("a.toml", &(stream("one", "") + &stream("two", "")));
    assert!(!scene.files.look(&scene.resolver), "it is being written");
    assert!(scene.files.look(&scene.resolver));
    assert_eq!(scene.wanted(), ["one rtsp://h/one", "two rtsp://h/two"]);
    // Taken away for a moment, as some editors do.
    scene.step();
    scene.remove("a.toml");
    assert!(!scene.files.look(&scene.resolver));
    assert_eq!(scene.step(), [""; 0]);
    scene.write("a.toml", &(stream("one", "") + &stream("two", "")));
    assert!(!scene.files.look(&scene.resolver));
    assert!(scene.files.look(&scene.resolver));
    assert_eq!(scene.step(), [""; 0]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let check = |file: &str, text: &str, line: usize, expected: &str| {
        let mut scene = Scene::new();
        scene.write(file, text);
        let told = scene.settle().join("\n");
        assert!(told.contains(expected) && told.contains(&format!("{file}:{line}:")), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(scene.wanted(), [""; 0]);
    };
    check("a.toml", "[streams.a]\nurl = 'test://'\nprofil = 'x'", 3, "did you mean `profile`");
    check("a.toml", "[stream.a]\nurl = 'test://'", 1, "did you mean `streams`");
    check("a.toml", "[streams.a]\nurl = 'test://'\nprofile = 'peple'", 3, "did you mean `people`");
    check("a.toml", "[streams.a]\nurl = 'rtsp://u:hunter2@h/'", 2, "name it in `credentials`");
    check("a.toml", "[streams.a]\nurl = 'test://'\nweight = 0", 3, "must be a number above 0");
    check("a.toml", "[streams.'a b']\nurl = 'test://'", 1, "is no stream name");
    check("a.json", "{\"streams\": {\"a\": {\"url\": \"test://\",\n\"profil\": \"x\"}}}", 2, "did you mean `profile`");
    check("a.json", "{\"streams\": {\n\"a\": {\n\"url\": \"rtsp://u:hunter2@h/\"}}}", 3, "name it in `credentials`");
    check("a.json", "{\"streams\": {\n\"a\": {\n\"url\": \"test://\",\n\"password\": \"hunter2\"}}}", 4, "unknown key");
}

#[test]
fn a_wrong_file_changes_nothing() {
    let mut scene = Scene::new();
    scene.write("a.toml", &stream("one", ""));
    scene.write("b.toml", &stream("two", ""));
    scene.settle();
    scene.step();
    scene.write("a.toml", "[streams.one]\nurll = 'test://'");
    assert_eq!(scene.settle().len(), 1);
    assert_eq!(scene.step(), [""; 0], "what it said before holds");
    // Others go on.
    scene.write("b.toml", &stream("three", ""));
    scene.settle();
    assert_eq!(scene.step(), ["put three rtsp://h/three", "remove two"]);
    scene.write("a.toml", &stream("four", ""));
    assert_eq!(scene.settle(), [""; 0]);
    assert_eq!(scene.step(), ["put four rtsp://h/four", "remove one"]);
}

#[test]
fn nothing_is_detached_on_the_word_of_what_cannot_be_read() {
    let mut scene = Scene::new();
    let before: Attachment = toml::from_str("url = 'test://'").expect("attachment");
    scene.board.show("of-yesterday", listed(before, Origin::Folder));
    // Wrong from the start: what was attached before may stand in there.
    scene.write("a.toml", "[streams.of-yesterday]\nur = 'test://'");
    scene.write("b.toml", &stream("new", ""));
    scene.settle();
    assert_eq!(scene.step(), ["put new rtsp://h/new"]);
    let folder = scene.dir.path().join("gone");
    scene.files = Files::new(&folder);
    assert!(!scene.files.look(&scene.resolver));
    assert!(scene.files.told()[0].contains("cannot read the folder"), "{:?}", scene.files.told());
    assert_eq!(scene.step(), [""; 0]);
    fs::create_dir(&folder).expect("folder");
    scene.settle();
    assert_eq!(scene.step(), ["remove new", "remove of-yesterday"], "an empty folder wants nothing");
}

#[test]
fn a_name_in_two_files_is_a_mistake() {
    let mut scene = Scene::new();
    scene.write("b.toml", &stream("one", ""));
    scene.settle();
    scene.step();
    scene.write("a.toml", "[streams.one]\nurl = 'rtsp://h/other'\n[streams.two]\nurl = 'test://'");
    let told = scene.settle().join("\n");
    assert!(told.contains("stream `one` stands in") && told.contains("a.toml and in"), "{told}");
    assert!(told.contains("b.toml says holds"), "{told}");
    assert_eq!(scene.step(), ["put two test://"]);
    // Taken out of the first one, the second one's holds.
    scene.write("b.toml", "");
    assert_eq!(scene.settle(), [""; 0]);
    assert_eq!(scene.step(), ["put one rtsp://h/other"]);
    // Two that come at once: neither is taken, and none is detached.
    let mut scene = Scene::new();
    let before: Attachment = toml::from_str("url = 'test://'").expect("attachment");
    scene.board.show("one", listed(before, Origin::Folder));
    scene.write("a.toml", &stream("one", ""));
    scene.write("b.toml", &stream("one", ""));
    assert!(scene.settle().join("\n").contains("neither holds"));
    assert_eq!(scene.step(), [""; 0]);
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let mut scene = Scene::new();
    let theirs: Attachment = toml::from_str("url = 'rtsp://h/theirs'").expect("attachment");
    scene.board.show("one", listed(theirs.clone(), Origin::Api));
    scene.board.show("two", listed(theirs.clone(), Origin::Config));
    scene.board.show("three", listed(theirs, Origin::Api));
    scene.write("a.toml", &(stream("one", "") + &stream("two", "")));
    scene.settle();
    assert_eq!(scene.step(), [""; 0]);
    // Detached by whoever attached it, it is the folder's.
    scene.board.forget("one");
    assert_eq!(scene.step(), ["put one rtsp://h/one"]);
}

#[test]
fn what_could_not_be_done_is_tried_again() {
    let mut scene = Scene::new();
    scene.write("a.toml", &stream("one", ""));
    scene.settle();
    let away = |_: &Wish| Err(Refused::Unavailable("Kafka is away".into()));
    for _ in 0..3 {
        assert_eq!(scene.step_with(away), ["put one rtsp://h/one"]);
    }
    assert_eq!(scene.step(), ["put one rtsp://h/one"]);
    assert_eq!(scene.step(), [""; 0]);
}

#[test]
fn a_mistake_of_profiles_or_secrets_is_judged_anew() {
    let mut scene = Scene::new();
    scene.write("a.toml", "[streams.one]\nurl = 'rtsp://h/1'\ncredentials = 'cam'");
    assert_eq!(scene.settle().len(), 1);
    assert_eq!(scene.wanted(), [""; 0]);
    let secrets = Secrets::new(toml::from_str("cam.user = 'u'").expect("secrets"), None);
    scene.resolver.replace(Settings { secrets, ..Settings::default() });
    assert_eq!(scene.settle(), [""; 0]);
    assert_eq!(scene.wanted(), ["one rtsp://h/1"]);
}

/// A ConfigMap as Kubernetes mounts it: files are links through `..data`, which is exchanged.
#[test]
fn a_mounted_config_map_is_followed() {
    let mut scene = Scene::new();
    let mount = |dir: &Path, date: &str, text: &str| {
        fs::create_dir(dir.join(date)).expect("folder");
        fs::write(dir.join(date).join("cameras.toml"), text).expect("file");
        symlink(date, dir.join("..data_tmp")).expect("link");
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("exchange");
        let _ = symlink("..data/cameras.toml", dir.join("cameras.toml"));
    };
    mount(scene.dir.path(), "..1", &stream("one", ""));
    scene.settle();
    assert_eq!(scene.step(), ["put one rtsp://h/one"]);
    mount(scene.dir.path(), "..2", &stream("two", ""));
    fs::remove_dir_all(scene.dir.path().join("..1")).expect("old one");
    scene.settle();
    assert_eq!(scene.step(), ["put two rtsp://h/two", "remove one"]);
}

/// The thread itself: it follows only while it leads.
#[test]
fn the_thread_follows_while_it_leads() {
    let Scene { dir, resolver, desk, board, requests, .. } = Scene::new();
    let (leads, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::default());
    fs::write(dir.path().join("a.toml"), stream("one", "")).expect("file");
    let folder =
        Folder { path: dir.path().into(), resolver, desk, leads: Arc::clone(&leads), shutdown: shutdown.clone() };
    let thread = folder.watch().expect("thread");
    assert!(matches!(requests.recv_timeout(LOOK_AGAIN * 3), Received::TimedOut), "it does not lead");
    leads.store(true, Relaxed);
    let Received::Item(Request { wish, reply, .. }) = requests.recv_timeout(Duration::from_secs(60)) else {
        panic!("nothing is asked");
    };
    let Wish::Put { name, attachment } = wish else { panic!("{wish:?}") };
    assert_eq!(name, "one");
    board.show(&name, listed(*attachment, Origin::Folder));
    reply.send(Ok(Granted { created: true, changed: true, revision: 1 })).expect("it waits");
    fs::remove_file(dir.path().join("a.toml")).expect("file");
    let Received::Item(Request { wish, .. }) = requests.recv_timeout(Duration::from_secs(60)) else {
        panic!("nothing is asked");
    };
    assert_eq!(wish, Wish::Remove { name: "one".into() });
    shutdown.trigger();
    thread.join().expect("thread");
}
