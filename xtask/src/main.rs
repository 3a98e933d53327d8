//! Development tasks, run as `cargo xtask TASK`.

mod bench;
mod command;
mod corpus;
mod crash;
mod demo;
mod dist;
mod fuzz;
mod packages;
mod parser_cases;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask TASK

  demo    build the release binary and show the whole way: import, serve, pull, build, run, prune
  test    run all tests; installs the Debian packages they need
  check   format, clippy, tidy, then test: what CI runs
  tidy    crate edges, file and function sizes, names
  dist    build the release binary, static where it can be linked so
  fuzz    run a fuzz target for some time: `cargo xtask fuzz tar_ingest 3600`
  corpus  build public and own Dockerfiles with docker and with strata, and compare the images
  crash   kills, crowds and power cuts, the long way: `cargo xtask crash 200`
  parser-cases  compare with BuildKit's own Dockerfile tests: `cargo xtask parser-cases DIR`
  bench   measure run, rebuilds, cold build and pull against podman, docker or the machine's floor";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match task.as_str() {
        "check" => check(),
        "tidy" => tidy::run(),
        "test" => test::run(&rest),
        "demo" => demo::run(),
        "dist" => dist::build().map(|path| println!("{}", path.display())),
        "corpus" => corpus::run(&rest),
        "crash" => crash::run(&rest),
        "fuzz" => fuzz::run(&rest),
        "parser-cases" => parser_cases::run(&rest),
        "bench" => bench::run(&rest),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown task `{other}`\n\n{USAGE}"),
    }
}

fn check() -> Result<()> {
    packages::ensure(packages::BUILD)?;
    command::run("cargo", &["fmt", "--all", "--check"])?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    command::run("cargo", &clippy)?;
    tidy::run()?;
    test::run(&[])
}
