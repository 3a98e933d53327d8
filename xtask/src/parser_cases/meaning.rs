//! BuildKit's package `instructions`: trees to instructions.

use anyhow::{Context, Result};
use dockerfile::{Arg, Command, Copy, FileContent, HealthcheckTest, Instruction, ParseError, Run};
use serde_json::Value;

use super::go;
use super::{Source, Tally, list, text, texts};

pub fn run(source: &Source, tally: &mut Tally) -> Result<()> {
    tally.set("instructions/parse_test");
    let tests = source.read("instructions/parse_test.go")?;
    argument_counts(&tests, tally)?;
    health_checks(&tests, tally)?;
    every_command(&tests, &source.read("command/command.go")?, tally)?;
    comments(&tests, tally)?;
    for case in list(&go::literal_after(
        go::function(&tests, "TestErrorCases")?,
        "cases := ",
    )?) {
        let input = text(&case["dockerfile"]);
        tally.fails(input, instruction(input), text(&case["expectedError"]));
    }
    let body = go::function(&tests, "TestRunCmdFlagsUsed")?;
    let input = go::literal_after(body, "dockerfile := ")?;
    let Instruction::Run(run) = instruction(text(&input))? else {
        anyhow::bail!("no RUN: {input}");
    };
    tally.equal(text(&input), run.mounts.len(), 1);

    flags(&source.read("instructions/bflag_test.go")?, tally)?;
    heredocs(&source.read("instructions/parse_heredoc_test.go")?, tally)?;
    json_arguments(&source.read("instructions/support_test.go")?, tally)?;
    devices(
        &source.read("instructions/commands_rundevice_test.go")?,
        tally,
    )
}

/// Parses one instruction.
fn instruction(line: &str) -> Result<Instruction, ParseError> {
    let mut dockerfile = dockerfile::parse(format!("FROM a\n{line}").as_bytes())?;
    let stage = dockerfile.stages.remove(0);
    let mut instructions = stage.instructions.into_iter();
    let first = instructions.next().map(|instruction| instruction.value);
    Ok(first.unwrap_or(Instruction::Label(Vec::new())))
}

fn argument_counts(tests: &str, tally: &mut Tally) -> Result<()> {
    for (name, arguments, message) in [
        (
            "TestCommandsExactlyOneArgument",
            "",
            "requires exactly one argument",
        ),
        (
            "TestCommandsAtLeastOneArgument",
            "",
            "requires at least one argument",
        ),
        (
            "TestCommandsNoDestinationArgument",
            " arg1",
            "requires at least two arguments",
        ),
        ("TestCommandsBlankNames", " =arg2", "names can not be blank"),
    ] {
        let commands = go::literal_after(go::function(tests, name)?, "commands := ")?;
        for command in texts(&commands) {
            let line = format!("{command}{arguments}");
            tally.fails(&line, instruction(&line), &format!("{command} {message}"));
        }
    }
    Ok(())
}

fn health_checks(tests: &str, tally: &mut Tally) -> Result<()> {
    let body = go::function(tests, "TestHealthCheckCmd")?;
    let node = go::literal_after(body, "node := ")?;
    let mut words = vec!["HEALTHCHECK".to_owned()];
    let mut next = &node["Next"];
    while next.is_object() {
        words.push(text(&next["Value"]).to_owned());
        next = &next["Next"];
    }
    let expected = texts(&go::literal_after(body, "expected := ")?);
    let found = match instruction(&words.join(" "))? {
        Instruction::Healthcheck(check) => match check.test {
            HealthcheckTest::Cmd(Command::Shell(line)) => vec!["CMD-SHELL".to_owned(), line],
            other => vec![format!("{other:?}")],
        },
        other => vec![format!("{other:?}")],
    };
    tally.equal("HEALTHCHECK", found, expected);

    let body = go::function(tests, "TestParseOptInterval")?;
    let mut values = go::literals_after(body, "Value: ")?;
    values.extend(go::literals_after(body, "flInterval.Value = ")?);
    for (value, step) in values.iter().zip(body.split("parseOptInterval(").skip(1)) {
        let line = format!("HEALTHCHECK --interval={} CMD x", text(value));
        if step.contains("require.Error(") {
            let message = go::literal_after(step, "err.Error(), ")?;
            tally.fails(&line, instruction(&line), text(&message));
        } else {
            tally.equal(&line, instruction(&line).is_ok(), true);
        }
    }
    Ok(())
}

