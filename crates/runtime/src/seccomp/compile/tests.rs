//! Filters against a naive reading of the profile, by emulation.

use super::*;

/// Evaluates a filter as the kernel does.
fn emulate(program: &[FilterInstruction], arch: u32, number: u32, argument: u64) -> u32 {
    let [low, high] = [argument & 0xffff_ffff, argument >> 32].map(|half| half.try_into().unwrap());
    let data: [u32; 6] = [number, arch, 0, 0, low, high];
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let instruction = program[at];
        let operand = instruction.operand;
        at += 1;
        match instruction.code {
            LOAD => accumulator = data[usize::try_from(operand).unwrap() / 4],
            AND => accumulator &= operand,
            JUMP => at += usize::try_from(operand).unwrap(),
            EQUAL | AT_LEAST => {
                let holds = if instruction.code == EQUAL {
                    accumulator == operand
                } else {
                    accumulator >= operand
                };
                at += usize::from(if holds {
                    instruction.jump_true
                } else {
                    instruction.jump_false
                });
            }
            RETURN => return operand,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// Evaluates the profile by its words.
fn evaluate(host: &Host, held: &[Capability], mode: Mode, number: u32, argument: u64) -> u32 {
    let fail = |errno: u16| RETURN_FAIL | u32::from(errno);
    let plain = number & !mode.marker;
    let low = u32::try_from(argument & 0xffff_ffff).unwrap();
    let column = |numbers: &[u32; 5]| numbers[mode.column];
    let row = PROFILE
        .iter()
        .find(|(_, _, numbers)| column(numbers) == plain && plain != NONE);
    let Some((_, rule, _)) = row else {
        let highest = PROFILE
            .iter()
            .map(|(_, _, numbers)| column(numbers))
            .filter(|number| *number < ARM_PRIVATE)
            .max()
            .unwrap();
        return fail(if plain > highest { ENOSYS } else { EPERM });
    };
    let administers = held.contains(&Capability::SysAdmin);
    let allowed = match rule {
        Rule::Allow => true,
        Rule::X86 => !host.arm,
        Rule::Arm => host.arm,
        Rule::Socket => low != 38 && low != 40,
        Rule::Personality => [0, 8, 0x20000, 0x20008, 0xffff_ffff].contains(&low),
        Rule::Clone => administers || low & 0x7e02_0000 == 0,
        Rule::Clone3 if !administers => return fail(ENOSYS),
        Rule::Clone3 => true,
        Rule::With(needed) => needed.iter().any(|capability| held.contains(capability)),
    };
    if allowed { RETURN_ALLOW } else { fail(EPERM) }
}

const ARGUMENTS: [u64; 16] = [
    0,
    1,
    8,
    16,
    37,
    38,
    39,
    40,
    41,
    (1 << 32) | 40,
    0x20000,
    0x20008,
    0x1000_0000,
    0x0002_0000 | 0x11,
    0xffff_ffff,
    u64::MAX,
];

#[test]
fn every_number_of_every_mode_is_answered_as_the_profile_says() {
    let sets: [&[Capability]; 4] = [
        &Capability::DOCKER_DEFAULT,
        &[],
        &[
            Capability::SysAdmin,
            Capability::SysTime,
            Capability::Syslog,
        ],
        &[
            Capability::Bpf,
            Capability::SysPtrace,
            Capability::SysChroot,
        ],
    ];
    for host in [X86_HOST, ARM_HOST] {
        for held in sets {
            let program = compile_for(&host, held);
            for mode in host.modes {
                let private = (0..8).map(|offset| ARM_PRIVATE + offset);
                let far = [0x1000, 0x0fff_ffff, 0x3fff_ffff];
                for number in (0..1100).chain(private).chain(far) {
                    let number = number | mode.marker;
                    for argument in ARGUMENTS {
                        assert_eq!(
                            emulate(&program, mode.audit, number, argument),
                            evaluate(&host, held, *mode, number, argument),
                            "{mode:x?} {number} {argument:#x}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_mode_of_another_processor_is_killed() {
    for host in [X86_HOST, ARM_HOST] {
        let program = compile_for(&host, &[]);
        for arch in [0, 0xc000_00f3, 0x8000_0016] {
            assert_eq!(emulate(&program, arch, 1, 0), RETURN_KILL_PROCESS);
        }
    }
}

#[test]
fn minus_one_does_not_exist() {
    let program = compile_for(&X86_HOST, &Capability::DOCKER_DEFAULT);
    let answer = emulate(&program, AUDIT_X86_64, u32::MAX, 0);
    assert_eq!(answer, RETURN_FAIL | u32::from(ENOSYS));
}

#[test]
fn known_calls_have_their_numbers_and_answers() {
    let program = compile_for(&X86_HOST, &Capability::DOCKER_DEFAULT);
    let check = |arch: u32, number: u32, argument: u64, expected: u32| {
        assert_eq!(
            emulate(&program, arch, number, argument),
            expected,
            "{number}"
        );
    };
    let refused = RETURN_FAIL | u32::from(EPERM);
    let unknown = RETURN_FAIL | u32::from(ENOSYS);
    let (read, mount, clone, clone3, unshare) = (0, 165, 56, 435, 272);
    let (socket, keyctl, io_uring_setup) = (41, 250, 425);
    check(AUDIT_X86_64, read, 0, RETURN_ALLOW);
    check(AUDIT_X86_64, mount, 0, refused);
    check(AUDIT_X86_64, clone, 0x0120_0011, RETURN_ALLOW);
    check(AUDIT_X86_64, clone, 0x1000_0011, refused);
    check(AUDIT_X86_64, clone3, 0, unknown);
    check(AUDIT_X86_64, unshare, 0x1000_0000, refused);
    check(AUDIT_X86_64, socket, 2, RETURN_ALLOW);
    check(AUDIT_X86_64, socket, 40, refused);
    check(AUDIT_X86_64, socket, (1 << 32) | 40, refused);
    check(AUDIT_X86_64, keyctl, 0, refused);
    check(AUDIT_X86_64, io_uring_setup, 0, refused);
    let (read, mount) = (3, 21);
    check(AUDIT_I386, read, 0, RETURN_ALLOW);
    check(AUDIT_I386, mount, 0, refused);
}

#[test]
fn a_number_is_reached_in_few_steps_and_filters_stay_small() {
    for host in [X86_HOST, ARM_HOST] {
        let program = compile_for(&host, &Capability::DOCKER_DEFAULT);
        assert!(program.len() < 700, "{} instructions", program.len());
    }
}
