//! The `strata` command.

mod cli;

fn main() -> std::process::ExitCode {
    cli::start()
}