/// Every instruction with words that fit it or not: an answer, and no panic.
fn every_command(tests: &str, commands: &str, tally: &mut Tally) -> Result<()> {
    let body = go::function(tests, "TestNilLinter")?;
    for line in commands.lines() {
        let Some((_, command)) = line.split_once("= \"") else {
            continue;
        };
        let command = command.trim_end_matches('"');
        for arguments in go::literals_after(body, "cmd + ")? {
            let line = format!("{command}{}", text(&arguments));
            tally.equal(
                &line,
                instruction(&line).is_ok() || instruction(&line).is_err(),
                true,
            );
        }
    }
    Ok(())
}

fn comments(tests: &str, tally: &mut Tally) -> Result<()> {
    let body = go::function(tests, "TestCommentsDetection")?;
    let dockerfile = dockerfile::parse(text(&go::literal_after(body, "dt := ")?).as_bytes())?;
    let of_args = |arg: &Arg| {
        let definitions = arg.definitions.iter();
        let pair = definitions.map(|definition| {
            let description = definition.description.clone().unwrap_or_default();
            [definition.name.clone(), description]
        });
        pair.flatten().collect::<Vec<_>>()
    };
    let stage = dockerfile.stages.first().context("a stage")?;
    let mut found = vec![stage.description.clone().unwrap_or_default()];
    found.extend(
        dockerfile
            .global_args
            .iter()
            .flat_map(|arg| of_args(&arg.value)),
    );
    for instruction in &stage.instructions {
        if let Instruction::Arg(arg) = &instruction.value {
            found.extend(of_args(arg));
        }
    }
    let expected = go::literals_after(body, "require.Equal(t, ")?;
    let expected: Vec<String> = expected
        .iter()
        .map(|value| text(value).to_owned())
        .collect();
    tally.equal("comments", found, expected);
    Ok(())
}

/// The tests define flags of their own: here flags of `ADD` stand for them, at most three of a
/// kind at a time.
fn flags(tests: &str, tally: &mut Tally) -> Result<()> {
    const SWITCHES: [&str; 3] = ["link", "keep-git-dir", "unpack"];
    const VALUES: [&str; 3] = ["chown", "chmod", "checksum"];
    tally.set("instructions/bflag_test");
    for block in tests
        .split("bf = NewBFlags()")
        .skip(1)
        .chain(tests.split("bf := NewBFlags()").skip(1).take(1))
    {
        let block = block.split("// ---").next().unwrap_or(block);
        let arguments = texts(&go::literal_after(block, "bf.Args = ")?);
        let fails = block.contains("err == nil {");
        for part in arguments
            .chunks(3)
            .chain(arguments.is_empty().then_some(&[][..]))
        {
            let (mut switches, mut values) = (SWITCHES.iter(), VALUES.iter());
            let mut line = String::from("ADD");
            let mut expected = Vec::new();
            for argument in part {
                let (name, value) = match argument.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (argument.as_str(), None),
                };
                let name = name.trim_start_matches("--");
                let ours = match block.find(&format!("\"{name}\"")) {
                    Some(at) if block[..at].ends_with("AddBool(") => {
                        let ours = *switches.next().context("enough switches")?;
                        expected.push(format!("{ours}={}", value.unwrap_or("true")));
                        ours
                    }
                    Some(_) => {
                        let ours = *values.next().context("enough flags")?;
                        expected.push(format!("{ours}={}", value.unwrap_or_default()));
                        ours
                    }
                    None => name,
                };
                line.push_str(&format!(" --{ours}"));
                if let Some(value) = value {
                    line.push_str(&format!("=\"{value}\""));
                }
            }
            line.push_str(" a b");
            let found = match instruction(&line) {
                Ok(Instruction::Add(add)) => Some(add),
                _ => None,
            };
            if fails {
                tally.equal(&line, found.is_none(), true);
                continue;
            }
            let found = found.map(|add| {
                let value = |name| match name {
                    "chown" => add.chown.clone(),
                    "chmod" => add.chmod.clone(),
                    "checksum" => add.checksum.clone(),
                    "link" => Some(add.link.to_string()),
                    "unpack" => add.unpack.map(|unpack| unpack.to_string()),
                    _ => add.keep_git_dir.map(|keep| keep.to_string()),
                };
                let names = expected.iter().filter_map(|flag| flag.split('=').next());
                names
                    .map(|name| format!("{name}={}", value(name).unwrap_or_default()))
                    .collect::<Vec<_>>()
            });
            tally.equal(&line, found, Some(expected.clone()));
        }
    }
    Ok(())
}

