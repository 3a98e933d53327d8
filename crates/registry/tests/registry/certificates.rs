//! TLS to Debian's docker-registry, with certificates that openssl makes.

use std::fs;
use std::path::{Path, PathBuf};

use registry::{ClientOptions, Settings};

use crate::fixture::Shelf;
use crate::programs::{Distribution, run};
use crate::round_trips::push;
use crate::scripted::{impatient, told};

/// Makes a certificate in `directory`, `name.pem`, and its key, `name.key`.
fn certificate(directory: &Path, name: &str, more: &[&str]) -> PathBuf {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    let (pem, key) = (file("pem"), file("key"));
    let common = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj";
    let subject = format!("/CN={name}");
    let out = [
        "-keyout",
        key.to_str().expect("text"),
        "-out",
        pem.to_str().expect("text"),
    ];
    let common: Vec<&str> = common.split(' ').chain([&*subject]).collect();
    run("openssl", &[&common, &out[..], more].concat());
    pem
}

#[test]
fn docker_registry_with_tls_is_reached_as_the_settings_say() {
    let place = tempfile::tempdir().expect("a directory");
    let ca = certificate(place.path(), "ca", &[]);
    let ca = ca.to_str().expect("text");
    let key = place.path().join("ca.key");
    let by_ca = ["-CA", ca, "-CAkey", key.to_str().expect("text"), "-addext"];
    let not_ca = "basicConstraints=critical,CA:FALSE";
    let for_server = [
        &by_ca[..],
        &[not_ca, "-addext", "subjectAltName=IP:127.0.0.1"],
    ]
    .concat();
    certificate(place.path(), "server", &for_server);
    certificate(place.path(), "client", &[&by_ca[..], &[not_ca]].concat());
    let path = |name: &str| place.path().join(name).to_str().expect("text").to_owned();
    let registry = Distribution::start(&format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{ca}]\n",
        path("server.pem"),
        path("server.key")
    ));
    let table = format!("[registry.\"{}\"]\nhttp = false\n", registry.host);
    let pair = format!(
        "[[registry.\"{}\".keypair]]\nkey = \"{}\"\ncert = \"{}\"\n",
        registry.host,
        path("client.key"),
        path("client.pem")
    );
    let trust = format!("ca = [\"{ca}\"]\n");
    let missing = "ca = [\"/nowhere.pem\"]\n".to_owned();
    let no_pem = format!("ca = [\"{}\"]\n", path("ca.key"));
    let shelf = Shelf::new();
    let id = shelf.image("app:1", &["one"]);
    let attempt = |lines: &[&String]| {
        let text: String = lines.iter().map(|line| line.as_str()).collect();
        let settings = Settings::parse(&format!("{table}{text}"), Path::new("r.toml"));
        let options = ClientOptions {
            settings: settings.expect("valid"),
            ..impatient()
        };
        push(&shelf.store, id, registry.remote("app:1", options))
    };
    let insecure = "insecure = true\n".to_owned();
    attempt(&[&trust, &pair]).expect("pushed");
    attempt(&[&insecure, &pair]).expect("pushed");
    for (lines, said) in [
        (&[&pair][..], "certificate signed by unknown authority"),
        (&[&trust], "Get \"https://127.0.0.1"),
        (&[&missing, &pair], "cannot read `/nowhere.pem`"),
        (&[&no_pem, &pair], "no certificate in"),
    ] {
        let error = attempt(lines).expect_err("refused");
        assert!(told(&error).contains(said), "{}", told(&error));
    }
}

/// Makes a self-signed certificate for `name` that may vouch for others, `server.pem`, valid from
/// one time to another, and its key, `server.key`.
fn own_authority(directory: &Path, name: &str, from: &str, until: &str) {
    let file = |name: &str| directory.join(name).to_str().expect("text").to_owned();
    let config = format!(
        "[ca]\ndefault_ca = d\n[d]\nnew_certs_dir = {0}\ndatabase = {0}/index\nserial = {0}/serial\n\
         default_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n\
         [e]\nbasicConstraints = critical,CA:TRUE\nsubjectAltName = {name}\n",
        directory.display()
    );
    for (name, text) in [("ca.cnf", &*config), ("index", ""), ("serial", "01\n")] {
        fs::write(directory.join(name), text).expect("written");
    }
    let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=own";
    let request: Vec<&str> = request.split(' ').collect();
    let (key, asked) = (file("server.key"), file("server.csr"));
    run(
        "openssl",
        &[&request[..], &["-keyout", &key, "-out", &asked]].concat(),
    );
    let (config, pem) = (file("ca.cnf"), file("server.pem"));
    run(
        "openssl",
        &[
            "ca",
            "-batch",
            "-notext",
            "-selfsign",
            "-config",
            &config,
            "-keyfile",
            &key,
            "-in",
            &asked,
            "-startdate",
            from,
            "-enddate",
            until,
            "-out",
            &pem,
        ],
    );
}

