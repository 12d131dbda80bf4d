//! The `eyewitness` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    eyewitness::memory::make_do_with_few_arenas();
    eyewitness::cli::main()
}
