//! `--chmod`: octal or symbolic, as chmod(1) reads it.

use std::fmt;

/// What `--chmod` makes of a mode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chmod {
    /// Always this mode, at most `0o7777`.
    Octal(u32),
    /// These changes, in order.
    Symbolic {
        /// As they were written.
        text: String,
        /// What they are.
        changes: Vec<ModeChange>,
    },
}

/// One change of a symbolic mode: `go-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModeChange {
    /// Of whom, as the bits that are theirs: `0o4700` is the user's.
    who: u32,
    action: Action,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Add,
    Remove,
    Set,
}

/// What is added, removed or set, for user, group and others alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Permissions {
    /// These bits of each; `search` is `X`: execution where somebody has it, and of directories.
    Bits { bits: u32, search: bool },
    /// What the user (6), the group (3) or others (0) have, by its shift.
    Of(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;
const ALL: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

impl Chmod {
    /// Parses a mode; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= ALL).then_some(Self::Octal(mode));
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes)?;
        }
        Some(Self::Symbolic {
            text: text.to_owned(),
            changes,
        })
    }

    /// Returns what becomes of `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic { changes, .. } => changes
                .iter()
                .fold(mode, |mode, change| change.apply(mode, is_directory)),
        }
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:04o}"),
            Self::Symbolic { text, .. } => f.write_str(text),
        }
    }
}

/// `who* (action permissions)+`
fn parse_clause(clause: &str, changes: &mut Vec<ModeChange>) -> Option<()> {
    let start = clause.find(['+', '-', '='])?;
    let (names, mut rest) = clause.split_at(start);
    let mut who = 0;
    for name in names.chars() {
        who |= match name {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => ALL,
            _ => return None,
        };
    }
    if names.is_empty() {
        who = ALL;
    }
    while let Some(sign) = rest.chars().next() {
        let action = match sign {
            '+' => Action::Add,
            '-' => Action::Remove,
            _ => Action::Set,
        };
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (letters, next) = rest.split_at(end);
        rest = next;
        changes.push(ModeChange {
            who,
            action,
            permissions: parse_permissions(letters)?,
        });
    }
    Some(())
}

fn parse_permissions(letters: &str) -> Option<Permissions> {
    match letters {
        "u" => return Some(Permissions::Of(6)),
        "g" => return Some(Permissions::Of(3)),
        "o" => return Some(Permissions::Of(0)),
        _ => {}
    }
    let (mut bits, mut search) = (0, false);
    for letter in letters.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => EXECUTE,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                search = true;
                0
            }
            _ => return None,
        };
    }
    Some(Permissions::Bits { bits, search })
}

impl ModeChange {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Of(shift) => ((mode >> shift) & 0o7) * EXECUTE,
            Permissions::Bits { bits, search } => {
                let searches = search && (is_directory || mode & EXECUTE != 0);
                bits | if searches { EXECUTE } else { 0 }
            }
        };
        let bits = bits & self.who;
        match self.action {
            Action::Add => mode | bits,
            Action::Remove => mode & !bits,
            Action::Set => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_changed_as_chmod_changes_them() {
        for (text, before, file, directory) in [
            ("0644", 0o777, 0o644, 0o644),
            ("7", 0o777, 0o007, 0o007),
            ("u+x", 0o644, 0o744, 0o744),
            ("+x", 0o644, 0o755, 0o755),
            ("a=rX", 0o644, 0o444, 0o555),
            ("a=rX", 0o700, 0o555, 0o555),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("go-w,o-r", 0o666, 0o640, 0o640),
            ("g=u", 0o640, 0o660, 0o660),
            ("o=g-w", 0o660, 0o664, 0o664),
            ("u+s,g+s", 0o755, 0o6755, 0o6755),
            ("+t", 0o777, 0o1777, 0o1777),
            ("u=", 0o4755, 0o055, 0o055),
            ("ug+rw-x", 0o111, 0o661, 0o661),
        ] {
            let mode = Chmod::parse(text).expect(text);
            assert_eq!(mode.apply(before, false), file, "{text} of a file");
            assert_eq!(mode.apply(before, true), directory, "{text} of a directory");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "8", "10000", "-1x", "u", "z+x", "u+z", "u+x,", "+ux", "0x7", "u+x o+x",
        ] {
            assert_eq!(Chmod::parse(text), None, "{text}");
        }
    }
}
