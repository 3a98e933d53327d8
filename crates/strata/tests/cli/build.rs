//! `build`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use testkit::cli::{CommandLine, Outcome};
use testkit::tarball::{Member, Tarball};

use crate::servers::{FileServer, GitServer};
use crate::strata;

#[test]
fn a_build_without_run_needs_no_privileges_and_is_cached_the_second_time() {
    let strata = strata();
    strata.import_small("base:1");
    strata.write(
        "context/Dockerfile",
        "FROM base:1\nWORKDIR /app\nCOPY f .\nENV A=b\nCMD [\"/app/f\"]\n",
    );
    strata.write("context/f", "data\n");
    let words = ["build", "--iidfile", "iid", "-t", "demo:1", "context"];
    let first = strata.run(&words).stderr();
    assert!(
        first.starts_with(
            "#0 building with \"default\" instance using docker driver\n\n#1 [internal] load build definition from Dockerfile\n"
        ),
        "{first}"
    );
    assert!(first.contains("[3/3] COPY f .\n"), "{first}");
    assert!(
        first.contains(" naming to docker.io/library/demo:1 done\n"),
        "{first}"
    );
    let id = fs::read_to_string(strata.work("iid")).expect("it was written");
    let quiet = strata.run(&["build", "-q", "context"]);
    assert_eq!(quiet.to_string(), format!("[stdout]\n{id}\n[exit 0]\n"));
    let second = strata.run(&words).stderr();
    assert_eq!(second.matches(" CACHED\n").count(), 2, "{second}");
    let config = strata.run(&[
        "inspect",
        "-f",
        "{{.Config.WorkingDir}} {{.Config.Env}}",
        "demo:1",
    ]);
    assert!(config.stdout().starts_with("/app ["));
    let history = strata.run(&["history", "--format", "{{.CreatedBy}}", "demo:1"]);
    assert_eq!(
        history.stdout(),
        "CMD [\"/app/f\"]\nENV A=b\nCOPY f . # buildkit\nWORKDIR /app\n\n"
    );
}

