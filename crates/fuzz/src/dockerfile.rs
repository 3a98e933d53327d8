//! Dockerfiles.

use std::collections::BTreeMap;

use ::dockerfile::node::{self, Node, Words};
use dockerfile::check::{Base, CheckOptions, Coverage, check};
use dockerfile::{Dockerfile, Instruction, Run, Span, excerpt, parse_trigger};

/// What a line may have when it is written again: a longer one is refused.
const MAX_LINE: usize = 65_000;

/// Parses `data`. An error has a place in the text, words and a hint. What parses has its
/// instructions in the text, in order and apart; each, written again on one line, is the same
/// instruction; and the checks warn about places in the text.
pub fn dockerfile(data: &[u8]) {
    let lines = u32::try_from(data.split(|b| *b == b'\n').count()).expect("few lines");
    let tree = node::read(data);
    let parsed = dockerfile::parse(data);
    if let Ok(tree) = &tree {
        let escape = tree.directives.escape;
        in_order(tree.nodes.iter().map(|node| node.span), lines);
        tree.nodes.iter().for_each(|node| rewrite(node, escape));
    }
    match parsed {
        Ok(parsed) => {
            let tree = tree.expect("what parses is a tree");
            let instructions = parsed
                .stages
                .iter()
                .map(|stage| 1 + stage.instructions.len());
            let count = parsed.global_args.len() + instructions.sum::<usize>();
            assert_eq!(count, tree.nodes.len());
            meaning(&parsed, data, lines);
        }
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "{error:?}");
            let text = String::from_utf8_lossy(data);
            let line = text
                .split('\n')
                .nth(usize::try_from(error.line - 1).expect("small"));
            let width = line.unwrap_or_default().chars().count();
            let column = usize::try_from(error.column).expect("small");
            assert!((1..=width + 1).contains(&column), "{error:?}");
            assert!(!error.to_string().is_empty() && !error.hint.is_empty());
        }
    }
}

fn in_order(spans: impl Iterator<Item = Span>, lines: u32) {
    let mut last = 0;
    for span in spans {
        assert!(last < span.start && span.start <= span.end, "{span:?}");
        last = span.end;
    }
    assert!(last <= lines);
}

/// Writes an instruction on one line, and reads it again.
fn rewrite(node: &Node, escape: char) {
    if node.line.len() > MAX_LINE {
        return;
    }
    // The first line says so that nothing of the instruction is taken for it.
    let mut text = format!("# escape={escape}\n{}\n", node.line);
    for heredoc in &node.heredocs {
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
        text.push('\n');
    }
    let again = node::read(text.as_bytes()).expect("an instruction");
    let [again] = again.nodes.as_slice() else {
        panic!("{text:?}: {again:?}");
    };
    let parts = |node: &Node| {
        let line = node.line.trim().to_owned();
        (
            node.keyword.clone(),
            node.flags.clone(),
            line,
            node.heredocs.clone(),
        )
    };
    assert_eq!(parts(again), parts(node));
    assert_eq!(again.words, node.words);
    if let Words::Instruction(inner) = &node.words {
        assert!(!matches!(&inner.words, Words::Instruction(_)));
    }
}

fn meaning(parsed: &Dockerfile, data: &[u8], lines: u32) {
    let none = BTreeMap::new();
    for coverage in [Coverage::All, Coverage::Target(None)] {
        let options = CheckOptions {
            build_args: &none,
            platform_args: &none,
            coverage,
            ignore: None,
            settings: None,
            base: &|_| Base::default(),
            is_image_name: &|name| !name.is_empty(),
        };
        let Ok(report) = check(parsed, &options) else {
            continue;
        };
        for warning in report.warnings.iter().chain(&report.advice) {
            assert!((1..=lines).contains(&warning.span.start), "{warning:?}");
            assert!(!warning.message.is_empty());
        }
    }
    for stage in &parsed.stages {
        assert!(!stage.base.is_empty(), "{stage:?}");
        for instruction in &stage.instructions {
            assert!(!instruction.text.is_empty());
            assert!(!excerpt("Dockerfile", data, instruction.span).is_empty());
            match &instruction.value {
                Instruction::Run(run) => program(run),
                Instruction::OnBuild(trigger) => {
                    let _trigger = parse_trigger(trigger);
                }
                _ => {}
            }
        }
    }
}

fn program(run: &Run) {
    let _program = run.program();
    for mount in &run.mounts {
        if let Err(error) = mount.resolve(&|_| None, '\\') {
            assert!(!error.to_string().is_empty() && !error.hint().is_empty());
        }
    }
}
