//! `--env`, `--env-file` and `--label`.

/// Why a variable cannot be set. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// There is nothing before the `=`.
    #[error("invalid environment variable: {0}")]
    NoName(String),
    /// A line of a file has nothing before the `=`.
    #[error("no variable name on line '{0}'")]
    NoNameOnLine(String),
    /// A name in a file has white space.
    #[error("variable '{0}' contains whitespaces")]
    WhiteSpace(String),
    /// A line of a file is not UTF-8.
    #[error("invalid utf8 bytes at line {0}")]
    NotText(usize),
}

/// Reads one `--env`: `NAME=value` as it is, `NAME` with its value out here. `None` when the
/// name has no value: the container does not get it either.
pub fn from_flag(
    text: &str,
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, VariableError> {
    if text.is_empty() || text.starts_with('=') {
        return Err(VariableError::NoName(text.to_owned()));
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(outside(text).map(|value| format!("{text}={value}")))
}

/// Reads the content of an `--env-file`.
pub fn from_file(
    content: &[u8],
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, VariableError> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut variables = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| VariableError::NotText(index + 1))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, has_value) = match line.split_once('=') {
            Some((name, _)) => (name, true),
            None => (line.trim_end(), false),
        };
        if name.is_empty() {
            return Err(VariableError::NoNameOnLine(line.to_owned()));
        }
        if name.contains(char::is_whitespace) {
            return Err(VariableError::WhiteSpace(name.to_owned()));
        }
        if has_value {
            variables.push(line.to_owned());
        } else if let Some(value) = outside(name) {
            variables.push(format!("{name}={value}"));
        }
    }
    Ok(variables)
}

/// Splits a `--label`: without `=` its value is empty.
pub fn label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/me".to_owned())
    }

    #[test]
    fn a_flag_without_value_takes_it_from_outside() {
        for (text, expected) in [
            ("A=1", Ok(Some("A=1"))),
            ("A=", Ok(Some("A="))),
            ("HOME", Ok(Some("HOME=/home/me"))),
            ("NOPE", Ok(None)),
            ("=x", Err("invalid environment variable: =x")),
        ] {
            let found = from_flag(text, &outside).map_err(|error| error.to_string());
            let expected = expected
                .map(|v| v.map(str::to_owned))
                .map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_file_has_one_variable_on_each_line() {
        let content = b"\xef\xbb\xbf# comment\n\nA=1 # not a comment\r\n  B=x=y\nHOME\nNOPE\n";
        assert_eq!(
            from_file(content, &outside),
            Ok(vec![
                "A=1 # not a comment".to_owned(),
                "B=x=y".to_owned(),
                "HOME=/home/me".to_owned()
            ])
        );
        for (content, expected) in [
            ("A B=1", VariableError::WhiteSpace("A B".to_owned())),
            ("=1", VariableError::NoNameOnLine("=1".to_owned())),
        ] {
            assert_eq!(from_file(content.as_bytes(), &outside), Err(expected));
        }
        assert_eq!(from_file(b"\xff", &outside), Err(VariableError::NotText(1)));
    }
}
