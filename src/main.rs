//! The `inhaul` program: hands the arguments to the library, returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    inhaul::cli::main(std::env::args_os())
}
