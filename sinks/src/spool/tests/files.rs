//! The files: locked, of others, damaged, set aside.