fn heredocs(tests: &str, tally: &mut Tally) -> Result<()> {
    tally.set("instructions/parse_heredoc_test");
    for case in list(&go::literal_after(
        go::function(tests, "TestErrorCasesHeredoc")?,
        "cases := ",
    )?) {
        let input = text(&case["dockerfile"]);
        tally.fails(input, instruction(input), text(&case["expectedError"]));
    }
    for case in list(&go::literal_after(
        go::function(tests, "TestCopyHeredoc")?,
        "cases := ",
    )?) {
        let expected = &case["sourcesAndDest"];
        let content = |value: &Value| FileContent {
            path: text(&value["Path"]).to_owned(),
            data: text(&value["Data"]).to_owned(),
            expand: value["Expand"] == true,
        };
        let expected = Copy {
            sources: texts(&expected["SourcePaths"]),
            contents: list(&expected["SourceContents"])
                .iter()
                .map(content)
                .collect(),
            destination: text(&expected["DestPath"]).to_owned(),
            ..Copy::default()
        };
        let input = text(&case["dockerfile"]);
        tally.equal(input, instruction(input), Ok(Instruction::Copy(expected)));
    }
    for case in list(&go::literal_after(
        go::function(tests, "TestRunHeredoc")?,
        "cases := ",
    )?) {
        let input = text(&case["dockerfile"]);
        let command = texts(&case["command"]);
        let command = match case["shell"] == true {
            true => Command::Shell(command.concat()),
            false => Command::Exec(command),
        };
        let files = list(&case["files"]).iter();
        let files = files.map(|file| {
            (
                text(&file["Name"]),
                text(&file["Data"]),
                file["Chomp"] == true,
            )
        });
        let found = instruction(input)?;
        let Instruction::Run(Run {
            command: line,
            heredocs,
            ..
        }) = &found
        else {
            anyhow::bail!("no RUN: {input}");
        };
        let heredocs = heredocs.iter();
        let heredocs = heredocs.map(|heredoc| {
            (
                heredoc.name.as_str(),
                heredoc.content.as_str(),
                heredoc.chomp,
            )
        });
        tally.equal(
            input,
            (line, heredocs.collect::<Vec<_>>()),
            (&command, files.collect()),
        );
    }
    Ok(())
}

fn json_arguments(tests: &str, tally: &mut Tally) -> Result<()> {
    tally.set("instructions/support_test");
    for case in go::literals_after(tests, "append(testCases, ")? {
        let arguments = texts(&case["args"]);
        let is_json = case["attributes"]["go"] == "jsonAttributes";
        let line = match is_json {
            true => format!("CMD {}", serde_json::to_string(&arguments)?),
            false => format!("CMD {}", arguments.join(" ")),
        };
        let found = match instruction(&line)? {
            Instruction::Cmd(Command::Exec(words)) => words,
            Instruction::Cmd(Command::Shell(line)) if line.is_empty() => Vec::new(),
            Instruction::Cmd(Command::Shell(line)) => vec![line],
            other => vec![format!("{other:?}")],
        };
        tally.equal(text(&case["name"]), found, texts(&case["expected"]));
    }
    Ok(())
}

fn devices(tests: &str, tally: &mut Tally) -> Result<()> {
    tally.set("instructions/commands_rundevice_test");
    for case in list(&go::literal_after(
        go::function(tests, "TestParseDevice")?,
        "cases := ",
    )?) {
        let line = format!("RUN --device={} x", text(&case["input"]));
        let found = instruction(&line);
        if let Some(message) = case["expectedErr"]["arguments"].get(0) {
            tally.fails(&line, found, text(message));
            continue;
        }
        let found = match found? {
            Instruction::Run(run) => run
                .devices
                .first()
                .map(|device| (device.name.clone(), device.required)),
            _ => None,
        };
        let expected = &case["expected"];
        let expected = (
            text(&expected["Name"]).to_owned(),
            expected["Required"] == true,
        );
        tally.equal(&line, found, Some(expected));
    }
    Ok(())
}
