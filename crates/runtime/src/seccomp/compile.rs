//! From the profile to instructions.

use std::cmp::Ordering;

use sys::{Capability, FilterInstruction};

use super::profile::{NONE, PROFILE, Rule};

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    /// It fails with this error.
    Fail(u16),
    /// It depends on the first argument.
    Check(&'static Check),
}

/// Decides by the first argument, of which the kernel reads the lower 32 bits only: comparing
/// all 64 would let a caller hide a forbidden value behind upper bits.
#[derive(Debug, PartialEq, Eq)]
struct Check {
    mask: u32,
    values: &'static [u32],
    /// What an argument among the values means.
    listed: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
}

/// `AF_ALG` is refused by docker since 2026, for its record of kernel bugs.
const SOCKET: Check = Check {
    mask: u32::MAX,
    values: &[AF_ALG, AF_VSOCK],
    listed: Verdict::Refused,
};
/// `PER_LINUX` and `PER_LINUX32`, with and without `UNAME26`, and the question for the present.
const PERSONALITY: Check = Check {
    mask: u32::MAX,
    values: &[0, 8, 0x2_0000, 0x2_0008, u32::MAX],
    listed: Verdict::Allowed,
};
const CLONE: Check = Check {
    mask: NEW_NAMESPACES,
    values: &[0],
    listed: Verdict::Allowed,
};

const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;
/// Every `CLONE_NEW…` flag but that of time namespaces, which `clone` cannot make.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// A processor mode: its audit number, its column in the profile, and the bits of a call's number
/// that mark it.
#[derive(Debug, Clone, Copy)]
struct Mode {
    audit: u32,
    column: usize,
    marker: u32,
}

const fn mode(audit: u32, column: usize, marker: u32) -> Mode {
    Mode {
        audit,
        column,
        marker,
    }
}

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARM: u32 = 0x4000_0028;
const X32_BIT: u32 = 0x4000_0000;

/// A kind of host, with the modes that its processors have; x32 shares its number with x86_64.
#[derive(Debug, Clone, Copy)]
struct Host {
    arm: bool,
    modes: &'static [Mode],
}

const X86_HOST: Host = Host {
    arm: false,
    modes: &[
        mode(AUDIT_X86_64, 0, 0),
        mode(AUDIT_X86_64, 2, X32_BIT),
        mode(AUDIT_I386, 1, 0),
    ],
};
const ARM_HOST: Host = Host {
    arm: true,
    modes: &[mode(AUDIT_AARCH64, 3, 0), mode(AUDIT_ARM, 4, 0)],
};
const THIS_HOST: Host = if cfg!(target_arch = "aarch64") {
    ARM_HOST
} else {
    X86_HOST
};

/// ARM's own calls lie far above all others, and must not count as the highest known number.
const ARM_PRIVATE: u32 = 0xf_0000;

/// Returns the filter for a container that holds `capabilities`, for this machine.
pub(crate) fn compile(capabilities: &[Capability]) -> Vec<FilterInstruction> {
    compile_for(&THIS_HOST, capabilities)
}

fn compile_for(host: &Host, capabilities: &[Capability]) -> Vec<FilterInstruction> {
    let held = Capability::mask(capabilities);
    let mut program = vec![load(OFFSET_ARCH)];
    let mut rest = host.modes;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|mode| mode.audit == first.audit);
        let count = same.count();
        let (modes, later) = rest.split_at(count);
        rest = later;
        let mut ranges: Vec<Range> = Vec::new();
        for mode in modes {
            push_ranges(&mut ranges, host, *mode, held);
        }
        let mut body = vec![load(OFFSET_NUMBER)];
        body.extend(tree(&ranges));
        // Too far for the eight bits of a conditional jump.
        program.push(jump_if(EQUAL, first.audit, 1, 0));
        program.push(jump(body.len()));
        program.extend(body);
    }
    program.push(answer(RETURN_KILL_PROCESS));
    program
}

/// Numbers from `start` up to the next range's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    action: Action,
}

