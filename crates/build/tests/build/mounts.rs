//! `RUN --mount`.

use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;

use build::{Event, Secret};
use layer::Form;

use crate::bench::Bench;

/// The line of a file of the result.
fn file(bench: &Bench, built: &build::Built, path: &str) -> String {
    bench.files(built, path).concat()
}

#[test]
fn privileged_a_bind_shows_the_context_and_keeps_nothing() {
    for form in [Form::Erofs, Form::Tree] {
        let mut bench = Bench::with_busybox();
        bench.form = form;
        bench.write("src/a[1]*.txt", "one\n");
        bench.write("src/deep/b", "two\n");
        bench.write("secret.key", "no\n");
        bench.write(".dockerignore", "*.key\n");
        let built = bench.build(
            "FROM base\nWORKDIR /w\n\
             RUN --mount=target=. ls -A /w > /all; stat -c %u:%g src/deep/b >> /all\n\
             RUN --mount=type=bind,source=src,target=/new/src,rw echo 3 > /new/src/c && \
                 ls /new/src > /written\n\
             RUN --mount=source=src/a[1]*.txt,target=/etc/one cat /etc/one > /one; \
                 ! echo x > /etc/one\n\
             RUN ls -d /new /etc/one /w/src > /left 2>&1 || true",
        );
        let all = file(&bench, &built, "all");
        assert_eq!(
            all, "f 644 0:0 all \".dockerignore\\nsrc\\n0:0\\n\"",
            "{form:?}"
        );
        assert_eq!(
            file(&bench, &built, "written"),
            "f 644 0:0 written \"a[1]*.txt\\nc\\ndeep\\n\""
        );
        assert_eq!(file(&bench, &built, "one"), "f 644 0:0 one \"one\\n\"");
        assert_eq!(bench.files(&built, "new"), [""; 0]);
        assert_eq!(bench.files(&built, "etc/one"), [""; 0]);
        assert!(!file(&bench, &built, "left").contains("\\n/"));
        assert!(!bench.context().join("src/c").exists());
    }
}

#[test]
fn privileged_what_a_bind_shows_decides_whether_its_step_runs_again() {
    let bench = Bench::with_busybox();
    bench.write("used/a", "1");
    bench.write("unused", "1");
    let text = "FROM base AS tools\nRUN mkdir /t && echo tool > /t/x && echo $RANDOM > /other\n\
         FROM base\nRUN --mount=source=used,target=/u cat /u/a > /a\n\
         RUN --mount=from=tools,source=/t,target=/t cat /t/x > /x";
    assert_eq!(bench.build(text).executed, 3);
    bench.write("unused", "2");
    assert_eq!(bench.build(text).executed, 0);
    bench.write("used/a", "2");
    let changed = bench.build(text);
    assert_eq!(changed.executed, 2, "the step, and what follows it");
    assert_eq!(file(&bench, &changed, "a"), "f 644 0:0 a \"2\"");
    assert_eq!(file(&bench, &changed, "x"), "f 644 0:0 x \"tool\\n\"");
    // Another stage whose files are the same.
    let other = text.replace("echo $RANDOM", "echo changed");
    assert_eq!(bench.build(&other).executed, 1);
    // Where it is shown, and how, is part of the step.
    let moved = text
        .replace("target=/t ", "target=/t2,rw ")
        .replace("/t/x > /x", "/t2/x > /x");
    assert_eq!(bench.build(&moved).executed, 1);
}

#[test]
fn privileged_binds_of_stages_and_images_can_be_written_and_keep_nothing() {
    let bench = Bench::with_busybox();
    let built = bench.build(
        "FROM base AS one\nRUN echo 1 > /file && ln -s /file /link\nFROM base\n\
         RUN --mount=from=one,target=/one,rw cat /one/file > /a && echo 2 > /one/file\n\
         RUN --mount=from=one,source=/link,target=/l cat /l >> /a\n\
         RUN --mount=from=base,source=/bin,target=/tools /tools/busybox echo 3 >> /a\n\
         RUN --mount=from=scratch,target=/none ls -A /none | wc -l >> /a",
    );
    assert_eq!(
        file(&bench, &built, "a"),
        "f 644 0:0 a \"1\\n1\\n3\\n0\\n\""
    );
}

