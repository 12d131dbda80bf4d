//! What the files of the folder say. Reads files; hands nothing on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    config::{
        json::key_in_json,
        places::Places,
        problem::{Problem, Problems},
    },
    control::{attachment::Attachment, resolver::Resolver},
};

/// Longer files are no lists of streams.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What one file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// By name.
    #[serde(default)]
    streams: Streams,
}

type Streams = BTreeMap<String, Attachment>;

/// The folder, as it was at the last look.
pub(super) struct Files {
    folder: PathBuf,
    known: BTreeMap<PathBuf, File>,
    /// Which file a stream that is in force stands in.
    homes: BTreeMap<String, PathBuf>,
    /// Names that stand in several files.
    disputed: BTreeSet<String>,
    /// At the last look the folder could be read, and every file was the same as at the look before.
    settled: bool,
    /// Under which of the resolver's generations the files were judged.
    generation: u64,
    /// What was told about the folder as a whole, and about names in several files: once is enough.
    told: BTreeSet<String>,
}

#[derive(Default)]
struct File {
    /// What was read at the last look, or why it could not be.
    seen: Option<Result<String, String>>,
    /// It was the same at the look before, and was judged.
    judged: bool,
    /// It was not there at the last look.
    missing: bool,
    /// The last good content; none: there never was any.
    good: Option<Streams>,
    /// What was told about it.
    told: Option<String>,
}

/// What is to be attached.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// By name.
    pub(super) streams: Streams,
    /// What may not be detached, although it is not wanted: what is in several files.
    pub(super) keep: BTreeSet<String>,
    /// Whether it is known of everything else that it is not wanted.
    pub(super) complete: bool,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            known: BTreeMap::new(),
            homes: BTreeMap::new(),
            disputed: BTreeSet::new(),
            settled: false,
            generation: 0,
            told: BTreeSet::new(),
        }
    }

    /// Reads the folder; tells mistakes. Gives whether everything was the same as at the last look.
    pub(super) fn look(&mut self, resolver: &Resolver) -> bool {
        let mut trouble = BTreeSet::new();
        let listed = list(&self.folder, &mut trouble);
        self.settled = listed.is_some();
        if let Some(listed) = listed {
            for path in listed {
                self.known.entry(path).or_default();
            }
            // Mistakes that profiles and secrets have a part in are looked at again when those change.
            let generation = resolver.generation();
            let anew = std::mem::replace(&mut self.generation, generation) != generation;
            let settled = &mut self.settled;
            self.known.retain(|path, file| {
                let is_there = file.look(path, anew, resolver, settled);
                if !is_there {
                    tracing::info!(file = %path.display(), "a file of attachments is gone");
                }
                is_there
            });
            self.find_homes(&mut trouble);
        }
        for new in trouble.difference(&self.told) {
            tracing::error!("attachments: {new}");
        }
        self.told = trouble;
        self.settled
    }

    /// What is to be attached by now.
    pub(super) fn wanted(&self) -> Wanted {
        let content = |(name, home): (&String, &PathBuf)| {
            Some((name.clone(), self.known.get(home)?.good.as_ref()?.get(name)?.clone()))
        };
        Wanted {
            streams: self.homes.iter().filter_map(content).collect(),
            keep: self.disputed.clone(),
            complete: self.settled && self.known.values().all(|file| file.good.is_some()),
        }
    }

    /// A name in two files is a mistake; the file that had it first keeps it.
    fn find_homes(&mut self, trouble: &mut BTreeSet<String>) {
        let mut found: BTreeMap<&String, Vec<&PathBuf>> = BTreeMap::new();
        for (path, file) in &self.known {
            for name in file.good.iter().flat_map(Streams::keys) {
                found.entry(name).or_default().push(path);
            }
        }
        let mut homes = BTreeMap::new();
        self.disputed.clear();
        for (name, paths) in found {
            let before = self.homes.get(name).filter(|home| paths.contains(home));
            match (paths.as_slice(), before) {
                ([home], _) => {
                    homes.insert(name.clone(), (*home).clone());
                }
                (_, before) => {
                    let all: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                    let holds = match before {
                        Some(home) => format!("what {} says holds", home.display()),
                        None => "neither holds".to_owned(),
                    };
                    trouble.insert(format!(
                        "stream `{name}` stands in {}: take it out of all but one; until then {holds}",
                        all.join(" and in ")
                    ));
                    self.disputed.insert(name.clone());
                    homes.extend(before.map(|home| (name.clone(), home.clone())));
                }
            }
        }
        self.homes = homes;
    }
}

