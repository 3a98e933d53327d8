//! Many commands at once on one store.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use crate::place::Place;
use crate::strata::Strata;

const RUNS: usize = 20;
const BUILDS: usize = 10;

#[test]
fn privileged_kept_containers_and_builds_made_at_once_are_all_listed_in_both_forms() {
    for form in ["erofs", "tree"] {
        let place = Place::new();
        let store = place.store_with_base("store").with_form(form);
        check_crowd(&place, &store);
    }
}

fn check_crowd(place: &Place, store: &Strata<'_>) {
    for number in 0..BUILDS {
        let own = format!(
            "FROM base:1\nRUN echo shared > /shared\nCOPY own /own\nRUN cat /own > /copy-{number}\nCMD cat /own /copy-{number}\n"
        );
        place.write(&format!("context{number}/Dockerfile"), &own);
        place.write(&format!("context{number}/own"), &format!("own {number}\n"));
    }
    let mut children: Vec<(String, Child)> = Vec::new();
    for number in 0..RUNS {
        let (name, echo) = (format!("run{number}"), format!("said {number}"));
        let args = [
            "run",
            "--name",
            &name,
            "--network",
            "none",
            "base:1",
            "echo",
            &echo,
        ];
        children.push((echo.clone(), start(store, &args)));
        if number % 2 == 0 {
            let number = number / 2;
            let tag = format!("built:{number}");
            let context = format!("context{number}");
            children.push((
                String::new(),
                start(store, &["build", "-t", &tag, &context]),
            ));
        }
    }
    // All have ended before the first complaint, which would take their store away.
    let ended = children
        .into_iter()
        .map(|(expected, child)| (expected, child.wait_with_output().unwrap()));
    for (expected, output) in ended.collect::<Vec<_>>() {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{expected}: {}\n{errors}",
            output.status
        );
        let said = String::from_utf8_lossy(&output.stdout);
        if !expected.is_empty() {
            assert_eq!(said.trim(), expected, "{errors}");
        }
    }

    let names = lines(store, &["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    let expected = (0..RUNS).map(|number| format!("run{number} exited"));
    assert_eq!(names, expected.collect());
    let images = lines(store, &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let expected = (0..BUILDS).map(|number| format!("built:{number}"));
    assert_eq!(images, expected.chain(["base:1".to_owned()]).collect());
    for number in 0..BUILDS {
        let name = format!("built:{number}");
        let said = store.run(&["run", "--rm", "--network", "none", &name]);
        assert_eq!(said, format!("own {number}\nown {number}"));
    }
}

fn start(store: &Strata<'_>, args: &[&str]) -> Child {
    let mut command = store.command(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn lines(store: &Strata<'_>, args: &[&str]) -> BTreeSet<String> {
    store.run(args).lines().map(str::to_owned).collect()
}
