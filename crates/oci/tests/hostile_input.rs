//! No text makes the parsers of names, digests and documents panic; what they accept they write
//! in a form that they read again.

use oci::{Descriptor, Digest, ImageConfig, ManifestOrIndex, Reference};

const ROUNDS: u32 = 50_000;

const PIECES: [&str; 34] = [
    "a",
    "Z",
    "9",
    "/",
    "//",
    ":",
    "::",
    "@",
    ".",
    "..",
    "-",
    "_",
    "__",
    "___",
    "[",
    "]",
    "[::1]",
    "localhost",
    "docker.io",
    "index.docker.io",
    "library/",
    "sha256:",
    "sha512:",
    "5000",
    "latest",
    "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "é",
    "\0",
    " ",
    "{",
    "}",
    "\"digest\":",
    "null",
    "\n",
];

/// xorshift64: the same inputs on every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn text(state: &mut u64) -> String {
    let pieces = u64::try_from(PIECES.len()).expect("a small number");
    let count = next(state) % 9;
    let piece = |state: &mut u64| {
        let index = usize::try_from(next(state) % pieces).expect("a small number");
        PIECES[index]
    };
    (0..count).map(|_| piece(state)).collect()
}

#[test]
fn random_text_never_panics_and_names_read_back() {
    let mut state = 0x5eed;
    let mut names = 0;
    for _ in 0..ROUNDS {
        let text = text(&mut state);
        let _digest = text.parse::<Digest>();
        let _descriptor = serde_json::from_str::<Descriptor>(&text);
        let _config = ImageConfig::parse(text.as_bytes());
        let _manifest = ManifestOrIndex::parse(None, text.as_bytes());
        let Ok(name) = Reference::parse(&text) else {
            continue;
        };
        names += 1;
        assert_eq!(
            Reference::parse(&name.to_string()).as_ref(),
            Ok(&name),
            "{text}"
        );
        let path = name.path();
        assert!(!path.contains("..") && !path.starts_with('/'), "{text}");
        let looks_like_id = name.familiar().len() == 64;
        if !looks_like_id {
            assert_eq!(
                Reference::parse(&name.familiar()).as_ref(),
                Ok(&name),
                "{text}"
            );
        }
    }
    assert!(names > 1000, "{names}");
}
