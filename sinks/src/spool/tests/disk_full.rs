//! A full disk: a small tmpfs.
