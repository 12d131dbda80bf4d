//! From what the folder wants to wishes: compares with the board, asks the keeper, tries again what could not be done.

use std::collections::BTreeMap;

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::files::Wanted;
use crate::control::{
    attachment::Origin,
    desk::{Desk, Granted, Listed, Refused, Wish},
};

/// Wishes on their way at once: the keeper's queue is for others as well.
const MOST_ASKED: usize = 256;

/// What was asked, and what was told.
#[derive(Default)]
pub(super) struct Sync {
    asked: BTreeMap<String, Receiver<Result<Granted, Refused>>>,
    /// By stream: why it is not as the folder wants it. Told once.
    told: BTreeMap<String, String>,
}

impl Sync {
    /// Takes answers, and asks for what differs. Gives whether no answer is awaited.
    pub(super) fn step(&mut self, wanted: &Wanted, desk: &Desk) -> bool {
        self.take_answers();
        let board: BTreeMap<_, _> = desk.board().streams().into_iter().collect();
        self.told.retain(|name, _| wanted.streams.contains_key(name) || board.contains_key(name));
        for (name, attachment) in &wanted.streams {
            let wish = || Wish::Put { name: name.clone(), attachment: Box::new(attachment.clone()) };
            match board.get(name) {
                Some(Listed { origin: Origin::Folder, attachment: shown, .. }) if shown == attachment => {
                    self.told.remove(name);
                }
                None | Some(Listed { origin: Origin::Folder, .. }) => self.ask(name, wish(), desk),
                Some(Listed { origin: Origin::Api, .. }) => {
                    self.tell(name, "it was attached by a request; detach it, and the folder's is taken");
                }
                Some(Listed { origin: Origin::Config, .. }) => {
                    self.tell(name, "it stands in the configuration file; take it out of there or out of the folder");
                }
            }
        }
        if wanted.complete {
            let of_folder = board.iter().filter(|(_, listed)| listed.origin == Origin::Folder);
            for (name, _) in of_folder {
                if !wanted.streams.contains_key(name) && !wanted.keep.contains(name) {
                    self.ask(name, Wish::Remove { name: name.clone() }, desk);
                }
            }
        }
        self.asked.is_empty()
    }

    pub(super) fn take_answers(&mut self) {
        let mut refused = Vec::new();
        self.asked.retain(|name, answer| match answer.try_recv() {
            Err(TryRecvError::Empty) => true,
            // No room with the keeper: the next look asks again.
            Err(TryRecvError::Closed) | Ok(Ok(_) | Err(Refused::Missing(_))) => false,
            Ok(Err(Refused::Unavailable(why))) => {
                refused.push((name.clone(), format!("{why}; it is tried again")));
                false
            }
            Ok(Err(why)) => {
                refused.push((name.clone(), why.to_string()));
                false
            }
        });
        for (name, why) in refused {
            self.tell(&name, &why);
        }
    }

    fn ask(&mut self, name: &str, wish: Wish, desk: &Desk) {
        if self.asked.len() < MOST_ASKED && !self.asked.contains_key(name) {
            self.asked.insert(name.to_owned(), desk.ask(wish, Origin::Folder));
        }
    }

    fn tell(&mut self, name: &str, why: &str) {
        if self.told.get(name).is_none_or(|told| told != why) {
            tracing::warn!(stream = name, "not as the folder of attachments says: {why}");
            self.told.insert(name.to_owned(), why.to_owned());
        }
    }
}
