//! The low-level tree: instructions as words, like BuildKit's parser makes it.
//!
//! It knows no instruction's meaning: an unknown one is a node like any other. [`read`] makes it,
//! [`parse`](crate::parse) gives it meaning; a node's `Display` is the line that BuildKit's own
//! parser tests compare.

use std::fmt;

use crate::check::Rule;
use crate::error::{Fault, ParseErrorKind};
use crate::expand::ExpandError;
use crate::lines::{self, Line, Lines};
use crate::words::{self, Cut};
use crate::{Directives, Heredoc, ParseError, Span, Warning, directive, heredoc, json};

/// One instruction as words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The name of the instruction as written.
    pub keyword: String,
    /// The words before its arguments that start with `--`, without quotes and escapes.
    pub flags: Vec<String>,
    /// Its arguments.
    pub words: Words,
    /// The heredocs that it opens.
    pub heredocs: Vec<Heredoc>,
    /// The logical line.
    pub line: String,
    /// Its lines; for the instruction in an `ONBUILD` none.
    pub span: Span,
    /// The comments right above, without `#`.
    pub comments: Vec<String>,
}

/// The arguments of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// Words, or one word that is the whole rest of the line.
    Plain(Vec<String>),
    /// The elements of a JSON array, behind `HEALTHCHECK`'s type if there is one.
    Json(Vec<String>),
    /// Names, values, and whether there was a `=` between them.
    Pairs(Vec<(String, String, bool)>),
    /// `ONBUILD`.
    Instruction(Box<Node>),
}

impl Default for Words {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

/// A text as instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The instructions, at least one.
    pub nodes: Vec<Node>,
    /// The parser directives.
    pub directives: Directives,
    /// What is dropped from the text.
    pub warnings: Vec<Warning>,
}

/// Reads a text.
pub fn read(text: &[u8]) -> Result<Tree, ParseError> {
    tree(text).map_err(|fault| fault.locate(text))
}

/// As [`read`]; the column of the error is not known yet.
pub(crate) fn tree(text: &[u8]) -> Result<Tree, Fault> {
    let (check, check_line) = directive::check(text).unzip();
    let mut reader = Reader {
        lines: Lines::new(text),
        directives: Directives {
            syntax: directive::Frontend::of(text).map(|frontend| frontend.image),
            check,
            check_line: check_line.unwrap_or_default(),
            ..Directives::default()
        },
        directives_end: false,
        seen: Vec::new(),
        comments: Vec::new(),
        warnings: Vec::new(),
    };
    let mut nodes = Vec::new();
    while let Some(line) = reader.lines.next()? {
        match line {
            Line::Comment(text) => reader.comment(&text)?,
            Line::Text(text) => nodes.extend(reader.instruction(text)?),
        }
    }
    if nodes.is_empty() {
        return Err(Fault::of_file(ParseErrorKind::NoInstructions));
    }
    Ok(Tree {
        nodes,
        directives: reader.directives,
        warnings: reader.warnings,
    })
}

