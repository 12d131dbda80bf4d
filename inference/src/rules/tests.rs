//! What rules make of what happens, as data.
