//! BuildKit's package `parser`: texts to trees.

use anyhow::Result;
use dockerfile::node::{self, Words};
use dockerfile::{Frontend, Heredoc, ParseErrorKind};
use serde_json::Value;

use super::go::{self, Literals};
use super::{Source, Tally, list, text, texts};

pub fn run(source: &Source, tally: &mut Tally) -> Result<()> {
    files(source, tally)?;
    parser(source, tally)?;
    line_parsers(source, tally)?;
    json(source, tally)?;
    directives(source, tally)?;
    heredocs(source, tally)
}

fn files(source: &Source, tally: &mut Tally) -> Result<()> {
    tally.set("parser/testfiles");
    for name in source.names("parser/testfiles")? {
        let expected = source.read(&format!("parser/testfiles/{name}/result"))?;
        let input = source.read(&format!("parser/testfiles/{name}/Dockerfile"))?;
        let found = match node::read(input.as_bytes()) {
            Ok(tree) => tree.nodes.iter().map(|node| format!("{node}\n")).collect(),
            Err(error) => error.to_string(),
        };
        tally.equal(&name, found, expected);
    }
    tally.set("parser/testfiles-negative");
    for name in source.names("parser/testfiles-negative")? {
        let input = source.read(&format!("parser/testfiles-negative/{name}/Dockerfile"))?;
        tally.equal(&name, node::read(input.as_bytes()).is_err(), true);
    }
    Ok(())
}

fn parser(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("parser/parser_test.go")?;
    tally.set("parser/parser_test");
    let table = go::function(&tests, "TestParseWords")?;
    for case in list(&go::literal_after(table, "tests := ")?) {
        let input = texts(&case["input"]).concat();
        let found = match node::read(format!("ARG {input}").as_bytes()) {
            Ok(tree) => plain(&tree.nodes[0].words),
            Err(error) => vec![error.to_string()],
        };
        tally.equal(&input, found, texts(&case["expect"]));
    }
    let body = go::function(&tests, "TestParseIncludesLineNumbers")?;
    let tree = node::read(source.read("parser/testfile-line/Dockerfile")?.as_bytes())?;
    let found: Vec<_> = tree
        .nodes
        .iter()
        .map(|node| (node.span.start, node.span.end))
        .collect();
    let number =
        |value: &Value| u32::try_from(value.as_u64().unwrap_or_default()).unwrap_or_default();
    let expected = go::literal_after(body, "expected := ")?;
    let expected: Vec<_> = list(&expected)
        .iter()
        .map(|pair| (number(&pair[0]), number(&pair[1])))
        .collect();
    tally.equal("line numbers", found, expected);

    let body = go::function(&tests, "TestParseWarnsOnEmptyContinutationLine")?;
    let input = go::literal_after(body, "bytes.NewBufferString(")?;
    let expected = go::literal_after(body, "require.Equal(t, ")?;
    let found = node::read(text(&input).as_bytes())?.warnings.len();
    tally.equal(
        "empty continuation lines",
        u64::try_from(found).ok(),
        expected.as_u64(),
    );

    let body = go::function(&tests, "TestParseReturnsScannerErrors")?;
    let input = go::literal_after(body, "fmt.Sprintf(")?;
    let input = text(&input).replace("%s", &"a".repeat(64 << 10));
    let expected = go::literal_after(body, "require.EqualError(t, err, ")?;
    tally.fails("a long line", node::read(input.as_bytes()), text(&expected));
    Ok(())
}

fn plain(words: &Words) -> Vec<String> {
    match words {
        Words::Plain(words) | Words::Json(words) => words.clone(),
        Words::Pairs(pairs) => {
            let sign = |assigned: bool| if assigned { "=" } else { "" }.to_owned();
            let pairs = pairs.iter().cloned();
            pairs
                .flat_map(|(key, value, assigned)| [key, value, sign(assigned)])
                .collect()
        }
        Words::Instruction(node) => vec![node.to_string()],
    }
}

fn line_parsers(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("parser/line_parsers_test.go")?;
    tally.set("parser/line_parsers_test");
    for name in [
        "TestParseNameValOldFormat",
        "TestParseNameValNewFormat",
        "TestParseNameValWithoutVal",
    ] {
        let body = go::function(&tests, name)?;
        let start = body
            .find("parseNameVal(")
            .map_or(0, |at| at + "parseNameVal(".len());
        let mut arguments = Literals::new(&body[start..])?;
        let rest = arguments.value()?;
        arguments.comma();
        let keyword = arguments.value()?;
        let found = node::read(format!("{} {}", text(&keyword), text(&rest)).as_bytes());
        if body.contains("require.Error(") {
            tally.equal(name, found.is_err(), true);
            continue;
        }
        let mut expected = Vec::new();
        let literal = go::literal_after(body, "expected := ")?;
        let mut node = &literal;
        while node.is_object() {
            expected.push(text(&node["Value"]).to_owned());
            node = &node["Next"];
        }
        tally.equal(name, plain(&found?.nodes[0].words), expected);
    }
    Ok(())
}

fn json(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("parser/json_test.go")?;
    tally.set("parser/json_test");
    for case in list(&go::literal_after(&tests, "invalidJSONArraysOfStrings = ")?) {
        let found = node::read(format!("CMD {}", text(case)).as_bytes());
        let kind = found.err().map(|error| *error.kind);
        tally.equal(text(case), kind, Some(ParseErrorKind::NotStringArray));
    }
    let valid = go::literal_after(&tests, "var validJSONArraysOfStrings = ")?;
    for (case, expected) in valid.as_object().into_iter().flatten() {
        let found = node::read(format!("CMD {case}").as_bytes())?
            .nodes
            .remove(0)
            .words;
        // The reader of literals knows no `\u`; the value has one NUL.
        let expected = texts(expected)
            .iter()
            .map(|word| word.replace("u0000", "\0"))
            .collect();
        tally.equal(case, found, Words::Json(expected));
    }
    Ok(())
}

