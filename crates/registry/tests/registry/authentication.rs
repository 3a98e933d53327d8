//! Tokens, passwords, and who gets to see them.

use std::io::Read as _;

use base64::Engine as _;
use registry::login::Login;
use registry::{Client, ClientOptions};
use store::{Source as _, Target as _};

use crate::scripted::{Asked, Reply, Script, blob, impatient, manifest, told, with_config};

/// A registry with a token server under one address, as Docker Hub is under two. `good` decides
/// whether a token will do for a request.
fn hub<F>(good: F) -> Script
where
    F: Fn(usize, &Asked) -> bool + Send + Sync + 'static,
{
    Script::start(move |number, asked| {
        if asked.path() == "/token" {
            return Reply::json(200, &format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        if !good(number, asked) {
            let host = asked.header("host").expect("a host");
            let challenge = format!(
                r#"Bearer realm="http://{host}/token",service="hub.test",scope="repository:team/app:pull""#
            );
            return Reply::error(401, "UNAUTHORIZED", "authentication required")
                .header("WWW-Authenticate", &challenge);
        }
        match asked.method.as_str() {
            "GET" if asked.path().contains("/manifests/") => Reply::manifest(&manifest().0),
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/v2/team/app/blobs/uploads/1"),
            _ => Reply::new(201),
        }
    })
}

fn authorized(asked: &Asked) -> bool {
    asked.header("authorization").is_some()
}

#[test]
fn an_anonymous_token_is_fetched_once_for_each_scope() {
    let script = hub(|_, asked| authorized(asked));
    let remote = script.remote();
    for _ in 0..2 {
        remote.resolve().expect("a manifest");
    }
    assert_eq!(
        script.lines(),
        [
            "GET /v2/team/app/manifests/1",
            "GET /token?service=hub.test&scope=repository%3Ateam%2Fapp%3Apull",
            "GET /v2/team/app/manifests/1",
            "GET /v2/team/app/manifests/1",
        ]
    );
    let (_, descriptor) = blob(3);
    remote.has_blob(&descriptor, None).expect("an answer");
    let lines = script.lines();
    assert_eq!(
        lines[4],
        "GET /token?service=hub.test&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"
    );
    assert!(lines[5].starts_with("HEAD /v2/team/app/blobs/sha256:"));
}

#[test]
fn a_password_goes_to_the_token_server_and_never_to_the_registry() {
    let script = hub(|_, asked| asked.header("authorization") == Some("Bearer t1"));
    let auth = base64::engine::general_purpose::STANDARD.encode("user:pass word");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, script.host());
    let (_directory, options) = with_config(&config);
    let remote = script.remote_with(options, "team/app:1");
    remote.resolve().expect("a manifest");
    let basic = format!("Basic {auth}");
    for asked in script.asked() {
        let token = asked.path() == "/token";
        assert_eq!(asked.header("authorization") == Some(&basic), token);
        assert_eq!(token, asked.target.contains("account=user"));
    }
}

#[test]
fn an_identity_token_is_exchanged_with_a_form() {
    let script = hub(|_, asked| asked.header("authorization") == Some("Bearer t1"));
    let config = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"i&d"}}}}}}"#,
        script.host()
    );
    let (_directory, options) = with_config(&config);
    let remote = script.remote_with(options, "team/app:1");
    remote.resolve().expect("a manifest");
    let form = &script.asked()[1];
    assert_eq!(form.line(), "POST /token");
    assert_eq!(
        String::from_utf8_lossy(&form.body),
        "grant_type=refresh_token&service=hub.test&client_id=strata\
         &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=i%26d"
    );
}

