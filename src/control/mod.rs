//! The control plane: which streams are attached, which worker runs them, and how they are started, moved and stopped.
//!
//! ```text
//! REST, CLI, folder -> requests -> keeper (one thread, a state machine) -> plane (sinks::control: SQLite or Kafka)
//!                                     |  ^ news                             |
//!                                     v  +----------------------------------+
//!                                  stage (the topology: starts and stops streams)
//! ```

pub mod attachment;
pub mod check;
pub mod desk;
pub mod fence;
pub mod folder;
pub mod keeper;
pub mod reload;
pub mod report;
pub mod resolver;
pub mod rules;
pub mod secrets;
pub mod selectors;
pub mod stage;
