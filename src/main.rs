//! The `eyewitness` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    eyewitness::cli::main()
}
