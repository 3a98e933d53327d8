//! Users without privileges have a store of their own.

use crate::strata;

#[test]
fn privileged_nobody_lists_builds_pushes_and_pulls() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let strata = strata();
    strata.write(
        "context/Dockerfile",
        "FROM base:1\nCOPY f /app/\nUSER 1000\n",
    );
    strata.write("context/f", "data\n");
    let nobody = strata.unprivileged();
    nobody.import_small("base:1");
    nobody
        .run(&["build", "-q", "-t", &name, "context"])
        .succeeded();
    let user = nobody.run(&["inspect", "-f", "{{.Config.User}}", &name]);
    assert_eq!(user.stdout(), "1000\n");
    nobody.run(&["push", &name]).succeeded();
    nobody.run(&["rmi", &name]).succeeded();
    nobody.run(&["pull", &name]).succeeded();
    nobody.run(&["save", "-o", "a.tar", &name]).succeeded();
    nobody.run(&["rmi", &name]).succeeded();
    let loaded = nobody.run(&["load", "-i", "a.tar"]).stdout();
    assert_eq!(loaded, format!("Loaded image: {name}\n"));
    let refused = nobody.run(&["run", "--rm", &name, "/x"]);
    assert_eq!(
        refused.to_string(),
        "[stderr]\nstrata: Error response from daemon: running a container needs root: rootless containers are not supported yet\n\nRun 'strata run --help' for more information\n[exit 125]\n"
    );
    assert_eq!(nobody.run(&["ps", "-aq"]).stdout(), "");
    nobody.write("run/Dockerfile", "FROM scratch\nRUN true\n");
    let refused = nobody.run(&["build", "run"]);
    assert!(
        refused.stderr.ends_with(
            "failed to solve: RUN needs root: rootless builds of it are not supported yet\n"
        ),
        "{refused}"
    );
}
