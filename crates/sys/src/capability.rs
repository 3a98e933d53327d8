//! Capabilities.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// A capability, by its number in the kernel.
/// [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of capabilities(7)")]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    Setpcap = 8,
    LinuxImmutable = 9,
    NetBindService = 10,
    NetBroadcast = 11,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    IpcOwner = 15,
    SysModule = 16,
    SysRawio = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysPacct = 20,
    SysAdmin = 21,
    SysBoot = 22,
    SysNice = 23,
    SysResource = 24,
    SysTime = 25,
    SysTtyConfig = 26,
    Mknod = 27,
    Lease = 28,
    AuditWrite = 29,
    AuditControl = 30,
    Setfcap = 31,
    MacOverride = 32,
    MacAdmin = 33,
    Syslog = 34,
    WakeAlarm = 35,
    BlockSuspend = 36,
    AuditRead = 37,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    /// The fourteen that docker leaves to a container.
    pub const DOCKER_DEFAULT: [Self; 14] = [
        Self::Chown,
        Self::DacOverride,
        Self::Fowner,
        Self::Fsetid,
        Self::Kill,
        Self::Setgid,
        Self::Setuid,
        Self::Setpcap,
        Self::NetBindService,
        Self::NetRaw,
        Self::SysChroot,
        Self::Mknod,
        Self::AuditWrite,
        Self::Setfcap,
    ];

    /// Returns the capability's bit in the kernel's sets.
    pub fn bit(self) -> u64 {
        1 << (self as u8)
    }

    /// Returns the set of `capabilities` as the kernel writes it in `/proc/<pid>/status`.
    pub fn mask(capabilities: &[Self]) -> u64 {
        capabilities
            .iter()
            .fold(0, |mask, capability| mask | capability.bit())
    }
}

/// Tells whether the calling thread holds a capability in effect.
pub fn holds(capability: Capability) -> io::Result<bool> {
    let bit = CapabilitySet::from_bits_retain(capability.bit());
    Ok(rustix::thread::capabilities(None)?.effective.contains(bit))
}

/// Takes every capability but `kept` out of what the calling thread and its descendants can ever
/// gain. Needs `CAP_SETPCAP`.
pub fn drop_from_bounding_set(kept: &[Capability]) -> io::Result<()> {
    let kept = Capability::mask(kept);
    for number in 0..u64::BITS {
        let bit = 1 << number;
        if kept & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // The kernel has no capability of this number, nor of a higher one.
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Leaves the calling thread at most the capabilities `kept`, and passes none of them on by
/// inheritance: what it executes gains by the rules for root and for files only.
pub fn drop_capabilities(kept: &[Capability]) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.permitted;
    let kept = CapabilitySet::from_bits_retain(Capability::mask(kept)) & held;
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Capability;

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(Capability::mask(&Capability::DOCKER_DEFAULT), 0xa804_25fb);
    }
}
