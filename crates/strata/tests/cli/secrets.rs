//! What `build --secret` gives to steps reaches nothing else.

use testkit::traces::holders;

use crate::strata;

const FILE: &str = "file-7b1f-hunter2";
const VARIABLE: &str = "variable-93ac-hunter3";

/// Steps that see secrets, and others that do not.
const DOCKERFILE: &str = "FROM busybox AS one
RUN --mount=type=secret,id=file,required test \"$(wc -c < /run/secrets/file)\" = 17
RUN --mount=type=secret,id=token,env=TOKEN,required test \"${#TOKEN}\" = 21
RUN --mount=type=secret,id=file,target=/etc/deep/key --mount=type=secret,id=token,env=TOKEN,target=/t \\
    --mount=type=cache,target=/cache test -s /etc/deep/key && test -s /t && touch /cache/used
RUN env > /env; cat /proc/self/environ /proc/1/environ /proc/self/mounts > /seen; ls / > /listed
FROM busybox
COPY --from=one /env /seen /listed /
RUN test ! -e /etc/deep; env >> /env
";

/// Ends of builds in a step that sees both.
const FAILING: [&str; 4] = [
    "false",
    "exit 9",
    "[\"/nosuch\", \"x\"]",
    "echo left > /left; ls /nosuch",
];

#[test]
fn privileged_secrets_of_builds_are_in_no_file_and_no_message() {
    let strata = strata().variable("TOKEN", VARIABLE);
    strata.import_busybox("busybox");
    strata.write("key", FILE);
    let mut said = String::new();
    let mut build = |dockerfile: &str, is_right: bool| {
        strata.write("context/Dockerfile", dockerfile);
        let words = ["build", "--progress", "plain", "--network", "none"];
        let secrets = [
            "--secret",
            "id=file,src=key",
            "--secret",
            "id=token,env=TOKEN",
        ];
        let names = ["--metadata-file", "metadata", "-t", "app:1", "context"];
        let outcome = strata.run(&[&words[..], &secrets, &names].concat());
        assert_eq!(outcome.code == 0, is_right, "{outcome}");
        said.push_str(&outcome.to_string());
    };
    build(DOCKERFILE, true);
    for failing in FAILING {
        let mounts = "--mount=type=secret,id=file --mount=type=secret,id=token,env=TOKEN";
        build(&format!("FROM busybox\nRUN {mounts} {failing}\n"), false);
        build(&format!("{DOCKERFILE}RUN {mounts} {failing}\n"), false);
    }
    let server = crate::strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/app:1", served.address());
    for words in [
        &["tag", "app:1", &name][..],
        &["push", &name],
        &["save", "-o", "app.tar", "app:1"],
        &["history", "--no-trunc", "app:1"],
        &["inspect", "app:1"],
        &["run", "--rm", "--network", "none", "app:1", "env"],
        &["system", "df", "-v"],
        &["images", "-a"],
    ] {
        let outcome = strata.run(words);
        assert_eq!(outcome.code, 0, "{outcome}");
        said.push_str(&outcome.to_string());
    }
    assert!(strata.settle());
    drop(served);
    for value in [FILE, VARIABLE] {
        assert!(!said.contains(value), "{said}");
        let expected = match value {
            FILE => vec![strata.work("key")],
            _ => Vec::new(),
        };
        assert_eq!(holders(&strata.path(""), value.as_bytes()), expected);
        assert!(holders(&server.path(""), value.as_bytes()).is_empty());
    }
}

#[test]
fn privileged_a_trace_of_a_secret_would_be_found() {
    let strata = strata().variable("TOKEN", VARIABLE);
    strata.import_busybox("busybox");
    let dockerfile =
        "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN echo $TOKEN > /kept\n";
    strata.write("context/Dockerfile", dockerfile);
    let secret = ["--secret", "id=token,env=TOKEN"];
    let build = [&["build", "-q", "-t", "app:1"], &secret[..], &["context"]].concat();
    strata.run(&build).succeeded();
    let server = crate::strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/app:1", served.address());
    strata.run(&["tag", "app:1", &name]).succeeded();
    strata.run(&["push", "-q", &name]).succeeded();
    assert!(strata.settle());
    drop(served);
    assert!(!holders(&strata.path("root/layers"), VARIABLE.as_bytes()).is_empty());
    // There it is compressed.
    assert!(!holders(&server.path("root/blobs"), VARIABLE.as_bytes()).is_empty());
}