/// The tests set `dt` and then say what of it is found.
fn directives(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("parser/directives_test.go")?;
    tally.set("parser/directives_test");
    for name in [
        "TestDirectives",
        "TestDetectSyntax",
        "TestDetectSyntaxBOM",
        "TestParseDirective",
    ] {
        let body = go::function(&tests, name)?;
        for step in body.split("\tdt ").skip(1) {
            let mut input = text(
                &go::literal_after(step, "= ").or_else(|_| go::literal_after(step, "[]byte("))?,
            )
            .to_owned();
            if name == "TestDetectSyntaxBOM" {
                input = format!("\u{feff}{}", text(&go::literal_after(step, "[]byte(")?));
            }
            let case = format!("{name} {input:?}");
            if name == "TestDirectives" {
                let tree = node::read(format!("{input}FROM a").as_bytes())?;
                tally.equal(&case, tree.directives.escape, '\\');
                continue;
            }
            let found = match name {
                "TestParseDirective" => check_of(&input),
                _ => Frontend::of(input.as_bytes()),
            };
            if step.contains("require.False(t, ok)") {
                tally.equal(&case, found, None);
                continue;
            }
            let image = go::literal_after(step, "require.Equal(t, ")?;
            let line = step
                .split_once(", loc[0].Start.Line")
                .map(|(before, _)| before);
            let line = line.and_then(|before| before.rsplit(' ').next()?.parse().ok());
            let found = found.map(|frontend| (frontend.image, line.map(|_| frontend.line)));
            tally.equal(&case, found, Some((text(&image).to_owned(), line)));
        }
    }
    Ok(())
}

/// The directive `check`, with the line it must be on: our tree does not keep that.
fn check_of(input: &str) -> Option<Frontend> {
    let tree = node::read(format!("{input}\nFROM a").as_bytes()).ok()?;
    let line = input.lines().position(|line| line.contains("check"))?;
    Some(Frontend {
        image: tree.directives.check?,
        line: u32::try_from(line).ok()? + 1,
    })
}

fn heredocs(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("parser/parser_heredoc_test.go")?;
    tally.set("parser/parser_heredoc_test");
    let body = go::function(&tests, "TestParseExtractsHeredoc")?;
    let input = go::literal_after(body, "bytes.NewBufferString(")?;
    let nodes = node::read(text(&input).as_bytes())?.nodes;
    for (expected, node) in list(&go::literal_after(body, "tests := ")?)
        .iter()
        .zip(nodes.iter().skip(1))
    {
        let expected: Vec<Heredoc> = list(expected).iter().map(heredoc).collect();
        tally.equal(&node.line, node.heredocs.clone(), expected);
    }
    let body = go::function(&tests, "TestParseJSONHeredoc")?;
    let input = go::literal_after(body, "bytes.NewBufferString(")?;
    for node in node::read(text(&input).as_bytes())?.nodes.iter().skip(1) {
        tally.equal(&node.line, node.heredocs.len(), 0);
    }
    let body = go::function(&tests, "TestHeredocChomp")?;
    let content = go::literal_after(body, "content := ")?;
    let expected = go::literal_after(body, "require.Equal(t, ")?;
    let chomped = Heredoc {
        content: text(&content).to_owned(),
        ..heredoc(&serde_json::json!({ "Chomp": true }))
    };
    tally.equal("chomp", chomped.text(), text(&expected).to_owned());

    let body = go::function(&tests, "TestParseHeredocHelpers")?;
    for word in texts(&go::literal_after(body, "validHeredocs := ")?) {
        let found = Heredoc::parse(&word)
            .ok()
            .flatten()
            .map(|heredoc| heredoc.name);
        tally.equal(&word, found.as_deref(), Some("EOF"));
    }
    for word in texts(&go::literal_after(body, "invalidHeredocs := ")?) {
        tally.equal(&word, Heredoc::parse(&word).is_err(), true);
    }
    for word in texts(&go::literal_after(body, "notHeredocs := ")?) {
        tally.equal(&word, Heredoc::parse(&word), Ok(None));
    }
    let body = go::function(&tests, "TestHeredocsFromLine")?;
    for case in list(&go::literal_after(body, "srcs := ")?) {
        let line = text(&case["line"]);
        let found = Heredoc::all_in(line)?
            .into_iter()
            .map(|heredoc| heredoc.name);
        let found: Vec<String> = found.collect();
        // The test looks at those that are found, and expects one more than there is for `<<- EOF`.
        let mut expected = texts(&case["heredocNames"]);
        expected.truncate(found.len().max(usize::from(!line.contains("<<- "))));
        tally.equal(line, found, expected);
    }
    Ok(())
}

fn heredoc(value: &Value) -> Heredoc {
    let descriptor = value["FileDescriptor"].as_u64().unwrap_or_default();
    Heredoc {
        name: text(&value["Name"]).to_owned(),
        content: text(&value["Content"]).to_owned(),
        expand: value["Expand"] == true,
        chomp: value["Chomp"] == true,
        file_descriptor: u32::try_from(descriptor).unwrap_or_default(),
    }
}
