//! No input makes the parser, the expansion or the patterns panic or hang.

use std::collections::BTreeMap;

use dockerfile::check::{Base, CheckOptions, Coverage, check};
use dockerfile::ignore::Patterns;
use dockerfile::matching::Pattern;
use dockerfile::{Instruction, Program, Span, excerpt, expand, parse, parse_trigger, port};

const ROUNDS: u32 = 6_000;

/// Pieces that reach deeper into the grammar than random bytes do.
const PIECES: [&str; 74] = [
    "FROM ",
    "a",
    " AS ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ENTRYPOINT ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "# escape=`\n",
    "# syntax=x\n",
    "# check=skip=all\n",
    "#",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "\\",
    "`",
    "\"",
    "'",
    "[",
    "]",
    "[\"a\"]",
    ",",
    "=",
    "a=b ",
    "$",
    "${",
    "}",
    ":-",
    ":+",
    ":?",
    "#*",
    "%%",
    "/",
    "//",
    "<<",
    "<<-",
    "EOF",
    "\nEOF\n",
    "--",
    "--mount=type=cache,",
    "--from=",
    "--interval=",
    "1h2.5m",
    "-",
    "*",
    "**",
    "?",
    "!",
    "^",
    "80",
    "65535/tcp",
    ":",
    "\t",
    " ",
    "\u{feff}",
    "é",
    "\u{85}",
    "\0",
    "\"\"",
    "NONE",
];

/// xorshift64: the same inputs on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from(self.next() % limit).expect("a small number")
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.below(24) {
            if self.below(12) == 0 {
                text.push(self.next().to_le_bytes()[0]);
            } else {
                let piece = PIECES[self.below(PIECES.len())];
                text.extend_from_slice(piece.as_bytes());
            }
        }
        text
    }
}

fn variable(name: &str) -> Option<String> {
    match name.len() {
        0 => None,
        1 => Some("a/b*c\\?d.e".to_owned()),
        _ => Some(String::new()),
    }
}

const OPTIONS: CheckOptions<'_> = CheckOptions {
    build_args: &BTreeMap::new(),
    platform_args: &BTreeMap::new(),
    coverage: Coverage::All,
    ignore: None,
    settings: None,
    base: &|_| Base {
        environment: Vec::new(),
        shell: Vec::new(),
    },
    is_image_name: &|name| name.len() % 2 == 0,
};

fn read_everything(text: &[u8]) {
    match parse(text) {
        Ok(dockerfile) => {
            let _report = check(&dockerfile, &OPTIONS);
            for stage in &dockerfile.stages {
                for instruction in &stage.instructions {
                    read_instruction(&instruction.value);
                    let _box = excerpt("Dockerfile", text, instruction.span);
                }
            }
        }
        Err(error) => {
            let line = error.line;
            assert!(line > 0 && error.column > 0, "{error:?}");
            let _message = error.to_string();
            let _box = excerpt(
                "Dockerfile",
                text,
                error.span.unwrap_or(Span {
                    start: line,
                    end: line,
                }),
            );
        }
    }
}

fn read_instruction(instruction: &Instruction) {
    if let Instruction::Run(run) = instruction {
        assert!(!matches!(run.program(), Program::Script { name, .. } if name.is_empty()));
        for mount in &run.mounts {
            let _mount = mount.resolve(&variable, '\\');
        }
    }
    if let Instruction::OnBuild(text) = instruction {
        let _trigger = parse_trigger(text);
    }
}

#[test]
fn random_text_never_panics() {
    let mut random = Random(0x5eed);
    for round in 0..ROUNDS {
        let text = random.text();
        read_everything(&text);
        let mut after_from = b"FROM a\n".to_vec();
        after_from.extend_from_slice(&text);
        read_everything(&after_from);
        let lossy = String::from_utf8_lossy(&text);
        let escape = if round % 2 == 0 { '\\' } else { '`' };
        let _word = expand::expand(&lossy, &variable, escape);
        let _words = expand::words(&lossy, &variable, escape);
        let _raw = expand::raw(&lossy, &variable, escape);
        let _port = port::normalize(&lossy);
        let path = random.text();
        if let Ok(pattern) = Pattern::parse(&lossy) {
            assert!(!pattern.matches(&path) || pattern.may_match_below(b""));
        }
        if let Ok(patterns) = Patterns::parse(&text) {
            let _excluded = patterns.excludes(&path);
            let verdict = patterns.judge(&path, &patterns.root());
            let _descend = patterns.descend(&path, &verdict);
        }
    }
}

#[test]
fn deep_and_long_input_ends_in_an_answer() {
    let line = |text: String| parse(format!("FROM a\n{text}\n").as_bytes());
    assert!(line("ONBUILD ".repeat(8000)).is_err());
    assert!(line(format!("CMD {}", "[".repeat(60_000))).is_ok());
    assert!(line(format!("RUN {}", "<<".repeat(30_000))).is_ok());
    assert!(line(format!("RUN {}", "${".repeat(30_000))).is_ok());
    assert!(line(format!("ENV {}", "a=b ".repeat(15_000))).is_ok());
    assert!(line(format!("COPY {} /x", "--exclude=a ".repeat(5000))).is_err());
    assert!(line("RUN a \\\n".repeat(50_000)).is_ok());
    assert!(expand::word(&"${a:-".repeat(20_000), &variable, '\\').is_err());
    let stars = format!("${{a##{}}}", "*a".repeat(2000));
    assert!(expand::word(&stars, &|_| Some("a".repeat(10_000)), '\\').is_ok());
    let patterns = Patterns::new(&[format!("{}x", "**/a*".repeat(100))]).expect("valid");
    assert!(!patterns.excludes("a/".repeat(100).as_bytes()));
}
