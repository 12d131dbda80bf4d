//! The HTTP service in this process, fed with real events and read by strangers: Python's standard library, its
//! `websockets`, `webvtt-py`, curl, Chromium, and requests written by hand.

mod attach;
mod commands;
mod desk;
mod feed;
mod gate;
mod history;
mod live;
mod operating;
mod page;
mod rules;
mod running;
pub(crate) mod served;
mod service;
mod speak;