struct Reader<'a> {
    lines: Lines<'a>,
    directives: Directives,
    directives_end: bool,
    seen: Vec<String>,
    comments: Vec<String>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    /// Reads a comment, which at the top of the file may be a parser directive.
    fn comment(&mut self, line: &str) -> Result<(), Fault> {
        let line = line.trim_start();
        let text = line.strip_prefix('#').unwrap_or(line).trim();
        if !self.directives_end {
            if let Some((name, value)) = directive::parse(text) {
                return self.directive(name, value);
            }
            self.directives_end = true;
        }
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(text.to_owned());
        }
        Ok(())
    }

    fn directive(&mut self, name: String, value: &str) -> Result<(), Fault> {
        let number = self.lines.number;
        if self.seen.contains(&name) {
            return Err(Fault::at_line(
                ParseErrorKind::RepeatedDirective(name),
                number,
            ));
        }
        match name.as_str() {
            "syntax" | "check" => {}
            _ => match value {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                _ => {
                    let kind = ParseErrorKind::InvalidEscape(value.to_owned());
                    return Err(Fault::at_line(kind, number));
                }
            },
        }
        self.seen.push(name);
        Ok(())
    }

    /// Reads an instruction with its continuation lines and heredocs; `None` for a blank line.
    fn instruction(&mut self, first: &'a str) -> Result<Option<Node>, Fault> {
        self.directives_end = true;
        let start = self.lines.number;
        let (part, mut continues) = self.part(lines::trim_end(first).trim_start());
        if !continues && part.is_empty() {
            return Ok(None);
        }
        let mut line = part.to_owned();
        let mut blank = false;
        while continues {
            match self.lines.next()? {
                None => break,
                Some(Line::Comment(_)) => {}
                Some(Line::Text(text)) if text.trim().is_empty() => blank = true,
                Some(Line::Text(text)) => {
                    let (part, more) = self.part(lines::trim_end(text));
                    line.push_str(part);
                    continues = more;
                }
            }
        }
        if blank {
            self.warn_about_blank();
        }
        let span = |end| Span { start, end };
        let mut node = Node::from_line(&line, self.directives.escape)
            .map_err(|kind| Fault::new(kind, span(self.lines.number)))?;
        if node.may_have_heredocs() {
            let found = heredoc::in_line(&line).map_err(|error: ExpandError| {
                Fault::new(ParseErrorKind::HeredocName(error), span(self.lines.number))
            })?;
            for mut heredoc in found {
                heredoc.content = self.heredoc(&heredoc, start)?;
                node.heredocs.push(heredoc);
            }
        }
        node.span = span(self.lines.number);
        node.comments = std::mem::take(&mut self.comments);
        Ok(Some(node))
    }

    fn heredoc(&mut self, heredoc: &Heredoc, start: u32) -> Result<String, Fault> {
        let mut content = String::new();
        while let Some(line) = self.lines.next_verbatim()? {
            let mut end = lines::trim_end(line);
            if heredoc.chomp {
                end = end.trim_start_matches('\t');
            }
            if end == heredoc.name {
                return Ok(content);
            }
            content.push_str(line);
        }
        let end = self.lines.number;
        let kind = ParseErrorKind::UnterminatedHeredoc(heredoc.name.clone());
        Err(Fault::new(kind, Span { start, end }))
    }

    /// Removes the continuation sign; tells whether there was one.
    fn part(&self, line: &'a str) -> (&'a str, bool) {
        let escape = self.directives.escape;
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(escape) {
            Some(part) if !part.ends_with(escape) => (part, true),
            _ => (line, false),
        }
    }

    fn warn_about_blank(&mut self) {
        let number = self.lines.number;
        self.warnings.push(Warning {
            rule: Rule::NoEmptyContinuation,
            message: "Empty continuation line".to_owned(),
            span: Span {
                start: number,
                end: number,
            },
        });
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.keyword.to_lowercase())?;
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|flag| quoted(flag)).collect();
            write!(f, " [{}]", flags.join(" "))?;
        }
        match &self.words {
            Words::Plain(words) | Words::Json(words) => {
                for word in words {
                    write!(f, " {}", quoted(word))?;
                }
            }
            Words::Pairs(pairs) => {
                for (key, value, assigned) in pairs {
                    let sign = if *assigned { "=" } else { "" };
                    write!(f, " {} {} \"{sign}\"", quoted(key), quoted(value))?;
                }
            }
            Words::Instruction(node) => write!(f, " {node}")?,
        }
        f.write_str(")")
    }
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Node {
    /// Cuts a logical line.
    pub(crate) fn from_line(line: &str, escape: char) -> Result<Self, ParseErrorKind> {
        Self::from_line_within(line, escape, Within::File)
    }

    fn from_line_within(line: &str, escape: char, within: Within) -> Result<Self, ParseErrorKind> {
        let Cut {
            keyword,
            flags,
            rest,
        } = words::cut(line, escape);
        let words = match keyword.to_ascii_lowercase().as_str() {
            _ if rest.is_empty() => Words::default(),
            "add" | "copy" | "volume" => {
                json(&rest)?.unwrap_or_else(|| Words::Plain(words::split(&rest)))
            }
            "cmd" | "entrypoint" | "run" | "shell" => {
                json(&rest)?.unwrap_or_else(|| Words::Plain(vec![rest]))
            }
            "arg" => Words::Plain(words::split_quoted(&rest, escape)),
            "env" => pairs("ENV", &rest, escape)?,
            "label" => pairs("LABEL", &rest, escape)?,
            "expose" | "from" => Words::Plain(words::split(&rest)),
            "healthcheck" => healthcheck(&rest)?,
            "maintainer" | "stopsignal" | "user" | "workdir" => Words::Plain(vec![rest]),
            // A chain is refused later; following it here would use the call stack.
            "onbuild" if within == Within::File => {
                let node = Self::from_line_within(&rest, escape, Within::OnBuild)?;
                Words::Instruction(Box::new(node))
            }
            _ => Words::default(),
        };
        Ok(Self {
            keyword,
            flags,
            words,
            line: line.to_owned(),
            ..Self::default()
        })
    }

    fn may_have_heredocs(&self) -> bool {
        let node = match &self.words {
            Words::Instruction(node) => node,
            Words::Plain(_) | Words::Json(_) | Words::Pairs(_) => self,
        };
        let keyword = node.keyword.to_ascii_lowercase();
        matches!(keyword.as_str(), "add" | "copy" | "run") && !matches!(node.words, Words::Json(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    File,
    OnBuild,
}

/// Reads a JSON array of strings; `None` when the text is no JSON array.
fn json(text: &str) -> Result<Option<Words>, ParseErrorKind> {
    json::strings(text).map(|words| words.map(Words::Json))
}

fn pairs(instruction: &'static str, rest: &str, escape: char) -> Result<Words, ParseErrorKind> {
    let words = words::split_quoted(rest, escape);
    let Some(first) = words.first() else {
        return Ok(Words::default());
    };
    if !first.contains('=') {
        let (name, Some(value)) = words::split_once(rest) else {
            return Err(ParseErrorKind::TwoArguments(instruction));
        };
        return Ok(Words::Pairs(vec![(
            name.to_owned(),
            value.to_owned(),
            false,
        )]));
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned(), true)),
        None => Err(ParseErrorKind::MissingEquals(word.clone())),
    };
    words
        .iter()
        .map(pair)
        .collect::<Result<_, _>>()
        .map(Words::Pairs)
}

fn healthcheck(rest: &str) -> Result<Words, ParseErrorKind> {
    let (kind, command) = match rest.split_once(char::is_whitespace) {
        Some((kind, command)) => (kind, command.trim_start()),
        None => (rest, ""),
    };
    let mut words = vec![kind.to_owned()];
    if command.is_empty() {
        return Ok(Words::Plain(words));
    }
    match json(command)? {
        Some(Words::Json(elements)) => {
            words.extend(elements);
            Ok(Words::Json(words))
        }
        _ => {
            words.push(command.to_owned());
            Ok(Words::Plain(words))
        }
    }
}

#[cfg(test)]
mod tests;
