//! Physical lines: their limits, their encoding, and what makes them comments.

use crate::error::{Fault, ParseErrorKind};

/// BuildKit refuses longer lines, their end included.
pub(crate) const MAX_LINE: usize = 65_535;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads physical lines and counts them.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    /// The number of the line read last.
    pub(crate) number: u32,
}

/// A physical line.
pub(crate) enum Line<'a> {
    /// Its text, without the line end. It may be no valid UTF-8, which is replaced.
    Comment(String),
    /// Its text, with the line end.
    Text(&'a str),
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text),
            number: 0,
        }
    }

    /// Returns the next line.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'a>>, Fault> {
        let Some(bytes) = self.next_bytes()? else {
            return Ok(None);
        };
        if is_comment(bytes) {
            let text = String::from_utf8_lossy(bytes);
            return Ok(Some(Line::Comment(trim_end(&text).to_owned())));
        }
        self.text(bytes).map(|text| Some(Line::Text(text)))
    }

    /// Returns the next line of a heredoc, with its line end.
    pub(crate) fn next_verbatim(&mut self) -> Result<Option<&'a str>, Fault> {
        match self.next_bytes()? {
            Some(bytes) => self.text(bytes).map(Some),
            None => Ok(None),
        }
    }

    fn next_bytes(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        let end = self.rest.iter().position(|b| *b == b'\n');
        let (line, rest) = self
            .rest
            .split_at(end.map_or(self.rest.len(), |end| end + 1));
        self.rest = rest;
        if line.len() > MAX_LINE {
            return Err(Fault::at_line(ParseErrorKind::LineTooLong, self.number));
        }
        Ok(Some(line))
    }

    fn text(&self, bytes: &'a [u8]) -> Result<&'a str, Fault> {
        std::str::from_utf8(bytes).map_err(|_| Fault::at_line(ParseErrorKind::NotUtf8, self.number))
    }
}

fn is_comment(line: &[u8]) -> bool {
    let lossy = String::from_utf8_lossy(line);
    lossy.trim_start().starts_with('#')
}

/// Removes the line end.
pub(crate) fn trim_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}
