//! Reads the literals of Go source, so that tables in tests can serve as cases here.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Returns the text of the function `name` and what follows it.
pub fn function<'a>(source: &'a str, name: &str) -> Result<&'a str> {
    let start = source.find(&format!("func {name}("));
    let start = start.with_context(|| format!("there is no function `{name}`"))?;
    let body = &source[start..];
    Ok(body.find("\nfunc ").map_or(body, |end| &body[..end]))
}

/// Reads the first literal behind `marker`.
pub fn literal_after(source: &str, marker: &str) -> Result<Value> {
    let start = source.find(marker);
    let start = start.with_context(|| format!("there is no `{marker}`"))?;
    Literals::new(&source[start + marker.len()..])?.value()
}

/// Reads all literals that follow `marker`, each time it occurs.
pub fn literals_after(source: &str, marker: &str) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    for (start, _) in source.match_indices(marker) {
        values.push(Literals::new(&source[start + marker.len()..])?.value()?);
    }
    Ok(values)
}

/// Reads literals one after the other, for instance the arguments of a call.
///
/// Strings, numbers, `true`, `false` and `nil` are themselves; composite literals are arrays, or
/// objects when their elements have keys; other words and calls are objects with the key `go`.
pub struct Literals {
    tokens: Vec<Token>,
    at: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Sign(char),
}

impl Literals {
    /// Reads as far as the text is made of literals.
    pub fn new(source: &str) -> Result<Self> {
        Ok(Self {
            tokens: tokens(source)?,
            at: 0,
        })
    }

    /// Returns the next literal.
    pub fn value(&mut self) -> Result<Value> {
        while self.take('&') {}
        let mut value = match self.tokens.get(self.at).cloned() {
            Some(Token::Text(text)) => {
                self.at += 1;
                Value::String(text)
            }
            Some(Token::Word(word)) if word != "map" && word != "struct" => self.word(word)?,
            Some(Token::Word(_) | Token::Sign('[')) => {
                self.skip_type()?;
                match self.tokens.get(self.at) {
                    Some(Token::Sign('(')) => self.call(String::new())?,
                    Some(Token::Sign('{')) => self.composite()?,
                    _ => serde_json::json!({ "go": "type" }),
                }
            }
            Some(Token::Sign('{')) => self.composite()?,
            other => bail!("no literal: {other:?}"),
        };
        while self.take('+') {
            let more = self.value()?;
            let joined = [&value, &more].map(|text| text.as_str().unwrap_or_default());
            value = Value::String(joined.concat());
        }
        Ok(value)
    }

    /// Skips a comma; tells whether there was one.
    pub fn comma(&mut self) -> bool {
        self.take(',')
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, mut word: String) -> Result<Value> {
        self.at += 1;
        while self.take('.') {
            if let Some(Token::Word(part)) = self.tokens.get(self.at) {
                word = format!("{word}.{part}");
                self.at += 1;
            }
        }
        match (word.as_str(), self.tokens.get(self.at)) {
            ("true", _) => Ok(Value::Bool(true)),
            ("false", _) => Ok(Value::Bool(false)),
            ("nil", _) => Ok(Value::Null),
            (_, Some(Token::Sign('{'))) => self.composite(),
            (_, Some(Token::Sign('('))) => self.call(word),
            _ => match word.parse::<i64>() {
                Ok(number) => Ok(number.into()),
                Err(_) => Ok(serde_json::json!({ "go": word })),
            },
        }
    }

    fn call(&mut self, function: String) -> Result<Value> {
        self.at += 1;
        let mut arguments = Vec::new();
        while !self.take(')') {
            arguments.push(self.value()?);
            while self.take('.') {}
            self.take(',');
        }
        Ok(serde_json::json!({ "go": function, "arguments": arguments }))
    }

    fn skip_type(&mut self) -> Result<()> {
        loop {
            match self.tokens.get(self.at).cloned() {
                Some(Token::Sign('[')) => self.skip_balanced('[', ']')?,
                Some(Token::Word(word)) if word == "struct" => {
                    self.at += 1;
                    self.skip_balanced('{', '}')?;
                    return Ok(());
                }
                Some(Token::Word(word)) => {
                    self.at += 1;
                    if word == "map" {
                        continue;
                    }
                    while self.take('.') {
                        self.at += 1;
                    }
                    return Ok(());
                }
                Some(Token::Sign('*')) => self.at += 1,
                other => bail!("no type: {other:?}"),
            }
        }
    }

    fn skip_balanced(&mut self, open: char, close: char) -> Result<()> {
        let mut depth = 0_u32;
        loop {
            match self.tokens.get(self.at) {
                Some(Token::Sign(sign)) if *sign == open => depth += 1,
                Some(Token::Sign(sign)) if *sign == close => depth -= 1,
                Some(_) => {}
                None => bail!("`{open}` is not closed"),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn composite(&mut self) -> Result<Value> {
        if !self.take('{') {
            bail!("no composite literal at {:?}", self.tokens.get(self.at));
        }
        let (mut list, mut fields) = (Vec::new(), Map::new());
        while !self.take('}') {
            let value = self.value()?;
            if self.take(':') {
                let key = value.as_str().or_else(|| value["go"].as_str());
                let key = key.context("a key that is no text")?.to_owned();
                fields.insert(key, self.value()?);
            } else {
                list.push(value);
            }
            self.take(',');
        }
        match fields.is_empty() {
            true => Ok(Value::Array(list)),
            false => Ok(Value::Object(fields)),
        }
    }
}

fn tokens(source: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '`' => {
                let (text, _) = rest[1..].split_once('`').context("a raw string's end")?;
                tokens.push(Token::Text(text.replace('\r', "")));
                text.len() + 2
            }
            '"' => {
                let (text, length) = interpreted(rest)?;
                tokens.push(Token::Text(text));
                length
            }
            '\'' => {
                let start = if rest.starts_with("'\\") { 3 } else { 2 };
                let end = rest.get(start..).and_then(|rest| rest.find('\''));
                let end = end.context("a rune's end")? + start + 1;
                tokens.push(Token::Text(rest[1..end - 1].to_owned()));
                end
            }
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let word = &rest[..end.unwrap_or(rest.len())];
                tokens.push(Token::Word(word.to_owned()));
                word.len()
            }
            sign => {
                tokens.push(Token::Sign(sign));
                sign.len_utf8()
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Reads a string in double quotes; returns it and its length in the source.
fn interpreted(source: &str) -> Result<(String, usize)> {
    let mut text = String::new();
    let mut chars = source.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((text, at + 1)),
            '\\' => match chars.next().context("an escape's end")?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\x08'),
                'f' => text.push('\x0c'),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    bail!("a string is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_values() {
        let source = "func TestX(t *testing.T) {\n\tcases := []struct {\n\t\ta string // an input\n\t\tb map[string]int\n\t}{\n\t\t{a: \"x\\n\" +\n\t\t`y`, b: map[string]int{\"k\": 1}},\n\t\t{a: errors.New(\"e\"), b: nil},\n\t}\n}\nfunc other() {}";
        let body = function(source, "TestX").expect("a function");
        let found = literal_after(body, "cases := ").expect("a table");
        let error = serde_json::json!({ "go": "errors.New", "arguments": ["e"] });
        assert_eq!(
            found,
            serde_json::json!([{ "a": "x\ny", "b": { "k": 1 } }, { "a": error, "b": null }])
        );
        assert!(!body.contains("other"));
    }
}
