//! Many commands at once on one store.

use std::thread;

use crate::strata;

#[test]
fn privileged_twenty_runs_and_ten_builds_at_once_all_succeed() {
    let strata = strata();
    strata.import_busybox("busybox");
    for build in 0..10 {
        strata.write(
            &format!("c{build}/Dockerfile"),
            format!(
                "FROM busybox\nRUN echo {build} > /number\nCOPY f /\nCMD [\"cat\", \"/number\"]\n"
            ),
        );
        strata.write(&format!("c{build}/f"), format!("{build}"));
    }
    thread::scope(|scope| {
        let strata = &strata;
        let runs = (0..20).map(|run| {
            scope.spawn(move || {
                let text = format!("run {run}");
                let outcome = strata.run(&["run", "--rm", "busybox", "echo", &text]);
                assert_eq!(outcome.to_string(), format!("[stdout]\n{text}\n[exit 0]\n"));
            })
        });
        let runs: Vec<_> = runs.collect();
        let builds = (0..10).map(|build| {
            scope.spawn(move || {
                let (tag, context) = (format!("b:{build}"), format!("c{build}"));
                strata
                    .run(&["build", "-q", "-t", &tag, &context])
                    .succeeded()
            })
        });
        for build in builds.collect::<Vec<_>>() {
            build.join().expect("a build succeeds");
        }
        for run in runs {
            run.join().expect("a run succeeds");
        }
    });
    for build in 0..10 {
        let outcome = strata.run(&["run", "--rm", &format!("b:{build}")]);
        assert_eq!(outcome.stdout(), format!("{build}\n"));
    }
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
}