#[test]
fn errors_show_the_lines_of_the_dockerfile() {
    let strata = strata();
    strata.import_small("base:1");
    strata.write("context/Dockerfile", "FROM base:1\nRUNN x\n");
    let outcome = strata.run(&["build", "context"]);
    assert!(
        outcome.stderr.ends_with(
            "Dockerfile:2\n--------------------\n   1 |     FROM base:1\n   2 | >>> RUNN x\n   3 |     \n--------------------\nat Dockerfile:2:1\nhint: write `RUN`\nERROR: failed to build: failed to solve: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n"
        ),
        "{outcome}"
    );
    assert_eq!(outcome.code, 1);
    let checked = strata.run(&["build", "--check", "context"]);
    assert!(
        checked
            .stderr
            .contains("at Dockerfile:2:1\nhint: write `RUN`\nERROR: "),
        "{checked}"
    );
    strata.write("context/Dockerfile", "FROM base:1\nCOPY nope .\n");
    let outcome = strata.run(&["build", "context"]);
    assert!(
        outcome.stderr.contains("\"/nope\": not found\n"),
        "{outcome}"
    );
    for (words, expected) in [
        (
            &["build", "nodir"][..],
            "ERROR: failed to build: unable to prepare context: path \"nodir\" not found\n",
        ),
        (
            &["build", "-f", "nofile", "context"],
            "ERROR: failed to build: failed to solve: failed to read dockerfile: open nofile: no such file or directory\n",
        ),
        (
            &["build", "--progress", "x", "context"],
            "ERROR: failed to build: invalid progress mode x: expected auto, none, plain, quiet, rawjson or tty\n",
        ),
    ] {
        let outcome = strata.run(words);
        assert!(outcome.stderr.ends_with(expected), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
}

#[test]
fn a_dockerfile_comes_from_standard_input_too() {
    let strata = strata();
    strata.import_small("base:1");
    let outcome = strata.run_with(&["build", "-q", "-"], b"FROM base:1\nLABEL a=b\n");
    let id = outcome.stdout();
    let labels = strata.run(&["inspect", "-f", "{{json .Config.Labels}}", id.trim()]);
    assert_eq!(labels.stdout(), "{\"a\":\"b\"}\n");
}

#[test]
fn privileged_a_failing_step_shows_its_output_again() {
    let strata = strata();
    strata.import_busybox("busybox");
    strata.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo installing; exit 7\n",
    );
    let outcome = strata.run(&["build", "context"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains(
            "ERROR: process \"/bin/sh -c echo installing; exit 7\" did not complete successfully: exit code: 7\n------\n > [2/2] RUN echo installing; exit 7:\n"
        ),
        "{outcome}"
    );
    assert!(
        outcome.stderr.ends_with(
            "   2 | >>> RUN echo installing; exit 7\n   3 |     \n--------------------\nat Dockerfile:2:1\nERROR: failed to build: failed to solve: process \"/bin/sh -c echo installing; exit 7\" did not complete successfully: exit code: 7\n"
        ),
        "{outcome}"
    );
}

#[test]
fn privileged_a_step_runs_with_build_arguments_and_its_result_runs() {
    let strata = strata();
    strata.import_busybox("busybox");
    strata.write(
        "context/Dockerfile",
        "FROM busybox AS one\nARG WHO=nobody\nRUN echo hello $WHO > /greeting\nFROM busybox\nCOPY --from=one /greeting /\nCMD [\"cat\", \"/greeting\"]\n",
    );
    let words = [
        "build",
        "-q",
        "--build-arg",
        "WHO=world",
        "-t",
        "greet",
        "context",
    ];
    strata.run(&words).succeeded();
    assert_eq!(
        strata.run(&["run", "--rm", "greet"]).stdout(),
        "hello world\n"
    );
}

/// The image says that it is from 1980, so that it is the same one tomorrow.
#[test]
fn an_image_that_says_something_old_is_listed_as_made_now() {
    let strata = strata();
    strata.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY f .\nCMD [\"/f\"]\n",
    );
    strata.write("context/f", "data\n");
    let argument = "SOURCE_DATE_EPOCH=315532800";
    let words = [
        "build",
        "-q",
        "--build-arg",
        argument,
        "-t",
        "old",
        "context",
    ];
    strata.run(&words).stdout();
    let shown = |words: &[&str]| strata.run(words).stdout();
    let says = shown(&["image", "inspect", "-f", "{{.Created}}", "old"]);
    assert_eq!(says, "1980-01-01T00:00:00Z\n");
    let listed = shown(&["images", "--format", "{{.CreatedSince}}"]);
    assert!(!listed.contains("years"), "{listed}");
    let history = shown(&["history", "--format", "{{.CreatedSince}}", "old"]);
    assert!(!history.contains("years"), "{history}");
    assert_eq!(history.lines().count(), 2);
    let until = shown(&["images", "-q", "-f", "until=1h"]);
    assert_eq!(until, "");
}

#[test]
fn privileged_secrets_come_from_files_and_variables() {
    let strata = strata().variable("TOKEN", "from a variable");
    strata.import_busybox("busybox");
    strata.write("key", "from a file");
    strata.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=file --mount=type=secret,id=TOKEN,env=T \\\n\
         cat /run/secrets/file && echo \" and $T\"\n",
    );
    let secrets = ["--secret", "id=file,src=key", "--secret", "id=TOKEN"];
    let words = [
        &["build", "--progress", "plain"],
        &secrets[..],
        &["context"],
    ]
    .concat();
    let outcome = strata.run(&words);
    let said = "from a file and from a variable\n";
    assert!(outcome.stderr.contains(said), "{outcome}");
    for (wrong, said) in [
        (
            "id=x,src=nosuch",
            "failed to stat nosuch: stat nosuch: no such file or directory",
        ),
        (
            "src=key",
            "could not parse secrets: [src=key]: secret missing ID",
        ),
        (
            "id=x,type=magic",
            "could not parse secrets: [id=x,type=magic]: unsupported secret type \"magic\"",
        ),
        (
            "id",
            "could not parse secrets: [id]: invalid field 'id' must be a key=value pair",
        ),
    ] {
        assert_eq!(
            strata
                .run(&["build", "--secret", wrong, "context"])
                .to_string(),
            format!("[stderr]\nERROR: failed to build: {said}\n[exit 1]\n")
        );
    }
    strata.write("large", vec![b'x'; 500 << 10]);
    let words = ["build", "--secret", "id=file,src=large", "context"];
    assert_eq!(strata.run(&words).code, 0);
    strata.write("large", vec![b'x'; (500 << 10) + 1]);
    let outcome = strata.run(&words);
    assert!(
        outcome
            .stderr
            .contains("secret file too big. max size 500KB")
    );
    let key = strata.run(&["build", "--ssh", "default=key", "context"]);
    assert!(
        key.stderr.contains("add them to an agent with ssh-add"),
        "{key}"
    );
}

/// A context with a Dockerfile, one that is not the usual one, and links that lead out.
fn context_tar() -> Vec<u8> {
    let mut tar = Tarball::new();
    let dockerfile = b"FROM scratch\nCOPY . /\n";
    tar.push(&Member::file("./Dockerfile", dockerfile));
    tar.push(&Member::file(
        "sub/Other",
        b"FROM scratch\nCOPY sub/f /other\n",
    ));
    tar.push(&Member::file("sub/Other.dockerignore", b"Dockerfile\n"));
    tar.push(&Member::file("sub/f", b"f"));
    tar.push(&Member::file(".dockerignore", b"**/Other*\nleak\n"));
    tar.push(&Member::symlink("leak", "/etc/shadow"));
    tar.push(&Member::symlink("up", "../../../../../../../etc"));
    tar.finish()
}

#[test]
fn a_context_comes_as_an_archive_from_standard_input() {
    let strata = strata();
    let tar = context_tar();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let mut ids = Vec::new();
    for archive in [&tar, &gzip] {
        let outcome = strata.run_with(&["build", "-q", "-"], archive);
        assert_eq!(outcome.code, 0, "{outcome}");
        ids.push(outcome.stdout);
    }
    assert_eq!(ids[0], ids[1]);
    let listed = strata.run_with(&["build", "--iidfile", "iid", "-"], &tar);
    assert_eq!(listed.code, 0, "{listed}");
    let other = ["build", "-q", "-f", "sub/Other", "-"];
    let outcome = strata.run_with(&other, &tar);
    assert_eq!(outcome.code, 0, "{outcome}");
    for (file, said) in [
        (
            "nope",
            "failed to read dockerfile: open nope: no such file or directory",
        ),
        // Out of the context there is nothing: the link leads to a file in it.
        (
            "leak",
            "failed to read dockerfile: open leak: no such file or directory",
        ),
        (
            "up/passwd",
            "failed to read dockerfile: open up/passwd: no such file or directory",
        ),
        ("sub", "expected a regular file"),
    ] {
        let outcome = strata.run_with(&["build", "-f", file, "-"], &tar);
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
    let outcome = strata.run_with(&["build", "-"], &tar[..520]);
    assert!(
        outcome.stderr.contains("unable to prepare context"),
        "{outcome}"
    );
    let both = strata.run_with(&["build", "-f", "-", "-"], &tar);
    assert!(
        both.stderr
            .contains("can't use stdin for both build context and dockerfile")
    );
    // Nothing is left of what was unpacked.
    assert!(strata.settle());
    for directory in ["ingest", "context"] {
        let left = fs::read_dir(strata.path("root").join(directory)).expect("lists");
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn a_context_comes_from_a_url() {
    let strata = strata();
    let tar = context_tar();
    let server = FileServer::start(&[
        ("/c.tar", tar.as_slice()),
        ("/Dockerfile", b"FROM scratch\nLABEL from=url\n"),
    ]);
    let from_url = strata.run(&["build", "-q", &server.url("/c.tar")]);
    assert_eq!(from_url.code, 0, "{from_url}");
    let piped = strata.run_with(&["build", "-q", "-"], &tar);
    assert_eq!(from_url.stdout, piped.stdout);
    let text = strata.run(&["build", "-q", "-t", "text", &server.url("/Dockerfile")]);
    assert_eq!(text.code, 0, "{text}");
    let label = strata.run(&["inspect", "-f", "{{.Config.Labels.from}}", "text"]);
    assert_eq!(label.stdout(), "url\n");
    let missing = strata.run(&["build", &server.url("/nope")]);
    assert_eq!(missing.code, 1, "{missing}");
}

/// Runs git in a repository, whose directory is made, and returns what it says.
fn run_git(repository: &Path, arguments: &[&str]) -> String {
    fs::create_dir_all(repository).expect("made");
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=n", "-c", "user.email=e"]);
    command.args(["-c", "init.defaultBranch=main"]);
    command.args(arguments).current_dir(repository);
    command.env("GIT_COMMITTER_DATE", "1700000000 +0000");
    let output = command.output().expect("git is installed");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    said.trim().to_owned()
}

#[test]
fn a_context_comes_from_a_git_repository() {
    let strata = strata();
    let repository = strata.work("r.git");
    let git = |arguments: &[&str]| run_git(&repository, arguments);
    git(&["init", "--quiet"]);
    fs::create_dir(repository.join("sub")).expect("made");
    for (path, text) in [
        ("Dockerfile", "FROM scratch\nCOPY . /\nLABEL at=main\n"),
        ("sub/Dockerfile", "FROM scratch\nCOPY . /\nLABEL at=sub\n"),
        ("sub/f", "f"),
    ] {
        fs::write(repository.join(path), text).expect("written");
    }
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["tag", "v1"]);
    let first = git(&["rev-parse", "HEAD"]);
    fs::write(repository.join("new"), "new").expect("written");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "two"]);
    let server = GitServer::start(&strata.work("."));
    let build = |fragment: &str| {
        let url = format!("git://{}/r.git{fragment}", server.address);
        strata.run(&["build", "-q", "-t", "built", &url])
    };
    let label = || {
        strata
            .run(&[
                "inspect",
                "-f",
                "{{.Config.Labels.at}} {{.Created}}",
                "built",
            ])
            .stdout()
    };
    let (tagged, named) = (build("#v1"), build(&format!("#{first}")));
    assert_eq!(tagged.code, 0, "{tagged}");
    assert_eq!(tagged.stdout, named.stdout, "{named}");
    assert_eq!(label(), "main 2023-11-14T22:13:20Z\n");
    let newest = build("");
    assert_eq!(newest.code, 0, "{newest}");
    assert_ne!(newest.stdout, tagged.stdout);
    assert_eq!(build("#main:sub").code, 0);
    assert_eq!(label(), "sub 2023-11-14T22:13:20Z\n");
    for (fragment, said) in [
        ("#v9", "git checkout failed"),
        ("#v1:nope", "no directory \"nope\" in the repository"),
        ("#v1:../..", "no directory \"../..\" in the repository"),
        ("#--upload-pack=x", "invalid git reference"),
    ] {
        let outcome = build(fragment);
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
    assert!(strata.settle());
    let left = fs::read_dir(strata.path("root").join("ingest")).expect("lists");
    assert_eq!(left.count(), 0);
}

/// A repository with two commits, of which both a tag and a branch are named `v1`.
struct Repository {
    url: String,
    first: String,
    second: String,
    tag: String,
}

impl Repository {
    fn new(strata: &CommandLine) -> Self {
        let repository = strata.work("r.git");
        let git = |arguments: &[&str]| run_git(&repository, arguments);
        git(&["init", "--quiet"]);
        let commit = |text: &str| {
            fs::create_dir_all(repository.join("sub")).expect("made");
            fs::write(repository.join("sub/f"), text).expect("written");
            git(&["add", "."]);
            git(&["commit", "--quiet", "-m", text]);
            git(&["rev-parse", "HEAD"])
        };
        let first = commit("1");
        git(&["tag", "-m", "annotated", "v1"]);
        let tag = git(&["rev-parse", "v1"]);
        let second = commit("2");
        git(&["branch", "v1", &second]);
        git(&["tag", "light"]);
        let server = GitServer::start(&strata.work("."));
        let url = format!("git://{}/r.git", server.address);
        Self {
            url,
            first,
            second,
            tag,
        }
    }

    /// Builds an image of what `ADD` takes, and writes its files to `out`.
    fn add(&self, strata: &CommandLine, flags: &str, fragment: &str) -> Outcome {
        let text = format!("FROM scratch\nADD {flags} {}{fragment} /x/\n", self.url);
        let built = [
            "build",
            "--progress=plain",
            "-t",
            "built",
            "-o",
            "out",
            "--load",
            "-",
        ];
        strata.run_with(&built, text.as_bytes())
    }
}

#[test]
fn add_takes_git_repositories() {
    let strata = strata();
    let repository = Repository::new(&strata);
    let Repository {
        first, second, tag, ..
    } = &repository;
    let file = |path: &str| fs::read_to_string(strata.work("out/x").join(path));
    for (flags, fragment, expected) in [
        ("", "", "2"),
        ("", "#main", "2"),
        // A branch goes before the tag of its name.
        ("", "#v1", "2"),
        ("", "#refs/tags/v1", "1"),
        ("", "?tag=v1", "1"),
        ("", "#light", "2"),
        ("", &format!("#{first}"), "1"),
        (&format!("--checksum={}", &second[..9]), "", "2"),
        (&format!("--checksum={}", &tag[..7]), "?tag=v1", "1"),
    ] {
        let built = repository.add(&strata, flags, fragment);
        assert_eq!(built.code, 0, "{flags} {fragment}: {built}");
        assert_eq!(
            file("sub/f").expect("there"),
            expected,
            "{flags} {fragment}"
        );
        assert!(file(".git").is_err());
    }
    assert_eq!(repository.add(&strata, "", "?tag=v1&subdir=sub").code, 0);
    assert_eq!(file("f").expect("there"), "1");
    let again = repository.add(&strata, "", &format!("#{first}"));
    assert!(again.stderr.contains("CACHED"), "{again}");
    for (flags, fragment, said) in [
        ("", "#v9", "repository does not contain ref v9"),
        (
            "--checksum=0000",
            "",
            "expected checksum to match 0000, got ",
        ),
        ("", "#:none", "no directory \"none\" in the repository"),
        ("", "#:../..", "no directory \"../..\" in the repository"),
        ("", "#--upload-pack=x", "invalid git reference"),
    ] {
        let outcome = repository.add(&strata, flags, fragment);
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
    assert!(strata.settle());
    let left = fs::read_dir(strata.path("root").join("ingest")).expect("lists");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_kept_git_directory_is_the_same_each_time() {
    let strata = strata();
    let repository = Repository::new(&strata);
    let add = || repository.add(&strata, "--keep-git-dir", "?tag=v1");
    let id = || strata.run(&["inspect", "-f", "{{.Id}}", "built"]).stdout();
    let kept = add();
    assert_eq!(kept.code, 0, "{kept}");
    let once = id();
    let copy = strata.work("out/x");
    assert_eq!(run_git(&copy, &["rev-parse", "HEAD"]), repository.first);
    assert_eq!(run_git(&copy, &["status", "--porcelain"]), "");
    assert_eq!(strata.run(&["builder", "prune", "-af"]).code, 0);
    assert!(!add().stderr.contains("CACHED"));
    assert_eq!(id(), once);
}

#[test]
fn contexts_have_names() {
    let strata = strata();
    strata.import_small("small:1");
    let layout = format!("oci:{}:v1", strata.work("layout").display());
    assert_eq!(strata.run(&["save", "-o", "small.tar", "small:1"]).code, 0);
    let copied = strata.run(&["copy", "docker-archive:small.tar", &layout]);
    assert_eq!(copied.code, 0, "{copied}");
    strata.write("context/Dockerfile", "FROM base\nCOPY --from=more f /f\n");
    strata.write("more/f", "f");
    let server = FileServer::start(&[("/f", b"from a URL".as_slice())]);
    let build = |base: &str, more: &str| {
        let (base, more) = (format!("base={base}"), format!("more={more}"));
        let flags = ["--build-context", &base, "--build-context", &more];
        strata.run(&[&["build", "-q"], &flags[..], &["context"]].concat())
    };
    let first = build("docker-image://small:1", "more");
    assert_eq!(first.code, 0, "{first}");
    let at = format!("oci-layout://{}:v1", strata.work("layout").display());
    let second = build(&at, "more");
    assert_eq!(second.stdout, first.stdout, "{second}");
    assert_eq!(build("docker-image://scratch", "more").code, 0);
    let url = format!("more={}", server.url("/f"));
    let text = b"FROM scratch\nCOPY --from=more context /f\n";
    let flags = [
        "build",
        "-q",
        "--build-context",
        &url,
        "-o",
        "out",
        "-f",
        "-",
        "context",
    ];
    let of_url = strata.run_with(&flags, text);
    assert_eq!(of_url.code, 0, "{of_url}");
    let file = fs::read(strata.work("out/f")).expect("written");
    assert_eq!(file, b"from a URL");
    for (flag, said) in [
        ("base", "invalid context value: base, expected key=value"),
        ("Base=more", "invalid context name Base"),
        (
            "base=none",
            "failed to get build context base: no directory \"none\"",
        ),
        (
            "base=docker-image://A",
            "failed to get build context base: invalid image name \"A\"",
        ),
        (
            "base=oci-layout://layout@sha256:1",
            "invalid digest \"sha256:1\"",
        ),
        (
            "base=oci-layout://none:v1",
            "cannot load the OCI layout `none`: ",
        ),
        (
            "base=oci-layout://layout:v2",
            "cannot load the OCI layout `layout`: ",
        ),
        ("base=target:x", "only docker's bake knows targets"),
    ] {
        let outcome = strata.run(&["build", "--build-context", flag, "context"]);
        assert!(outcome.stderr.contains(said), "{flag}: {outcome}");
        assert_eq!(outcome.code, 1, "{flag}");
    }
}

#[test]
fn the_result_goes_where_output_says() {
    let strata = strata();
    strata.import_small("base:1");
    strata.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY --chmod=755 f /bin/f\nCOPY g /\nCOPY l /\n",
    );
    strata.write("context/f", "f");
    strata.write("context/g", "g");
    std::os::unix::fs::symlink("g", strata.work("context/l")).expect("made");
    // What is there stays, unless it is in the way; links are not followed.
    strata.write("out/kept", "kept");
    strata.write("outside", "untouched");
    std::os::unix::fs::symlink("../outside", strata.work("out/g")).expect("made");
    let outcome = strata.run(&["build", "-o", "out", "context"]);
    assert_eq!(outcome.code, 0, "{outcome}");
    let read = |path: &str| fs::read_to_string(strata.work(path)).expect("it is there");
    for (path, content) in [
        ("out/bin/f", "f"),
        ("out/g", "g"),
        ("out/l", "g"),
        ("out/kept", "kept"),
        ("outside", "untouched"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    let mode = fs::metadata(strata.work("out/bin/f"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(
        strata.run(&["images", "-aq"]).stdout().lines().count(),
        1,
        "only the base"
    );

    strata
        .run(&["build", "-o", "type=tar,dest=out.tar", "context"])
        .succeeded();
    let mut command = strata.command(&["build", "-q", "-o", "-", "context"]);
    let piped = command.output().expect("runs").stdout;
    assert_eq!(piped, fs::read(strata.work("out.tar")).expect("written"));
    let id = strata.run_with(&["import", "-"], &piped).stdout();
    assert!(id.starts_with("sha256:"), "{id}");

    strata
        .run(&[
            "build",
            "-t",
            "saved:1",
            "-o",
            "type=docker,dest=saved.tar",
            "context",
        ])
        .succeeded();
    let loaded = crate::strata().run_with(
        &["load"],
        &fs::read(strata.work("saved.tar")).expect("there"),
    );
    assert_eq!(loaded.stdout(), "Loaded image: saved:1\n");

    for (output, said) in [
        ("type=local", "dest is required for local output"),
        ("dest=x", "type is required for output"),
        ("type=magic", "exporter \"magic\" could not be found"),
        (
            "type=image,compression=zstd",
            "output option \"compression\" is not supported",
        ),
    ] {
        let outcome = strata.run(&["build", "-o", output, "context"]);
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
}

#[test]
fn a_build_pushes_what_it_made_under_every_name() {
    let strata = strata();
    let served = strata.serve(&["--allow-push"]);
    strata.write("context/Dockerfile", "FROM scratch\nCOPY f /\n");
    strata.write("context/f", "f");
    let names = ["one:1", "two:2"].map(|name| format!("{}/{name}", served.address()));
    let words = [
        "build",
        "--push",
        "--metadata-file",
        "meta.json",
        "-t",
        &names[0],
        "-t",
        &names[1],
        "context",
    ];
    let outcome = strata.run(&words);
    assert_eq!(outcome.code, 0, "{outcome}");
    let metadata = fs::read_to_string(strata.work("meta.json")).expect("written");
    let other = crate::strata();
    for name in &names {
        let pulled = other.run(&["pull", name]).stdout();
        let digest = pulled
            .lines()
            .find_map(|line| line.strip_prefix("Digest: "));
        let digest = digest.expect("a digest").to_owned();
        assert!(
            metadata.contains(&format!("\"containerimage.digest\": \"{digest}\"")),
            "{metadata}"
        );
    }
    let nameless = strata.run(&["build", "--push", "context"]);
    assert!(
        nameless
            .stderr
            .contains("tag is needed when pushing to registry"),
        "{nameless}"
    );
    let both = strata.run(&["build", "--push", "--load", "context"]);
    assert!(
        both.stderr
            .contains("push and load may not be set together"),
        "{both}"
    );
}

#[test]
fn wrong_settings_of_build_containers_are_refused() {
    let strata = strata();
    strata.write("context/Dockerfile", "FROM scratch\nLABEL a=b\n");
    for (flags, said) in [
        (["--add-host", "nope"], "bad format for add-host: \"nope\""),
        (
            ["--add-host", "h:1.2"],
            "invalid IP address in add-host: \"1.2\"",
        ),
        (
            ["--add-host", "h:host-gateway"],
            "invalid IP address in add-host: \"host-gateway\"",
        ),
        (
            ["--ulimit", "nofile=2:1"],
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (["--ulimit", "files=1"], "invalid ulimit type: files"),
        (["--shm-size", "much"], "invalid size"),
    ] {
        let outcome = strata.run(&[&["build"], &flags[..], &["context"]].concat());
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert_ne!(outcome.code, 0);
    }
    let right = [
        "build",
        "-q",
        "--add-host",
        "h=[::1]",
        "--ulimit",
        "core=-1",
        "--shm-size",
        "1.5m",
        "--no-cache-filter",
        "a,b",
        "context",
    ];
    strata.run(&right).succeeded();
}

#[test]
fn a_dockerfile_tells_of_itself_without_being_built() {
    let strata = strata();
    strata.import_small("base:1");
    let build = |call: &str| strata.run(&["build", call, "context"]);
    strata.write("context/Dockerfile", "FROM base:1\nCMD [\"x\"]\n");
    assert_eq!(
        build("--check").to_string(),
        "[stdout]\nCheck complete, no warnings found.\n[exit 0]\n"
    );
    strata.write("context/Dockerfile", "FROM base:1 as b\nRUN true\nCMD x\n");
    let found = build("--check");
    assert_eq!(
        found.to_string(),
        "[stdout]\nCheck complete, 2 warnings have been found!\n\n\
         WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n\
         'as' and 'FROM' keywords' casing do not match\n\
         Dockerfile:1\n--------------------\n   1 | >>> FROM base:1 as b\n   2 |     RUN true\n   \
         3 |     CMD x\n--------------------\n\n\
         WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n\
         JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n\
         Dockerfile:3\n--------------------\n   1 |     FROM base:1 as b\n   2 |     RUN true\n   \
         3 | >>> CMD x\n   4 |     \n--------------------\n[exit 1]\n"
    );
    strata.write("context/Dockerfile", "FROM base:1\nCOPY . .\nRUN npm ci\n");
    assert_eq!(
        build("--check").to_string(),
        "[stdout]\nCheck complete, no warnings found.\n\n\
         ADVICE: ContextCopiedBeforeInstall - docs/dockerfile.md#contextcopiedbeforeinstall\n\
         `npm ci` on line 3 runs again when any file of the context changes: copy package.json and \
         package-lock.json first, run it, and copy the rest behind it\n\
         Dockerfile:2\n--------------------\n   1 |     FROM base:1\n   2 | >>> COPY . .\n   \
         3 |     RUN npm ci\n   4 |     \n--------------------\n[exit 0]\n"
    );
    strata.write(
        "context/Dockerfile",
        "# V which one\nARG V=1\nARG UNUSED=1\n# one the first\nFROM base:$V AS one\nARG A\n\
         FROM scratch AS other\nARG NOT=1\nFROM one\n# B the last\nARG B=b$V\n\
         RUN --mount=type=secret,id=s,required --mount=type=ssh true\n",
    );
    assert_eq!(
        build("--call=targets").stdout(),
        "TARGET    DESCRIPTION\none       the first\nother     \n(default) \n"
    );
    let outline = strata.run(&[
        "build",
        "--call",
        "outline",
        "--build-arg",
        "A=given",
        "context",
    ]);
    assert_eq!(
        outline.stdout(),
        "BUILD ARG   VALUE   DESCRIPTION\nV           1       which one\n\
         A           given   \nB           b       the last\n\nSECRET   REQUIRED\ns        true\n\n\
         SSH       REQUIRED\ndefault   \n\n"
    );
    let named = strata.run(&["build", "--call", "outline", "--target", "other", "context"]);
    assert_eq!(
        named.stdout(),
        "TARGET: other\n\nBUILD ARG   VALUE   DESCRIPTION\nNOT         1       \n\n"
    );
    let wrong = build("--call=magic");
    assert!(wrong.stderr.contains("invalid call \"magic\""), "{wrong}");
    assert_eq!(strata.run(&["images", "-aq"]).stdout().lines().count(), 1);
}

#[test]
fn builders_entitlements_and_jobs_that_are_not_there_are_refused() {
    let strata = strata();
    strata.write("context/Dockerfile", "FROM scratch\nWORKDIR /a\n");
    for flags in [
        &["--builder=default", "--allow=network.host", "-D"][..],
        &["--jobs", "1"],
    ] {
        let built = strata.run(&[&["build", "-q"], flags, &["context"]].concat());
        assert_eq!(built.code, 0, "{built}");
    }
    for (flag, said) in [
        ("--builder=other", "no builder \"other\" found"),
        (
            "--allow=security.insecure",
            "entitlement \"security.insecure\" cannot be allowed",
        ),
        ("--jobs=0", "expected a number from 1"),
        ("--output=", "dest is required for local output"),
        (
            "--output=type=local,dest=",
            "dest is required for local output",
        ),
        ("--output=type=oci,dest=", "dest is required for oci output"),
    ] {
        let refused = strata.run(&["build", flag, "context"]);
        assert!(refused.stderr.contains(said), "{refused}");
        assert_ne!(refused.code, 0, "{flag}");
    }
    // Only an image has an id that leads anywhere.
    let files = strata.run(&["build", "-q", "-o", "out", "context"]);
    assert_eq!((files.code, files.stdout.as_str()), (0, ""), "{files}");
}
