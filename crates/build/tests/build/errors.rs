//! What a user sees when a build fails.

use crate::bench::Bench;

fn check(text: &str, message: &str, (line, column): (usize, usize), marked: &str) {
    let mut bench = Bench::new();
    bench.image("base", &[], |_| {});
    let error = bench.fail(text);
    assert_eq!(error.to_string(), message, "{text}");
    let location = error.location.expect("a place");
    assert_eq!((location.line, location.column), (line, column), "{text}");
    assert!(location.excerpt.contains(marked), "{}", location.excerpt);
}

#[test]
fn errors_show_the_place_in_the_dockerfile() {
    check(
        "FROM base\nRUNN x\n",
        "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        (2, 1),
        "   2 | >>> RUNN x\n",
    );
    check(
        "FROM base\nCOPY nope .\n",
        "failed to compute cache key: failed to calculate checksum of ref context: \"/nope\": not found",
        (2, 6),
        "   2 | >>> COPY nope .\n",
    );
    check(
        "FROM base\nCOPY --from=9 a b",
        "invalid stage index 9",
        (2, 13),
        "   2 | >>> COPY --from=9 a b\n",
    );
    check(
        "FROM missing\n",
        "missing:latest: failed to resolve source metadata for docker.io/library/missing:latest: not found",
        (1, 1),
        "   1 | >>> FROM missing\n",
    );
    check(
        "FROM base\nRUN --security=insecure \\\n  true\n",
        "RUN --security=insecure is not supported by strata build",
        (2, 1),
        "   3 | >>>   true\n",
    );
}

#[test]
fn a_target_that_is_not_there_has_no_place() {
    let bench = Bench::new();
    let mut options = bench.options("FROM scratch");
    options.target = Some("nope".to_owned());
    let (result, _) = bench.run(&options);
    let error = result.map(|built| built.id).expect_err("fails");
    assert_eq!(
        error.to_string(),
        "target stage \"nope\" could not be found"
    );
    assert_eq!(error.location, None);
}

#[test]
fn nothing_is_tagged_when_a_step_fails() {
    let bench = Bench::new();
    bench.fail("FROM scratch\nCOPY nope /");
    assert!(bench.store.images().expect("readable").is_empty());
}