#[test]
fn docker_registry_with_a_certificate_of_its_own_is_trusted_when_that_is_listed() {
    let (past, now_on, future) = ("20200101000000Z", "20210101000000Z", "20480101000000Z");
    let shelf = Shelf::new();
    let id = shelf.image("app:1", &["one"]);
    for (name, from, until, said) in [
        ("IP:127.0.0.1", now_on, future, None),
        ("DNS:r.example", now_on, future, Some("not valid for")),
        ("IP:127.0.0.1", past, now_on, Some("certificate expired")),
        (
            "IP:127.0.0.1",
            future,
            "20490101000000Z",
            Some("not valid yet"),
        ),
    ] {
        let place = tempfile::tempdir().expect("a directory");
        own_authority(place.path(), name, from, until);
        let path = |name: &str| place.path().join(name).to_str().expect("text").to_owned();
        let (pem, key) = (path("server.pem"), path("server.key"));
        let registry =
            Distribution::start(&format!("  tls:\n    certificate: {pem}\n    key: {key}\n"));
        let other = certificate(
            place.path(),
            "own",
            &["-addext", "subjectAltName=IP:127.0.0.1"],
        );
        let other = other.to_str().expect("text");
        let attempt = |listed: &[&str]| {
            let text = format!("[registry.\"{}\"]\nca = {listed:?}", registry.host);
            let settings = Settings::parse(&text, Path::new("r.toml"));
            let options = ClientOptions {
                settings: settings.expect("valid"),
                ..impatient()
            };
            push(&shelf.store, id, registry.remote("app:1", options)).map_err(|error| told(&error))
        };
        let error = attempt(&[other]).expect_err("another certificate of the same name");
        assert!(error.contains("tls: "), "{error}");
        match said {
            None => {
                attempt(&[other, &pem]).expect("pushed");
            }
            Some(said) => {
                let error = attempt(&[&pem]).expect_err(said);
                assert!(error.contains(said), "{name} {from}: {error}");
            }
        }
    }
}

#[test]
fn docker_registry_with_tls_is_reached_with_what_lies_in_the_directory_of_its_host() {
    let place = tempfile::tempdir().expect("a directory");
    let ca = certificate(place.path(), "ca", &[]);
    let ca = ca.to_str().expect("text");
    let key = place.path().join("ca.key");
    let by_ca = ["-CA", ca, "-CAkey", key.to_str().expect("text"), "-addext"];
    let not_ca = "basicConstraints=critical,CA:FALSE";
    let name = ["-addext", "subjectAltName=IP:127.0.0.1"];
    certificate(
        place.path(),
        "server",
        &[&by_ca[..], &[not_ca], &name].concat(),
    );
    certificate(place.path(), "client", &[&by_ca[..], &[not_ca]].concat());
    // The first by name, but not one that the registry knows.
    certificate(place.path(), "alien", &["-addext", not_ca]);
    let path = |name: &str| place.path().join(name);
    let registry = Distribution::start(&format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{ca}]\n",
        path("server.pem").display(),
        path("server.key").display()
    ));
    let directories = [path("none"), path("certs.d")];
    let directory = path("certs.d").join(&registry.host);
    fs::create_dir_all(&directory).expect("a directory");
    let shelf = Shelf::new();
    let id = shelf.image("app:1", &["one"]);
    let attempt = |text: &str| {
        let settings = Settings::parse(text, Path::new("r.toml")).expect("valid");
        let options = ClientOptions {
            settings: settings.with_certificates(&directories),
            ..impatient()
        };
        push(&shelf.store, id, registry.remote("app:1", options)).map_err(|error| told(&error))
    };
    let put = |from: &str, to: &str| {
        fs::copy(path(from), directory.join(to)).expect("copied");
    };
    let refused = |said: &str| {
        let error = attempt("").expect_err(said);
        assert!(error.contains(said), "{error}");
    };
    refused("set `http = false`");
    put("ca.pem", "ca.crt");
    refused("Get \"https://127.0.0.1");
    put("client.pem", "client.cert");
    refused("client.key` beside it");
    put("alien.key", "client.key");
    refused("unusable key `");
    put("ca.pem", "client.key");
    refused("no private key in `");
    put("client.key", "client.key");
    attempt("").expect("pushed");
    put("alien.pem", "alien.cert");
    put("alien.key", "alien.key");
    attempt("").expect("pushed with the certificate that the registry asks for");
    put("ca.key", "ca.crt");
    refused("no certificate in `");
    fs::write(
        directory.join("ca.crt"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    )
    .expect("written");
    refused("ca.crt`");

    // What the settings say of the host counts instead.
    let text = format!(
        "[registry.\"{}\"]\nca = [\"{ca}\"]\nkeypair = [{{ key = {:?}, cert = {:?} }}]",
        registry.host,
        path("client.key"),
        path("client.pem")
    );
    attempt(&text).expect("pushed");
    let told = format!("[registry.\"{}\"]\nhttp = true", registry.host);
    let error = attempt(&told).expect_err("plain");
    assert!(error.contains("set `http = false`"), "{error}");
}