#[test]
fn privileged_a_cache_outlives_builds_and_is_in_no_layer() {
    let bench = Bench::with_busybox();
    let text = |n: u32| {
        format!(
            "FROM base\nRUN --mount=type=cache,target=/c echo {n} >> /c/log; cat /c/log > /out\n\
             RUN ls -d /c > /left 2>&1 || true"
        )
    };
    bench.build(&text(1));
    let built = bench.build(&text(2));
    assert_eq!(file(&bench, &built, "out"), "f 644 0:0 out \"1\\n2\\n\"");
    assert!(file(&bench, &built, "left").contains("No such file"));
    // The same name from elsewhere is the same cache; another owner or start is another.
    let built = bench.build(
        "FROM base AS seed\nRUN mkdir /s && echo seed > /s/x\nFROM base\n\
         RUN --mount=type=cache,id=/c,target=/d cat /d/log > /out\n\
         RUN --mount=type=cache,id=/c,target=/d,uid=5,gid=6,mode=0700 \
             stat -c '%a %u:%g' /d >> /out; ls -A /d | wc -l >> /out\n\
         RUN --mount=type=cache,id=/c,from=seed,source=/s,target=/d cat /d/x >> /out; echo >> /d/y\n\
         RUN --mount=type=cache,id=/c,from=seed,source=/s,target=/d ls /d >> /out\n\
         RUN --mount=type=cache,id=/c,target=/d,ro ! echo x > /d/log",
    );
    assert_eq!(
        file(&bench, &built, "out"),
        "f 644 0:0 out \"1\\n2\\n700 5:6\\n0\\nseed\\nx\\ny\\n\""
    );
    let caches = bench.store.caches().expect("readable");
    assert_eq!(caches.len(), 3);
    assert!(caches.iter().any(|cache| {
        cache
            .description
            .starts_with("cached mount /c from exec /bin/sh -c echo 1 ")
    }));
}

/// Two stages whose steps append to a cache while the other runs, and what the cache has then.
fn two_writers(sharing: &str) -> String {
    let bench = Bench::with_busybox();
    let step = |name: &str| {
        format!(
            "RUN --mount=type=cache,id=x,target=/c,sharing={sharing} \
             echo {name} >> /c/log; sleep 0.3; echo {name} >> /c/log; cp /c/log /{name}"
        )
    };
    let built = bench.build(&format!(
        "FROM base AS a\n{}\nFROM base AS b\n{}\nFROM base\n\
         COPY --from=a /a /a\nCOPY --from=b /b /b\n\
         RUN --mount=type=cache,id=x,target=/c cp /c/log /log",
        step("a"),
        step("b")
    ));
    let line = file(&bench, &built, "log");
    let (_, content) = line.split_once(" log ").expect("a file");
    content.replace("\\n", "").replace('"', "")
}

#[test]
fn privileged_a_locked_cache_has_one_user_and_a_private_one_is_not_shared() {
    let locked = two_writers("locked");
    assert!(["aabb", "bbaa"].contains(&locked.as_str()), "{locked}");
    let private = two_writers("private");
    assert!(["aa", "bb"].contains(&private.as_str()), "{private}");
    let shared = two_writers("shared");
    assert_eq!(shared.len(), 4, "{shared}");
}

#[test]
fn privileged_a_step_that_names_a_locked_cache_twice_does_not_wait_for_itself() {
    let bench = Bench::with_busybox();
    let built = bench.build(
        "FROM base\nRUN --mount=type=cache,id=x,target=/c,sharing=locked \
         --mount=type=cache,id=x,target=/d echo 1 > /c/f; cat /d/f > /out",
    );
    assert_eq!(file(&bench, &built, "out"), "f 644 0:0 out \"1\\n\"");
}

