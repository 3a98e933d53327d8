//! Which programs of other platforms the kernel here runs.

use std::fs;
use std::path::Path;

use oci::Platform;

/// Where the kernel lists who runs programs that it does not know itself (binfmt_misc).
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// `RUN` for a platform whose programs nothing here runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "RUN for {platform} needs an emulator: no handler for programs of {platform} is registered in {HANDLERS} (such as {handler}, with flag F); install one, for example with the package qemu-user-static, or run this stage on the machine's own platform with FROM --platform=$BUILDPLATFORM"
)]
pub struct MissingEmulation {
    /// The platform.
    platform: Platform,
    /// The usual name of the handler.
    handler: String,
}

/// How the programs of an architecture begin, and what qemu calls it.
struct Program {
    qemu: &'static str,
    /// `EI_CLASS` and `EI_DATA`.
    class: u8,
    data: u8,
    /// `e_machine`.
    machine: u8,
}

const BITS_32: u8 = 1;
const BITS_64: u8 = 2;
const LITTLE: u8 = 1;
const BIG: u8 = 2;
/// `ET_EXEC`.
const EXECUTABLE: u8 = 2;

impl Program {
    fn of(architecture: &str) -> Option<Self> {
        let (qemu, class, data, machine) = match architecture {
            "386" => ("i386", BITS_32, LITTLE, 3),
            "amd64" => ("x86_64", BITS_64, LITTLE, 62),
            "arm" => ("arm", BITS_32, LITTLE, 40),
            "arm64" => ("aarch64", BITS_64, LITTLE, 183),
            "mips64" => ("mips64", BITS_64, BIG, 8),
            "mips64le" => ("mips64el", BITS_64, LITTLE, 8),
            "ppc64le" => ("ppc64le", BITS_64, LITTLE, 21),
            "riscv64" => ("riscv64", BITS_64, LITTLE, 243),
            "s390x" => ("s390x", BITS_64, BIG, 22),
            _ => return None,
        };
        Some(Self {
            qemu,
            class,
            data,
            machine,
        })
    }

    /// Returns the first bytes of a program.
    fn head(&self) -> [u8; 20] {
        let mut head = [0; 20];
        head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', self.class, self.data, 1]);
        let low = usize::from(self.data == BIG);
        head[16 + low] = EXECUTABLE;
        head[18 + low] = self.machine;
        head
    }
}

/// Returns what lacks to run programs of `platform`; `None` when nothing does.
pub(crate) fn missing(platform: &Platform) -> Option<MissingEmulation> {
    let host = Platform::host();
    let runs = [
        (host.architecture.as_str(), host.architecture.as_str()),
        ("amd64", "386"),
        ("arm64", "arm"),
    ];
    let wanted = (host.architecture.as_str(), platform.architecture.as_str());
    // An image that does not say what it is for is for every machine.
    if platform.architecture.is_empty() || platform.os == host.os && runs.contains(&wanted) {
        return None;
    }
    let program = Program::of(&platform.architecture).filter(|_| platform.os == host.os);
    if let Some(program) = &program
        && handlers(Path::new(HANDLERS)).any(|text| handles(&text, &program.head()))
    {
        return None;
    }
    let name = program.map_or(platform.architecture.clone(), |it| it.qemu.to_owned());
    Some(MissingEmulation {
        platform: platform.clone(),
        handler: format!("qemu-{name}"),
    })
}

/// Returns what the kernel says of each handler; nothing where it has none.
fn handlers(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_control = |name: &str| name == "register" || name == "status";
    entries
        .filter(move |entry| !entry.file_name().to_str().is_some_and(is_control))
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
}

/// Tells whether a handler runs programs that begin with `head`, wherever they are: without the
/// flag F the emulator would have to be in the image.
fn handles(text: &str, head: &[u8]) -> bool {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let is_enabled = text.lines().next() == Some("enabled");
    let is_fixed = field("flags:").is_some_and(|flags| flags.contains('F'));
    let offset = field("offset ").and_then(|offset| offset.parse::<usize>().ok());
    let Some(magic) = field("magic ").and_then(bytes) else {
        return false;
    };
    let mask = field("mask ").and_then(bytes);
    let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
    let Some(found) = offset.and_then(|offset| head.get(offset..)) else {
        return false;
    };
    let same = |((found, magic), mask): ((&u8, &u8), &u8)| found & mask == magic & mask;
    is_enabled
        && is_fixed
        && magic.len() <= found.len()
        && found.iter().zip(&magic).zip(&mask).all(same)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\n\
        flags: OCPF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_handler_is_known_by_how_its_programs_begin() {
        let arm64 = Program::of("arm64").expect("known").head();
        let riscv = Program::of("riscv64").expect("known").head();
        assert!(handles(AARCH64, &arm64));
        assert!(!handles(AARCH64, &riscv));
        assert!(!handles(&AARCH64.replace("enabled", "disabled"), &arm64));
        assert!(!handles(&AARCH64.replace("OCPF", "OCP"), &arm64));
        assert!(!handles(
            "enabled\ninterpreter /x\nflags: F\nextension .x\n",
            &arm64
        ));
        assert!(!handles(
            "enabled\nflags: F\noffset 9999\nmagic 00\n",
            &arm64
        ));
        let s390x = "enabled\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\n";
        assert!(handles(s390x, &Program::of("s390x").expect("known").head()));
    }

    #[test]
    fn what_lacks_is_named() {
        assert_eq!(missing(&Platform::host()), None);
        let nowhere: Platform = "linux/zarch".parse().expect("valid");
        let text = missing(&nowhere).expect("missing").to_string();
        assert!(
            text.starts_with("RUN for linux/zarch needs an emulator: "),
            "{text}"
        );
        assert!(text.contains("qemu-zarch"), "{text}");
        let windows: Platform = "windows/amd64".parse().expect("valid");
        assert!(missing(&windows).is_some());
    }
}
