//! What someone who wrote a name that is none probably meant.

use oci::Reference;

/// Returns a valid name close to `text`, which is not one.
pub(crate) fn suggest(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let bare = trimmed
        .split_once("://")
        .map_or(trimmed, |(_, rest)| rest)
        .trim_end_matches(['/', ':']);
    let lower = lower_path(bare);
    [
        bare.to_owned(),
        joined_tag(bare),
        lower.clone(),
        joined_tag(&lower),
    ]
    .into_iter()
    .map(|candidate| candidate.replace("//", "/"))
    .find(|candidate| candidate != text && Reference::parse(candidate).is_ok())
}

/// `Ubuntu:Jammy` → `ubuntu:Jammy`: case counts in tags.
fn lower_path(text: &str) -> String {
    let name = text.rfind('/').map_or(0, |index| index + 1);
    let end = text[name..].find(':').map_or(text.len(), |at| name + at);
    format!("{}{}", text[..end].to_ascii_lowercase(), &text[end..])
}

/// `ubuntu:18:04` → `ubuntu:18.04`.
fn joined_tag(text: &str) -> String {
    let start = text.rfind('/').map_or(0, |index| index + 1);
    let (path, name) = text.split_at(start);
    match name.split_once(':') {
        Some((name, tag)) => format!("{path}{name}:{}", tag.replace(':', ".")),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_slips_are_recognised() {
        for (text, expected) in [
            ("ubuntu:18:04", Some("ubuntu:18.04")),
            ("localhost:5000/app:1:2", Some("localhost:5000/app:1.2")),
            ("Ubuntu", Some("ubuntu")),
            ("BAD:Tag", Some("bad:Tag")),
            ("https://quay.io/a/b", Some("quay.io/a/b")),
            ("docker://ubuntu", Some("ubuntu")),
            ("ubuntu:", Some("ubuntu")),
            (" ubuntu ", Some("ubuntu")),
            ("a//b", Some("a/b")),
            ("a___b", None),
            (":18.04", None),
            ("ubuntu@sha256:123", None),
        ] {
            assert_eq!(suggest(text).as_deref(), expected, "{text}");
        }
    }
}
