//! Logging in to a registry that asks for a password.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use crate::place::Place;
use crate::registry::Registry;
use crate::strata::Strata;

fn login(store: &Strata<'_>, args: &[&str], input: &str) -> Output {
    let mut command = store.command(&[&["login"], args].concat());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn a_private_registry_takes_pushes_between_login_and_logout() {
    let place = Place::new();
    let registry = Registry::docker_for_users(&place);
    let store = place.store_with_base("store");
    let name = registry.reference("private:1");
    let server = registry.reference("");
    let server = server.trim_end_matches('/');
    store.run(&["tag", "base:1", &name]);
    let push = || store.command(&["push", &name]).output().unwrap();
    let pushed = push();
    let told = String::from_utf8(pushed.stderr).unwrap();
    assert!(
        told.contains("no basic auth credentials") || told.contains("unauthorized"),
        "{told}"
    );
    assert_eq!(pushed.status.code(), Some(1));

    let wrong = login(
        &store,
        &["-u", "alice", "--password-stdin", server],
        "wrong",
    );
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(
        told,
        format!(
            "Error response from daemon: login attempt to http://{server}/v2/ failed with status: 401 Unauthorized\n"
        )
    );
    assert_eq!(wrong.status.code(), Some(1));
    let config = place.path("home/.docker/config.json");
    assert!(!config.exists(), "what was refused is not kept");

    let right = login(
        &store,
        &["-u", "alice", "--password-stdin", server],
        "secret\n",
    );
    assert_eq!(right.stdout, b"Login Succeeded\n");
    let told = String::from_utf8(right.stderr).unwrap();
    assert!(told.contains("stored unencrypted in"), "{told}");
    let mode = fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(push().status.success());
    let again = login(&store, &[server], "");
    assert_eq!(again.stdout, b"Login Succeeded\n");

    let removed = store.run(&["logout", server]);
    assert_eq!(removed, format!("Removing login credentials for {server}"));
    assert_eq!(push().status.code(), Some(1));
}

#[test]
fn a_helper_keeps_the_password_and_sees_it_in_no_argument() {
    let place = Place::new();
    let registry = Registry::docker_for_users(&place);
    let store = place.store("store");
    let server = registry.reference("");
    let server = server.trim_end_matches('/');
    let helper = "#!/bin/sh\n\
        echo \"$@\" >> \"$HOME/arguments\"\n\
        case $1 in\n\
        store) cat > \"$HOME/kept\" ;;\n\
        get) [ -e \"$HOME/kept\" ] && exec cat \"$HOME/kept\"; echo credentials not found; exit 1 ;;\n\
        erase) rm -f \"$HOME/kept\" ;;\n\
        esac\n";
    place.write("bin/docker-credential-peers", helper);
    let program = place.path("bin/docker-credential-peers");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    place.write("home/.docker/config.json", r#"{"credsStore":"peers"}"#);
    let path = format!("{}:/usr/bin:/bin", place.text("bin"));
    let run = |args: &[&str], input: &str| {
        let mut command = store.command(args);
        command.env("PATH", &path).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let args = ["login", "-u", "alice", "--password-stdin", server];
    let output = run(&args, "secret");
    assert_eq!(output.stdout, b"Login Succeeded\n");
    assert_eq!(output.stderr, b"", "nothing is stored unencrypted");
    let kept = fs::read_to_string(place.path("home/kept")).unwrap();
    let expected =
        format!("{{\"ServerURL\":\"{server}\",\"Username\":\"alice\",\"Secret\":\"secret\"}}\n");
    assert_eq!(kept, expected);
    let config = fs::read_to_string(place.path("home/.docker/config.json")).unwrap();
    assert!(!config.contains("auth\""), "{config}");
    let again = run(&["login", server], "");
    assert_eq!(again.stdout, b"Login Succeeded\n", "{again:?}");
    assert!(run(&["logout", server], "").status.success());
    assert!(!place.path("home/kept").exists());
    let arguments = fs::read_to_string(place.path("home/arguments")).unwrap();
    assert!(!arguments.contains("secret"), "{arguments}");
}
