//! Starts a program in a container over a directory, many times, and tells the mean time.
//!
//!     launch ROOTFS COUNT PROGRAM [ARGUMENT...]

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use runtime::{Access, DEFAULT_PATH, Limits, Network, Process, Security, Spec, Stdio};
use sys::{Mount, Recursion};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: launch ROOTFS COUNT PROGRAM [ARGUMENT...]";
    let rootfs = arguments.next().ok_or(usage)?;
    let count: u32 = arguments.next().ok_or(usage)?.parse()?;
    let args: Vec<String> = arguments.collect();
    let begin = Instant::now();
    let mut started = std::time::Duration::ZERO;
    for number in 0..count {
        let spec = Spec {
            id: format!("launch-{}-{number}", std::process::id()),
            rootfs: Mount::bind(rootfs.as_ref(), Recursion::Single)?,
            rootfs_access: Access::ReadWrite,
            process: Process {
                args: args.clone(),
                env: vec![format!("PATH={DEFAULT_PATH}")],
                ..Process::default()
            },
            hostname: "launch".to_owned(),
            mounts: Vec::new(),
            network: Network::None,
            security: Security::default(),
            limits: Limits::default(),
            stdio: Stdio::Inherit,
        };
        let before = Instant::now();
        let mut running = runtime::start(spec)?;
        started += before.elapsed();
        running.wait()?;
    }
    let mean = begin.elapsed() / count;
    let start = started / count;
    writeln!(
        std::io::stderr(),
        "mean {mean:?}, of it until the program ran {start:?}"
    )?;
    Ok(())
}
