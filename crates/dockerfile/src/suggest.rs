//! What was probably meant.

/// Words further away than this are no suggestion.
const MAX_DISTANCE: usize = 2;

/// Returns the option nearest to `word`, unless `word` is one of them or none is near.
pub fn nearest<'a>(word: &str, options: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    let distances = options
        .iter()
        .map(|option| (distance(&word, option), *option));
    let (distance, option) = distances.min()?;
    (1..=MAX_DISTANCE).contains(&distance).then_some(option)
}

/// The Levenshtein distance.
fn distance(word: &[char], option: &str) -> usize {
    let length = option.chars().count();
    if word.len().abs_diff(length) > MAX_DISTANCE {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (index, expected) in option.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, found) in word.iter().enumerate() {
            let substituted = diagonal + usize::from(*found != expected);
            diagonal = row[at + 1];
            row[at + 1] = substituted.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[word.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let options = ["RUN", "COPY", "USER"];
        assert_eq!(nearest("RUNN", &options), Some("RUN"));
        assert_eq!(nearest("CPOY", &options), Some("COPY"));
        assert_eq!(nearest("RUN", &options), None);
        assert_eq!(nearest("EXPOSE", &options), None);
    }
}