/// Appends the ranges of one mode, in order; they reach up to the end of all numbers.
///
/// A number above every one that the profile knows fails with `ENOSYS`, so that programs fall
/// back from calls that are newer than the profile, as runc does.
fn push_ranges(ranges: &mut Vec<Range>, host: &Host, mode: Mode, held: u64) {
    let mut known: Vec<(u32, Action)> = PROFILE
        .iter()
        .filter(|(_, _, numbers)| numbers[mode.column] != NONE)
        .map(|(_, rule, numbers)| (numbers[mode.column], action(*rule, host, held)))
        .collect();
    known.sort_unstable_by_key(|(number, _)| *number);
    let highest = known
        .iter()
        .rfind(|(number, _)| *number < ARM_PRIVATE)
        .map_or(0, |(number, _)| *number);
    let mut push = |number: u32, action: Action| {
        let start = number | mode.marker;
        if ranges.last().is_some_and(|last| last.action == action) {
            return;
        }
        ranges.push(Range { start, action });
    };
    let mut next = 0;
    for (number, action) in known {
        if number > next {
            push(next, gap(next, highest));
        }
        push(number, action);
        next = number + 1;
    }
    push(next, gap(next, highest));
}

/// What happens to a number that the profile does not know.
fn gap(number: u32, highest: u32) -> Action {
    Action::Fail(if number > highest { ENOSYS } else { EPERM })
}

fn action(rule: Rule, host: &Host, held: u64) -> Action {
    let allowed = |condition: bool| {
        if condition {
            Action::Allow
        } else {
            Action::Fail(EPERM)
        }
    };
    let administers = held & Capability::SysAdmin.bit() != 0;
    match rule {
        Rule::Allow => Action::Allow,
        Rule::X86 => allowed(!host.arm),
        Rule::Arm => allowed(host.arm),
        Rule::Socket => Action::Check(&SOCKET),
        Rule::Personality => Action::Check(&PERSONALITY),
        Rule::Clone if administers => Action::Allow,
        Rule::Clone => Action::Check(&CLONE),
        Rule::Clone3 if administers => Action::Allow,
        Rule::Clone3 => Action::Fail(ENOSYS),
        Rule::With(needed) => allowed(held & Capability::mask(needed) != 0),
    }
}

/// Emits a bisection; the number is in the accumulator.
fn tree(ranges: &[Range]) -> Vec<FilterInstruction> {
    let middle = match ranges.len().cmp(&1) {
        Ordering::Less => return vec![answer(RETURN_FAIL | u32::from(ENOSYS))],
        Ordering::Equal => return leaf(ranges[0].action),
        Ordering::Greater => ranges.len() / 2,
    };
    let lower = tree(&ranges[..middle]);
    let upper = tree(&ranges[middle..]);
    let start = ranges[middle].start;
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![jump_if(AT_LEAST, start, distance, 0)],
        Err(_) => vec![jump_if(AT_LEAST, start, 0, 1), jump(lower.len())],
    };
    code.extend(lower);
    code.extend(upper);
    code
}

fn leaf(action: Action) -> Vec<FilterInstruction> {
    let refuse = answer(RETURN_FAIL | u32::from(EPERM));
    let check = match action {
        Action::Allow => return vec![answer(RETURN_ALLOW)],
        Action::Fail(errno) => return vec![answer(RETURN_FAIL | u32::from(errno))],
        Action::Check(check) => check,
    };
    let mut code = vec![load(OFFSET_FIRST_ARGUMENT)];
    if check.mask != u32::MAX {
        code.push(and(check.mask));
    }
    for (value, left) in check.values.iter().zip((1..=check.values.len()).rev()) {
        let distance = u8::try_from(left).expect("a check has few values");
        code.push(jump_if(EQUAL, *value, distance, 0));
    }
    let (listed, other) = match check.listed {
        Verdict::Allowed => (answer(RETURN_ALLOW), refuse),
        Verdict::Refused => (refuse, answer(RETURN_ALLOW)),
    };
    code.extend([other, listed]);
    code
}

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_FAIL: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

/// Places in `struct seccomp_data`; the lower half of the argument, on little-endian machines.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

fn load(offset: u32) -> FilterInstruction {
    plain(LOAD, offset)
}

fn and(mask: u32) -> FilterInstruction {
    plain(AND, mask)
}

fn answer(value: u32) -> FilterInstruction {
    plain(RETURN, value)
}

fn jump(distance: usize) -> FilterInstruction {
    let distance = u32::try_from(distance).expect("a filter has few instructions");
    plain(JUMP, distance)
}

fn jump_if(test: u16, operand: u32, jump_true: u8, jump_false: u8) -> FilterInstruction {
    FilterInstruction {
        code: test,
        jump_true,
        jump_false,
        operand,
    }
}

fn plain(code: u16, operand: u32) -> FilterInstruction {
    jump_if(code, operand, 0, 0)
}

#[cfg(test)]
mod tests;