impl File {
    /// Gives whether the file is still there. `anew`: it is judged again even if it is the same.
    fn look(&mut self, path: &Path, anew: bool, resolver: &Resolver, settled: &mut bool) -> bool {
        let seen = match read(path) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Whoever replaces a file may have taken the old one away first.
                *settled &= self.missing;
                return !std::mem::replace(&mut self.missing, true);
            }
            Err(e) => Err(e.to_string()),
        };
        let was_missing = std::mem::take(&mut self.missing);
        if was_missing || self.seen.as_ref() != Some(&seen) {
            (self.seen, self.judged) = (Some(seen), false);
            *settled = false;
            return true;
        }
        if self.judged && !anew {
            return true;
        }
        self.judged = true;
        let streams = match &seen {
            Ok(text) => judge(path, text, resolver).map_err(|problems| problems.to_string()),
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        };
        match streams {
            Ok(streams) => {
                let (file, n_streams) = (path.display(), streams.len());
                if self.good.as_ref() != Some(&streams) {
                    tracing::info!(%file, n_streams, "a file of attachments is taken");
                }
                (self.good, self.told) = (Some(streams), None);
            }
            Err(told) => {
                if self.told.as_ref() != Some(&told) {
                    let holds = match &self.good {
                        Some(_) => "what it said before stays in force",
                        None => "until it is right, nothing of this folder is detached",
                    };
                    tracing::error!("a file of attachments has mistakes; {holds}:\n{told}");
                }
                self.told = Some(told);
            }
        }
        true
    }
}

/// The files of the folder that hold attachments; none when it cannot be read.
fn list(folder: &Path, trouble: &mut BTreeSet<String>) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(e) => {
            trouble.insert(format!(
                "cannot read the folder {}: {e}; what it said before stays in force",
                folder.display()
            ));
            return None;
        }
    };
    let mut paths = Vec::new();
    for path in entries.into_iter().map(|entry| entry.path()) {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if is_hidden => {}
            Some("toml" | "json") if !path.is_dir() => paths.push(path),
            Some("yaml" | "yml") => {
                trouble.insert(format!("{} is not read: write attachments as `.toml` or `.json`", path.display()));
            }
            _ => {}
        }
    }
    Some(paths)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES { Err(io::Error::other("it is too long")) } else { Ok(text) }
}

/// What a file says, or all that is wrong with it.
fn judge(path: &Path, text: &str, resolver: &Resolver) -> Result<Streams, Problems> {
    let told = |problems| Problems::new(&path.display().to_string(), text, problems);
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let read: Result<Content, Problem> = if is_json {
        serde_json::from_str(text).map_err(|e| Problem::from_json(text, &e))
    } else {
        toml::from_str(text).map_err(|e| Problem::from_toml(text, &e))
    };
    let Content { streams } = read.map_err(|problem| told(vec![problem]))?;
    let places = Places::read(if is_json { "" } else { text });
    let mut problems = Vec::new();
    for (name, attachment) in &streams {
        for wrong in resolver.validate(name, attachment).err().unwrap_or_default() {
            let place = if is_json {
                key_in_json(text, &["streams", name], &wrong)
            } else {
                place_in_toml(&places, name, &wrong)
            };
            problems.push(Problem::at(place, format!("stream `{name}`: {wrong}")));
        }
    }
    if problems.is_empty() { Ok(streams) } else { Err(told(problems)) }
}

/// Where the key stands that is wrong: rules are named with all the keys that they are in.
fn place_in_toml(places: &Places<'_>, stream: &str, wrong: &str) -> Range<usize> {
    let key = wrong.split('`').nth(1).filter(|key| key.starts_with("rules."));
    match key {
        Some(key) => {
            // A place in a list is a place of the list.
            let known: Vec<&str> = key.split('.').take_while(|part| part.parse::<usize>().is_err()).collect();
            places.of_dotted(&["streams", stream], &known.join("."))
        }
        None => places.named(&["streams", stream], wrong),
    }
}

#[cfg(test)]
impl Files {
    /// What is wrong at the moment.
    pub(super) fn told(&self) -> Vec<String> {
        self.told.iter().cloned().chain(self.known.values().filter_map(|file| file.told.clone())).collect()
    }
}