#[test]
fn basic_authentication_sends_the_password_with_each_request() {
    let script = Script::start(|_, asked| {
        if asked.header("authorization") == Some("Basic dTpw") {
            Reply::manifest(&manifest().0)
        } else {
            Reply::new(401).header("WWW-Authenticate", r#"Basic realm="x""#)
        }
    });
    let config = format!(
        r#"{{"auths":{{"http://{}/v2/":{{"auth":"dTpw"}}}}}}"#,
        script.host()
    );
    let (_directory, options) = with_config(&config);
    let remote = script.remote_with(options, "team/app:1");
    remote.resolve().expect("a manifest");
    remote.resolve().expect("a manifest");
    assert_eq!(script.asked().len(), 3);

    let error = script.remote().resolve().expect_err("anonymous");
    assert_eq!(told(&error), "unauthorized: authentication required");
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed_once() {
    let script = hub(|number, asked| match asked.header("authorization") {
        Some("Bearer t1") => number < 4,
        header => header.is_some(),
    });
    let remote = script.remote();
    for _ in 0..4 {
        remote.resolve().expect("a manifest");
    }
    let tokens = script
        .lines()
        .iter()
        .filter(|line| line.contains("/token"))
        .count();
    assert_eq!(tokens, 2);
}

#[test]
fn an_upload_whose_token_expires_starts_again() {
    let script = hub(|_, asked| {
        let header = asked.header("authorization");
        header.is_some() && (asked.method != "PUT" || header != Some("Bearer t1"))
    });
    let remote = script.remote();
    let (bytes, descriptor) = blob(700_000);
    let open =
        |_| Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn std::io::Read + Send>);
    remote
        .put_blob(&descriptor, None, &open, &|_| {})
        .expect("stored");
    let asked = script.asked();
    let puts: Vec<&Asked> = asked.iter().filter(|asked| asked.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[1].body, bytes);
}

#[test]
fn a_registry_that_is_never_content_is_asked_twice() {
    let script = hub(|_, _| false);
    let error = script.remote().resolve().expect_err("refused");
    assert_eq!(told(&error), "unauthorized: authentication required");
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn a_private_or_missing_repository_reads_as_docker_says_it() {
    let script = Script::start(|_, asked| {
        if asked.path() == "/token" {
            return Reply::json(200, r#"{"access_token":"t"}"#);
        }
        let host = asked.header("host").expect("a host");
        let challenge = format!(r#"Bearer realm="http://{host}/token",error="insufficient_scope""#);
        Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", &challenge)
    });
    let error = script.remote().resolve().expect_err("refused");
    assert_eq!(
        told(&error),
        format!(
            "pull access denied for {}/team/app, repository does not exist or may require \
             'docker login': denied: requested access to the resource is denied",
            script.host()
        )
    );
    let (_, descriptor) = blob(3);
    let error = script
        .remote()
        .has_blob(&descriptor, None)
        .expect_err("refused");
    assert_eq!(
        told(&error),
        "denied: requested access to the resource is denied"
    );
}

#[test]
fn a_refused_password_shows_the_token_servers_words() {
    let script = Script::start(|_, asked| {
        if asked.path() == "/token" {
            return Reply::json(401, r#"{"details":"incorrect username or password"}"#);
        }
        let host = asked.header("host").expect("a host");
        Reply::new(401).header(
            "WWW-Authenticate",
            &format!(r#"Bearer realm="http://{host}/token""#),
        )
    });
    let error = script.remote().resolve().expect_err("refused");
    assert_eq!(told(&error), "unauthorized: incorrect username or password");
}

#[test]
fn a_token_server_cannot_answer_without_end_or_with_nonsense() {
    for answer in [
        Reply::json(200, "{}"),
        Reply::json(200, "x"),
        Reply::json(200, "{\"token\":\"a\\nb\"}"),
        Reply::new(200).header("Content-Length", "99999999999"),
    ] {
        let script = Script::start(move |_, asked| {
            if asked.path() == "/token" {
                return answer.clone();
            }
            let host = asked.header("host").expect("a host");
            Reply::new(401).header(
                "WWW-Authenticate",
                &format!(r#"Bearer realm="http://{host}/token""#),
            )
        });
        let error = told(&script.remote().resolve().expect_err("refused"));
        assert!(error.starts_with("invalid answer to Get"), "{error}");
    }
}

#[test]
fn a_blob_from_another_host_is_fetched_without_authorization() {
    let (bytes, descriptor) = blob(100_000);
    let served = bytes.clone();
    let elsewhere = Script::start(move |_, _| Reply::new(200).body(&served));
    let target = elsewhere.url("/signed?x=1");
    let script = hub(|_, asked| authorized(asked));
    let registry = {
        let hub_url = script.url("/token");
        Script::start(move |_, asked| {
            if authorized(asked) {
                return Reply::new(307).header("Location", &target);
            }
            Reply::new(401).header(
                "WWW-Authenticate",
                &format!(r#"Bearer realm="{hub_url}",service="s""#),
            )
        })
    };
    let mut found = Vec::new();
    registry
        .remote()
        .open_blob(&descriptor, 0)
        .expect("opened")
        .read_to_end(&mut found)
        .expect("read");
    assert_eq!(found, bytes);
    assert_eq!(
        registry.asked()[1].header("authorization"),
        Some("Bearer t0")
    );
    let asked = elsewhere.asked();
    assert_eq!(asked[0].line(), "GET /signed?x=1");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn an_upload_to_another_host_carries_no_authorization() {
    let elsewhere = Script::start(|_, _| Reply::new(201));
    let target = elsewhere.url("/bucket/1?signature=s");
    let script = hub(|_, asked| authorized(asked));
    let realm = script.url("/token");
    let registry = Script::start(move |_, asked| {
        if authorized(asked) {
            Reply::new(202).header("Location", &target)
        } else {
            Reply::new(401).header("WWW-Authenticate", &format!(r#"Bearer realm="{realm}""#))
        }
    });
    let (bytes, descriptor) = blob(10);
    let open =
        |_| Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn std::io::Read + Send>);
    registry
        .remote()
        .put_blob(&descriptor, None, &open, &|_| {})
        .expect("stored");
    let asked = elsewhere.asked();
    assert_eq!(asked[0].header("authorization"), None);
    assert!(
        asked[0]
            .target
            .starts_with("/bucket/1?signature=s&digest=sha256%3A")
    );
}

#[test]
fn credentials_that_cannot_be_read_are_named_when_the_registry_refuses() {
    let broken = [
        ("{", "malformed docker configuration"),
        (
            r#"{"credsStore":"strata-test-missing"}"#,
            "failed to run credential helper `docker-credential-strata-test-missing`",
        ),
    ];
    for (config, expected) in broken {
        let (_directory, options) = with_config(config);
        let public = hub(|_, asked| authorized(asked));
        let remote = public.remote_with(options.clone(), "team/app:1");
        remote.resolve().expect("public");

        let private = hub(|_, _| false);
        let remote = private.remote_with(options.clone(), "team/app:1");
        for _ in 0..2 {
            let error = remote.resolve().expect_err("refused");
            assert!(told(&error).contains(expected), "{}", told(&error));
        }
        let basic = Script::in_turn(vec![
            Reply::new(401).header("WWW-Authenticate", r#"Basic realm="x""#),
        ]);
        let remote = basic.remote_with(options, "team/app:1");
        let error = remote.resolve().expect_err("refused");
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
}

fn login() -> Login {
    Login {
        user: "u".to_owned(),
        password: "p".to_owned(),
    }
}

#[test]
fn a_token_in_place_of_the_password_is_kept_and_used() {
    let script = Script::start(|_, asked| {
        if asked.path() == "/token" && asked.method == "GET" {
            assert!(
                asked.target.contains("offline_token=true"),
                "{}",
                asked.target
            );
            assert!(asked.target.contains("account=u"), "{}", asked.target);
            let answer = r#"{"token":"access","refresh_token":"long-lived"}"#;
            return Reply::json(200, answer);
        }
        if asked.path() == "/token" {
            assert!(String::from_utf8_lossy(&asked.body).contains("refresh_token=long-lived"));
            return Reply::json(200, r#"{"access_token":"access"}"#);
        }
        if asked.header("authorization") == Some("Bearer access") {
            return Reply::json(200, "{}");
        }
        let host = asked.header("host").expect("a host");
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", &challenge)
    });
    let directory = tempfile::tempdir().expect("a directory");
    let options = ClientOptions {
        docker_config: Some(directory.path().to_owned()),
        ..impatient()
    };
    let host = script.host();
    let client = Client::new(options.clone());
    assert!(!client.log_in_again(&host).expect("nothing to try"));
    let token = client.log_in(&host, &login()).expect("taken");
    assert!(token.is_some());
    registry::login::keep(directory.path(), &host, &login(), token.as_ref()).expect("kept");
    let config = std::fs::read_to_string(directory.path().join("config.json")).expect("there");
    let password = base64::engine::general_purpose::STANDARD.encode("u:p");
    assert!(!config.contains(&password), "{config}");
    assert!(Client::new(options).log_in_again(&host).expect("taken"));
}

#[test]
fn a_login_that_the_token_server_refuses_is_told_in_its_words() {
    let script = Script::start(|_, asked| {
        if asked.path() == "/token" {
            let answer = r#"{"details":"incorrect username or password"}"#;
            return Reply::json(401, answer);
        }
        let host = asked.header("host").expect("a host");
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        Reply::error(401, "UNAUTHORIZED", "x").header("WWW-Authenticate", &challenge)
    });
    let client = Client::new(impatient());
    let error = client
        .log_in(&script.host(), &login())
        .expect_err("refused");
    assert_eq!(told(&error), "unauthorized: incorrect username or password");
}