#[test]
fn privileged_a_canceled_build_does_not_wait_for_a_cache() {
    let bench = Bench::with_busybox();
    let text = "FROM base\nRUN --mount=type=cache,id=x,target=/c,sharing=locked true";
    bench.build(text);
    let [cache] = bench
        .store
        .caches()
        .expect("readable")
        .try_into()
        .expect("one cache");
    let lock = bench
        .store
        .root()
        .join("caches")
        .join(&cache.name)
        .join("lock");
    let held = std::fs::File::open(lock).expect("there");
    held.lock().expect("free");
    let cancel = AtomicBool::new(false);
    let options = bench.options(&text.replace("true", "echo"));
    let result = bench.run_with(&options, &cancel, &|event| {
        if matches!(&event, Event::StepStarted { name, .. } if name.contains("RUN")) {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let error = result.map(|built| built.id).expect_err("canceled");
    assert_eq!(error.to_string(), "context canceled");
}

#[test]
fn privileged_memory_is_limited_and_gone_afterwards() {
    let bench = Bench::with_busybox();
    let built = bench.build(
        "FROM base\nRUN --mount=type=tmpfs,target=/m,size=65536 \
         dd if=/dev/zero of=/m/x bs=1024 count=100 2>&1 | grep -c 'No space' > /out\n\
         RUN ls -d /m > /left 2>&1 || true",
    );
    assert_eq!(file(&bench, &built, "out"), "f 644 0:0 out \"1\\n\"");
    assert!(file(&bench, &built, "left").contains("No such file"));
}

/// Tells whether any file below `directory` has `text` in it.
fn is_anywhere(directory: &std::path::Path, text: &[u8]) -> bool {
    std::fs::read_dir(directory)
        .expect("readable")
        .any(|entry| {
            let path = entry.expect("readable").path();
            let status = std::fs::symlink_metadata(&path).expect("there");
            if status.is_dir() {
                return is_anywhere(&path, text);
            }
            status.is_file() && {
                let content = std::fs::read(&path).expect("readable");
                content.windows(text.len()).any(|window| window == text)
            }
        })
}

#[test]
fn privileged_a_secret_is_seen_by_its_step_and_kept_nowhere() {
    let bench = Bench::with_busybox();
    let value = "hunter2-0123456789";
    let text = "FROM base\n\
         RUN --mount=type=secret,id=key,required wc -c < /run/secrets/key > /out; \
             stat -c '%a %u:%g' /run/secrets/key >> /out\n\
         RUN --mount=type=secret,id=key,env=KEY,target=/k,mode=0440,uid=1,gid=2 \
             stat -c '%a %u:%g' /k >> /out; echo -n \"$KEY\" | wc -c >> /out\n\
         RUN --mount=type=secret,id=key,env=KEY ls /run/secrets/key 2>/dev/null | wc -l >> /out\n\
         RUN --mount=type=secret,id=other test ! -e /run/secrets/other && env | grep -c KEY >> /out; \
             ls -d /run/secrets /k 2>/dev/null | wc -l >> /out";
    let mut options = bench.options(text);
    let secret = |value: &str| Secret::new(value.as_bytes().to_vec()).expect("short");
    options.secrets.insert("key".to_owned(), secret(value));
    let (built, events) = bench.run(&options);
    let built = built.expect("builds");
    assert_eq!(
        file(&bench, &built, "out"),
        "f 644 0:0 out \"18\\n400 0:0\\n440 1:2\\n18\\n0\\n0\\n0\\n\""
    );
    assert!(!is_anywhere(bench.store.root(), value.as_bytes()));
    assert!(!format!("{events:?} {options:?}").contains(value));
    // Its value is no reason to run a step again.
    options.secrets.insert("key".to_owned(), secret("another"));
    assert_eq!(bench.run(&options).0.expect("builds").executed, 0);
    assert_eq!(Secret::new(vec![0; Secret::MAX_SIZE + 1]), None);
}

#[test]
fn privileged_what_a_step_must_have_and_was_not_given_is_named() {
    let bench = Bench::with_busybox();
    let message = |mount: &str| {
        let error = bench.fail(&format!("FROM base\nRUN --mount={mount} true"));
        assert_eq!(error.location.as_ref().map(|place| place.line), Some(2));
        error.to_string()
    };
    assert_eq!(message("type=secret,id=x,required"), "secret x: not found");
    assert_eq!(
        message("type=ssh,required"),
        "unset ssh forward key default"
    );
    assert_eq!(message("target=/"), "invalid mount target \"/\"");
    assert_eq!(
        message("source=nope,target=/x"),
        "failed to compute cache key: failed to calculate checksum of ref context: \"/nope\": not found"
    );
    let text = message("from=base,source=nope,target=/x");
    assert!(text.ends_with("\"/nope\": not found"), "{text}");
    let mut options = bench.options("FROM base\nRUN --mount=type=secret,id=x,env=X true");
    let binary = Secret::new(b"a\0b".to_vec()).expect("short");
    options.secrets.insert("x".to_owned(), binary);
    let error = bench
        .run(&options)
        .0
        .map(|built| built.id)
        .expect_err("fails");
    assert_eq!(
        error.to_string(),
        "secret x cannot be a variable: it is not text"
    );
}

#[test]
fn privileged_a_step_talks_with_the_agent_of_the_user() {
    let bench = Bench::with_busybox();
    let directory = bench.context();
    let socket = directory.join("agent.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let text = "FROM base\nRUN --mount=type=ssh,mode=0666,uid=7 \
         echo $SSH_AUTH_SOCK $(stat -c '%F %a %u' $SSH_AUTH_SOCK) > /out\n\
         RUN --mount=type=ssh,id=other echo none $SSH_AUTH_SOCK $(ls /run/buildkit) >> /out";
    let mut options = bench.options(text);
    options.agents.insert("default".to_owned(), socket);
    let built = bench.run(&options).0.expect("builds");
    assert_eq!(
        file(&bench, &built, "out"),
        "f 644 0:0 out \"/run/buildkit/ssh_agent.0 socket 666 7\\nnone /run/buildkit/ssh_agent.0\\n\""
    );
    drop(listener);
}
