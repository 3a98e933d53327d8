//! Children in namespaces: what they execute, and how they fail.

use std::ffi::CString;
use std::os::fd::AsFd as _;

use super::*;

const OPTIONS: CloneOptions<'_> = CloneOptions {
    namespaces: Namespaces::CONTAINER,
    cgroup: None,
};

fn strings(texts: &[&str]) -> Vec<CString> {
    texts
        .iter()
        .map(|text| CString::new(*text).unwrap())
        .collect()
}

/// Executes a program and returns what the report says, and the end of the process.
fn execute(path: &CString, arguments: &[&str]) -> (Option<io::Error>, Ended) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    let arguments = strings(arguments);
    let cloned = clone_into(
        &OPTIONS,
        &Stub::new().unwrap(),
        writer.as_fd(),
        |launcher| launcher.exec(path, &arguments, &strings(&["A=b"])),
    );
    drop(writer);
    let Ok(Cloned::Executing(child)) = cloned else {
        panic!("{cloned:?}");
    };
    (read_report(reader).unwrap(), wait(&child).unwrap())
}

#[test]
fn privileged_a_program_gets_its_arguments_and_environment() {
    let script = "test $0-$1 = zero-one && test $A = b && test $$ = 1 && exit 7";
    let arguments = ["sh", "-c", script, "zero", "one"];
    let (report, ended) = execute(&c"/bin/sh".to_owned(), &arguments);
    assert!(report.is_none(), "{report:?}");
    assert_eq!(ended, Ended::Exited(7));
}

#[test]
fn privileged_an_execution_that_fails_is_reported() {
    for (path, errno) in [("/nope", libc::ENOENT), ("/etc/passwd", libc::EACCES)] {
        let (report, ended) = execute(&CString::new(path).unwrap(), &["x"]);
        assert_eq!(report.and_then(|error| error.raw_os_error()), Some(errno));
        assert_eq!(ended, Ended::Exited(125));
    }
}

#[test]
fn privileged_an_error_of_the_child_is_a_plain_value() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut steps = Vec::new();
    let cloned = clone_into(&OPTIONS, &Stub::new().unwrap(), writer.as_fd(), |_| {
        steps.push(rustix::process::getpid().as_raw_nonzero().get());
        format!("after {} steps", steps.len())
    });
    let Ok(Cloned::Failed(error)) = cloned else {
        panic!("{cloned:?}");
    };
    assert_eq!(
        (error.as_str(), steps.as_slice()),
        ("after 1 steps", &[1][..])
    );
}

#[test]
fn privileged_a_child_that_dies_first_is_told_from_one_that_executes() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let cloned = clone_into(&OPTIONS, &Stub::new().unwrap(), writer.as_fd(), |_| {
        std::process::abort()
    });
    assert!(matches!(cloned, Ok(Cloned::<()>::Died)), "{cloned:?}");
}
