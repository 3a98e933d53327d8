//! Names of images, digests and platforms.

use oci::{Digest, Platform, Reference};

/// Parses `data` as a name, a digest and a platform. What is read reads back from its own text,
/// in both of a name's forms.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Reference::parse(text) {
        Ok(reference) => {
            for form in [reference.to_string(), reference.familiar()] {
                let again = Reference::parse(&form).expect("its own text");
                assert_eq!(again, reference, "{form}");
            }
            let tagged = reference.clone().or_latest();
            assert!(tagged.tag().is_some() || tagged.digest().is_some());
            assert!(!reference.path().is_empty() && !reference.registry().is_empty());
            // It goes into URLs and file names as it is.
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
            assert!(reference.to_string().chars().all(plain), "{reference}");
            assert!(!reference.path().split('/').any(|part| part == ".."));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let again: Platform = platform.to_string().parse().expect("its own text");
        assert_eq!(again, platform);
    }
}
