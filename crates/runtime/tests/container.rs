//! Containers over a root file system of busybox, as root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use runtime::{
    Access, BindMount, BindSource, DEFAULT_PATH, Exit, Limits, MemoryFile, Network, NewPrivileges,
    Process, Running, Seccomp, Security, Spec, StartError, Stdio,
};
use rustix::fs::{Mode, OFlags};
use sys::{Mount, Recursion, Root};

const APPLETS: &[&str] = &[
    "awk", "cat", "chown", "chroot", "dd", "df", "echo", "env", "false", "grep", "head",
    "hostname", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "ping",
    "ps", "pwd", "readlink", "seq", "setsid", "sh", "sleep", "sort", "stat", "stty", "tail",
    "test", "touch", "tr", "true", "tty", "umount", "unshare", "wc",
];

/// A root file system in a directory of its own.
struct Rootfs {
    directory: tempfile::TempDir,
}

impl Rootfs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rootfs = Self { directory };
        let root = rootfs.path();
        for name in ["bin", "etc", "tmp", "root", "home/app"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        copy_program(&root.join("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nwheel:x:10:root\napp:x:1000:\nextra:x:20:app\n";
        fs::write(root.join("etc/group"), group).unwrap();
        rootfs
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn spec(&self, args: &[&str]) -> Spec {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        Spec {
            id: format!("test-{}-{number}", std::process::id()),
            rootfs: Mount::bind(&self.path(), Recursion::Single).unwrap(),
            rootfs_access: Access::ReadWrite,
            process: Process {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                env: vec![format!("PATH={DEFAULT_PATH}")],
                ..Process::default()
            },
            hostname: "box".to_owned(),
            mounts: Vec::new(),
            network: Network::None,
            security: Security::default(),
            limits: Limits::default(),
            stdio: Stdio::Inherit,
        }
    }

    /// Runs a shell command and returns what it printed to both streams, with its end.
    fn shell(&self, command: &str) -> (Exit, String) {
        run(self.spec(&["sh", "-c", command]))
    }

    fn output(&self, command: &str) -> String {
        let (exit, output) = self.shell(command);
        assert_eq!(exit, Exit::Code(0), "{command}: {output}");
        output
    }
}

/// Copies busybox in a process of its own: a child that another thread makes meanwhile would hold
/// a copy of the descriptor that writes, and an executable that is being written is busy.
fn copy_program(to: &Path) {
    let status = Command::new("cp").arg("/bin/busybox").arg(to).status();
    assert!(status.unwrap().success());
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

fn run(spec: Spec) -> (Exit, String) {
    let (mut running, reader) = start(spec);
    let output = std::io::read_to_string(fs::File::from(reader)).unwrap();
    (running.wait().unwrap(), output)
}

fn start(mut spec: Spec) -> (Running, OwnedFd) {
    let (reader, writer) = pipe();
    spec.stdio = Stdio::Streams {
        stdin: None,
        stdout: writer.try_clone().unwrap(),
        stderr: writer,
    };
    (runtime::start(spec).unwrap(), reader)
}

fn read_line(reader: &mut impl std::io::Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while reader.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Returns where the control group of a container is while it runs.
fn group_of(spec: &Spec) -> PathBuf {
    let devices = Path::new("/sys/fs/cgroup/devices");
    let (mount, controller) = match devices.exists() {
        true => (devices, ":devices:"),
        false => (Path::new("/sys/fs/cgroup"), "0::"),
    };
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let line = groups
        .lines()
        .find(|line| line.contains(controller))
        .unwrap();
    let own = line.rsplit(':').next().unwrap().trim_start_matches('/');
    mount.join(own).join(format!("strata-{}", spec.id))
}

fn bind(source: &Path, target: &str, access: Access) -> BindMount {
    BindMount {
        source: BindSource::Host(source.to_owned()),
        inside: String::new(),
        target: target.to_owned(),
        access,
    }
}

/// What `path` is in a memory file system with `a/file`, `a/link` to it from its root, and
/// `out` to outside.
fn inside(path: &str, target: &str, access: Access) -> BindMount {
    let mount = Mount::tmpfs(&[]).unwrap();
    let root = Root::from(mount.as_fd().try_clone_to_owned().unwrap());
    root.mkdir_all(b"a", Mode::from_raw_mode(0o755)).unwrap();
    let mode = Mode::from_raw_mode(0o644);
    let file = root
        .create_in_root(b"a/file", OFlags::WRONLY, mode)
        .unwrap();
    fs::File::from(file).write_all(b"in the mount\n").unwrap();
    for (content, link) in [("/a/file", "a/link"), ("../../../../etc", "out")] {
        rustix::fs::symlinkat(content, &mount, link).unwrap();
    }
    BindMount {
        source: BindSource::Mount(mount),
        inside: path.to_owned(),
        target: target.to_owned(),
        access,
    }
}

#[test]
fn privileged_the_container_sees_only_itself() {
    let rootfs = Rootfs::new();
    assert_eq!(rootfs.output("echo $$"), "1\n");
    let processes = rootfs.output("ps -o pid,comm");
    assert_eq!(processes.lines().count(), 2, "{processes}");
    assert_eq!(rootfs.output("hostname"), "box\n");
    let interfaces = rootfs.output("ls /sys/class/net");
    assert_eq!(interfaces, "lo\n");
    assert_eq!(
        rootfs.output("cat /proc/1/cgroup | grep -v ':/$' | wc -l"),
        "0\n"
    );
    assert_eq!(rootfs.output("ls -d /proc/[0-9]*"), "/proc/1\n");
    let mounts = rootfs.output("cat /proc/self/mountinfo");
    assert!(!mounts.contains("/sys/fs/cgroup/memory"), "{mounts}");
    let roots = mounts.lines().filter(|line| line.contains(" / / ")).count();
    assert!(roots <= 1, "{mounts}");
}

/// A v1 hierarchy in which the container has no group would show it the host's.
#[test]
fn privileged_the_control_group_file_system_shows_only_the_containers_group() {
    let rootfs = Rootfs::new();
    let listed = rootfs.output("ls /sys/fs/cgroup | tr '\\n' ' '");
    let is_unified = !Path::new("/sys/fs/cgroup/devices").exists();
    let (own, tasks) = match is_unified {
        true => ("/sys/fs/cgroup", "cgroup.procs"),
        false => ("/sys/fs/cgroup/devices", "tasks"),
    };
    assert!(is_unified || listed == "devices ", "{listed}");
    let seen = rootfs.output(&format!("cat {own}/{tasks} | sort -n | head -1"));
    assert_eq!(seen, "1\n");
    let (exit, output) = rootfs.shell(&format!("echo 0 > {own}/{tasks}"));
    assert_ne!(exit, Exit::Code(0));
    assert!(output.contains("Read-only file system"), "{output}");
    let (exit, _) = rootfs.shell("mkdir /sys/fs/cgroup/new");
    assert_ne!(exit, Exit::Code(0));
    let options = rootfs.output("grep ' /sys/fs/cgroup' /proc/self/mountinfo");
    for line in options.lines() {
        assert!(line.contains("ro,nosuid,nodev,noexec"), "{line}");
        assert_eq!(line.split(' ').nth(3), Some("/"), "{line}");
    }
}

#[test]
fn privileged_loopback_works_and_low_ports_are_free() {
    let rootfs = Rootfs::new();
    let flags = rootfs.output("ip link show lo");
    assert!(flags.contains("UP"), "{flags}");
    let port = rootfs.output("cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    assert_eq!(port, "0\n");
    let mut host = rootfs.spec(&["readlink", "/proc/self/ns/net"]);
    host.network = Network::Host;
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(run(host).1.trim(), own.to_str().unwrap());
    let other = rootfs.output("readlink /proc/self/ns/net");
    assert_ne!(other.trim(), own.to_str().unwrap());
}

#[test]
fn privileged_masked_and_read_only_paths_hold() {
    let rootfs = Rootfs::new();
    let masked = "cat /proc/keys /proc/timer_list /proc/interrupts | wc -c";
    assert_eq!(rootfs.output(masked), "0\n");
    assert_eq!(rootfs.output("ls -A /sys/firmware | wc -l"), "0\n");
    for command in [
        "echo 1 > /proc/sys/kernel/printk",
        "echo b > /proc/sysrq-trigger",
        "echo x > /proc/irq/x",
        "mkdir /sys/fs/cgroup/x",
        "touch /sys/firmware/x",
        "echo 1 > /sys/kernel/profiling",
        "umount /proc/keys",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
    ] {
        let (exit, output) = rootfs.shell(command);
        assert_ne!(exit, Exit::Code(0), "{command}: {output}");
    }
}

#[test]
fn privileged_capabilities_and_filter_are_dockers() {
    let rootfs = Rootfs::new();
    let (_, status) = run(rootfs.spec(&["cat", "/proc/self/status"]));
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("NoNewPrivs"), "0");
    assert_eq!(field("SigBlk"), "0000000000000000");
    assert_eq!(field("SigIgn"), "0000000000000000");
    assert_eq!(field("Groups"), "0 10");
    let (exit, output) = rootfs.shell("unshare -m true");
    assert_ne!(exit, Exit::Code(0), "{output}");
    assert_eq!(rootfs.output("umask"), "0022\n");
}

#[test]
fn privileged_security_can_be_changed() {
    let rootfs = Rootfs::new();
    let mut spec = rootfs.spec(&[
        "grep",
        "-E",
        "CapEff|NoNewPrivs|Seccomp:",
        "/proc/self/status",
    ]);
    spec.security = Security {
        capabilities: vec![sys::Capability::Chown],
        seccomp: Seccomp::Unconfined,
        no_new_privileges: NewPrivileges::Denied,
    };
    let words = "CapEff:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t0\n";
    assert_eq!(run(spec), (Exit::Code(0), words.to_owned()));
}

#[test]
fn privileged_devices_can_be_made_but_not_used() {
    let rootfs = Rootfs::new();
    let listing = rootfs.output("ls /dev | sort | tr '\\n' ' '");
    let core = match std::path::Path::new("/proc/kcore").exists() {
        true => "core ",
        false => "",
    };
    let names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(listing, format!("{core}{names}"));
    assert_eq!(rootfs.output("head -c 4 /dev/zero | wc -c"), "4\n");
    assert_eq!(rootfs.output("head -c 4 /dev/urandom | wc -c"), "4\n");
    for (name, node) in [("kmsg", "c 1 11"), ("mem", "c 1 1"), ("loop", "b 7 0")] {
        for directory in ["/tmp", "/dev"] {
            let command =
                format!("mknod {directory}/{name} {node} && head -c 1 {directory}/{name}");
            let (exit, output) = rootfs.shell(&command);
            assert_ne!(exit, Exit::Code(0), "{command}");
            assert!(output.contains("not permitted"), "{command}: {output}");
        }
    }
}

#[test]
fn privileged_exit_codes_and_signals_are_told() {
    let rootfs = Rootfs::new();
    for (command, exit) in [
        ("true", Exit::Code(0)),
        ("false", Exit::Code(1)),
        ("exit 42", Exit::Code(42)),
        ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
    ] {
        assert_eq!(rootfs.shell(command).0, exit, "{command}");
    }
    let command = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let (mut running, reader) = start(rootfs.spec(&["sh", "-c", command]));
    let mut reader = fs::File::from(reader);
    assert_eq!(read_line(&mut reader), "ready");
    running.signal(15).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(7));
    assert_eq!(running.wait().unwrap(), Exit::Code(7));
    running.signal(15).unwrap();

    let (mut running, _reader) = start(rootfs.spec(&["sleep", "1000"]));
    running.signal(9).unwrap();
    let exit = running.wait().unwrap();
    assert_eq!((exit, exit.exit_code()), (Exit::Signal(9), 137));
}

#[test]
fn privileged_dropping_a_container_ends_it_and_leaves_nothing() {
    let rootfs = Rootfs::new();
    let spec = rootfs.spec(&["sh", "-c", "sleep 1000 & echo ready; sleep 1000"]);
    let group = group_of(&spec);
    let (running, reader) = start(spec);
    let mut reader = fs::File::from(reader);
    assert_eq!(read_line(&mut reader), "ready");
    let process = format!("/proc/{}", running.pid());
    assert!(Path::new(&process).exists());
    drop(running);
    assert!(!Path::new(&process).exists());
    assert!(!group.exists());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn privileged_groups_of_killed_processes_are_removed_and_others_kept() {
    let rootfs = Rootfs::new();
    let spec = rootfs.spec(&["sh", "-c", "echo ready; sleep 1000"]);
    let abandoned = group_of(&spec).with_file_name("strata-abandoned");
    fs::create_dir(&abandoned).unwrap();
    let group = group_of(&spec);
    let (running, reader) = start(spec);
    assert_eq!(read_line(&mut fs::File::from(reader)), "ready");
    assert!(!abandoned.exists());
    rootfs.output("true");
    assert!(group.exists());
    drop(running);
    assert!(!group.exists());
}

#[test]
fn privileged_a_container_dies_with_the_thread_that_started_it() {
    let rootfs = Rootfs::new();
    for user in ["", "app"] {
        let mut spec = rootfs.spec(&["sh", "-c", "echo ready; sleep 1000"]);
        spec.process.user = user.to_owned();
        let thread = std::thread::spawn(|| {
            let (running, reader) = start(spec);
            let mut reader = fs::File::from(reader);
            assert_eq!(read_line(&mut reader), "ready");
            (running, reader)
        });
        let (mut running, mut reader) = thread.join().unwrap();
        assert_eq!(running.wait().unwrap(), Exit::Signal(9), "{user:?}");
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
    }
}

#[test]
fn privileged_programs_that_do_not_start_are_told_in_dockers_words() {
    let rootfs = Rootfs::new();
    let script = rootfs.path().join("tmp/script");
    fs::write(&script, "#!/nope\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let text = rootfs.path().join("tmp/text");
    fs::write(&text, "echo hi\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    let check = |change: &dyn Fn(&mut Spec), words: &str, code: u8| {
        let mut spec = rootfs.spec(&["true"]);
        change(&mut spec);
        let group = group_of(&spec);
        let error = runtime::start(spec).unwrap_err();
        assert_eq!(error.to_string(), words);
        assert_eq!(error.exit_code(), code, "{words}");
        assert!(!group.exists());
    };
    let program = |name: &'static str| {
        move |spec: &mut Spec| spec.process.args = vec![name.to_owned(), "x".to_owned()]
    };
    let words = r#"exec: "nope": executable file not found in $PATH"#;
    check(&program("nope"), words, 127);
    let words = r#"exec: "/nope": stat /nope: no such file or directory"#;
    check(&program("/nope"), words, 127);
    let words = r#"exec: "/etc": is a directory: permission denied"#;
    check(&program("/etc"), words, 126);
    let words = r#"exec: "/etc/passwd": permission denied"#;
    check(&program("/etc/passwd"), words, 126);
    let words = "exec /tmp/script: no such file or directory";
    check(&program("/tmp/script"), words, 255);
    check(
        &program("/tmp/text"),
        "exec /tmp/text: exec format error",
        255,
    );
    let words = "unable to find user nouser: no matching entries in passwd file";
    check(&|spec| spec.process.user = "nouser".to_owned(), words, 125);
    let words = "the working directory 'relative' is invalid, it needs to be an absolute path";
    check(&|spec| spec.process.cwd = "relative".to_owned(), words, 125);
    let words = "Cannot mkdir: /etc/passwd is not a directory";
    check(
        &|spec| spec.process.cwd = "/etc/passwd".to_owned(),
        words,
        125,
    );
    let words = "invalid mount config for type \"bind\": bind source path does not exist: /nope";
    let mount =
        |spec: &mut Spec| spec.mounts = vec![bind("/nope".as_ref(), "/x", Access::ReadOnly)];
    check(&mount, words, 125);
}

#[test]
fn privileged_users_are_those_of_the_container() {
    let rootfs = Rootfs::new();
    let command = "id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status; pwd; \
        echo again > /dev/stdout";
    for (user, expected) in [
        (
            "",
            "0\n0\n0 10\n/root\nCapEff:\t00000000a80425fb\n/\nagain\n",
        ),
        (
            "app",
            "1000\n1000\n1000 20\n/home/app\nCapEff:\t0000000000000000\n/\nagain\n",
        ),
        (
            "app:wheel",
            "1000\n10\n10\n/home/app\nCapEff:\t0000000000000000\n/\nagain\n",
        ),
        (
            "4242:7",
            "4242\n7\n7\n/\nCapEff:\t0000000000000000\n/\nagain\n",
        ),
    ] {
        let mut spec = rootfs.spec(&["sh", "-c", command]);
        spec.process.user = user.to_owned();
        assert_eq!(run(spec), (Exit::Code(0), expected.to_owned()), "{user:?}");
    }
}

#[test]
fn privileged_the_working_directory_is_made() {
    let rootfs = Rootfs::new();
    let mut spec = rootfs.spec(&["sh", "-c", "pwd; stat -c '%a %u' ."]);
    spec.process.cwd = "/work/deep".to_owned();
    assert_eq!(run(spec), (Exit::Code(0), "/work/deep\n755 0\n".to_owned()));
    assert!(rootfs.path().join("work/deep").is_dir());
}

#[test]
fn privileged_binds_are_mounted_in_order_and_kept_read_only() {
    let rootfs = Rootfs::new();
    let host = tempfile::tempdir().unwrap();
    let directory = host.path().join("directory");
    fs::create_dir(&directory).unwrap();
    fs::write(host.path().join("file"), "from the host\n").unwrap();
    let mut spec = rootfs.spec(&[
        "sh",
        "-c",
        "cat /data/sub/file /etc/hosts; echo new > /data/new; echo no > /data/sub/file",
    ]);
    spec.mounts = vec![
        bind(&directory, "/data", Access::ReadWrite),
        bind(
            &host.path().join("file"),
            "/data/sub/file",
            Access::ReadOnly,
        ),
        bind(&host.path().join("file"), "/etc/hosts", Access::ReadOnly),
    ];
    let (running, output) = run(spec);
    assert_eq!(running, Exit::Code(1), "{output}");
    assert!(
        output.starts_with("from the host\nfrom the host\n"),
        "{output}"
    );
    assert!(output.contains("Read-only file system"), "{output}");
    assert_eq!(fs::read_to_string(directory.join("new")).unwrap(), "new\n");
    assert_eq!(
        fs::read_to_string(host.path().join("file")).unwrap(),
        "from the host\n"
    );
}

#[test]
fn privileged_links_at_mount_points_never_lead_to_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let shadow = outside.path().join("shadow");
    fs::write(&shadow, "secret").unwrap();
    let source = outside.path().join("hosts");
    fs::write(&source, "127.0.0.1 localhost\n").unwrap();
    let up = format!("/../../../../../..{}", shadow.display());
    for target in [
        up.as_str(),
        "../../../../../../../../etc/shadow",
        "/etc/dangling/deep",
    ] {
        let rootfs = Rootfs::new();
        symlink(target, rootfs.path().join("etc/hosts")).unwrap();
        let mut spec = rootfs.spec(&["cat", "/etc/hosts"]);
        spec.mounts = vec![bind(&source, "/etc/hosts", Access::ReadWrite)];
        let expected = (Exit::Code(0), "127.0.0.1 localhost\n".to_owned());
        assert_eq!(run(spec), expected, "{target}");
        assert_eq!(fs::read_to_string(&shadow).unwrap(), "secret");
    }
    for name in ["proc", "dev", "sys"] {
        let rootfs = Rootfs::new();
        symlink("/etc", rootfs.path().join(name)).unwrap();
        let error = runtime::start(rootfs.spec(&["true"])).unwrap_err();
        assert!(
            matches!(error, StartError::Target { .. }),
            "{name}: {error}"
        );
    }
    let rootfs = Rootfs::new();
    symlink("/proc/sys/kernel", rootfs.path().join("data")).unwrap();
    let mut spec = rootfs.spec(&["true"]);
    spec.mounts = vec![bind(outside.path(), "/data", Access::ReadWrite)];
    let error = runtime::start(spec).unwrap_err();
    assert!(matches!(error, StartError::TargetInProc(_)), "{error}");
}

#[test]
fn privileged_paths_of_a_mount_that_is_attached_nowhere_are_shown() {
    let rootfs = Rootfs::new();
    let script = "cat /whole/a/file /new/directory/file /file && ls /new/directory /dev/.bind
        echo x > /whole/a/file && echo x > /file; grep -c bind /proc/self/mountinfo";
    let mut spec = rootfs.spec(&["sh", "-c", script]);
    spec.mounts = vec![
        inside("", "/whole", Access::ReadWrite),
        inside("/a/", "/new/directory", Access::ReadOnly),
        inside("a/link", "/file", Access::ReadOnly),
    ];
    let (_, output) = run(spec);
    let expected = "in the mount\nin the mount\nin the mount\n\
        ls: /dev/.bind: No such file or directory\n/new/directory:\nfile\nlink\n\
        sh: can't create /file: Read-only file system\n0\n";
    assert_eq!(output, expected);
    assert!(rootfs.path().join("file").is_file());
    for path in ["nothing", "out/shadow", "../a/nothing"] {
        let mut spec = rootfs.spec(&["true"]);
        spec.mounts = vec![inside(path, "/x", Access::ReadOnly)];
        let error = runtime::start(spec).unwrap_err();
        assert!(matches!(error, StartError::NoPathInMount { .. }), "{error}");
    }
}

#[test]
fn privileged_files_and_directories_of_memory_are_shown() {
    let rootfs = Rootfs::new();
    let script = "stat -c '%a %u:%g %s' /run/secret && cat /run/secret
        echo x > /memory/x; dd if=/dev/zero of=/memory/y bs=1024 count=80 2>&1 | grep -c 'No space'";
    let mut spec = rootfs.spec(&["sh", "-c", script]);
    let file = MemoryFile {
        content: b"hush\n".to_vec(),
        mode: 0o440,
        owner: (3, 4),
    };
    assert!(!format!("{file:?}").contains("hush"));
    let show = |source, target: &str| BindMount {
        source,
        inside: String::new(),
        target: target.to_owned(),
        access: Access::ReadWrite,
    };
    spec.mounts = vec![
        show(BindSource::MemoryFile(file), "/run/secret"),
        show(BindSource::Memory(64 << 10), "/memory"),
    ];
    let (_, output) = run(spec);
    assert_eq!(output, "440 3:4 5\nhush\n1\n");
}

#[test]
fn privileged_limits_hold_for_the_processes_of_the_container() {
    let rootfs = Rootfs::new();
    let script = "ulimit -n; ulimit -Hn; ulimit -c; df -k /dev/shm | tail -n 1 | awk '{print $2}'";
    let mut spec = rootfs.spec(&["sh", "-c", script]);
    let ulimits = ["nofile=50:60", "core=0"].map(|text| text.parse().unwrap());
    spec.limits = Limits {
        shm_size: 1 << 20,
        ulimits: ulimits.to_vec(),
    };
    let (exit, output) = run(spec);
    assert_eq!(
        (exit, output.as_str()),
        (Exit::Code(0), "50\n60\n0\n1024\n")
    );
    let mut spec = rootfs.spec(&["sh", "-c", "df -k /dev/shm | tail -n 1 | awk '{print $2}'"]);
    spec.process.user = "1:1".to_owned();
    assert_eq!(run(spec).1, "65536\n");
}

#[test]
fn privileged_mount_points_that_were_made_are_told() {
    let rootfs = Rootfs::new();
    let host = tempfile::tempdir().unwrap();
    let mut spec = rootfs.spec(&["true"]);
    spec.mounts = vec![bind(host.path(), "/a/b", Access::ReadOnly)];
    let mut running = runtime::start(spec).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    let made: Vec<_> = running
        .made_mount_points()
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    assert_eq!(made, ["/proc", "/dev", "/sys", "/a", "/a/b"]);
}

#[test]
fn privileged_a_read_only_root_can_only_be_read() {
    let rootfs = Rootfs::new();
    let mut spec = rootfs.spec(&["sh", "-c", "touch /dev/shm/x && touch /x"]);
    spec.rootfs_access = Access::ReadOnly;
    let (exit, output) = run(spec);
    assert_eq!(exit, Exit::Code(1));
    assert!(output.contains("/x: Read-only file system"), "{output}");
}

#[test]
fn privileged_the_host_mounts_are_out_of_sight_and_untouched() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rootfs = Rootfs::new();
    let mounts = rootfs.output("cat /proc/self/mountinfo");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    for line in mounts.lines() {
        assert!(!line.contains("shared:"), "{line}");
    }
}

#[test]
fn privileged_a_terminal_controls_the_container() {
    let rootfs = Rootfs::new();
    let command = "tty; stty size; ls /dev/console; echo $((1 + 1)) > /dev/tty; \
        read word; echo got $word; stty size; ls -l /dev/pts/0 | awk '{print $3, $4}'";
    let mut spec = rootfs.spec(&["sh", "-c", command]);
    spec.process.user = "app".to_owned();
    spec.stdio = Stdio::Terminal {
        rows: 24,
        columns: 80,
    };
    let mut running = runtime::start(spec).unwrap();
    let master = running.terminal().unwrap().master();
    let mut master = fs::File::from(master.try_clone_to_owned().unwrap());
    for expected in ["/dev/pts/0", "24 80", "/dev/console", "2"] {
        assert_eq!(read_line(&mut master).trim_end(), expected);
    }
    running.terminal().unwrap().resize(30, 100).unwrap();
    master.write_all(b"word\n").unwrap();
    assert_eq!(read_line(&mut master).trim_end(), "word");
    assert_eq!(read_line(&mut master).trim_end(), "got word");
    assert_eq!(read_line(&mut master).trim_end(), "30 100");
    assert_eq!(read_line(&mut master).trim_end(), "app 5");
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
}

#[test]
fn privileged_keys_typed_at_the_terminal_reach_the_container() {
    let rootfs = Rootfs::new();
    let command = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.01; done";
    let mut spec = rootfs.spec(&["sh", "-c", command]);
    spec.stdio = Stdio::Terminal {
        rows: 0,
        columns: 0,
    };
    let mut running = runtime::start(spec).unwrap();
    let master = running.terminal().unwrap().master();
    let mut master = fs::File::from(master.try_clone_to_owned().unwrap());
    assert_eq!(read_line(&mut master).trim_end(), "ready");
    master.write_all(b"\x03").unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(3));
}

#[test]
fn privileged_the_own_executable_is_out_of_reach() {
    // CVE-2019-5736: the image asks for the runtime's own binary, as program and as interpreter.
    let rootfs = Rootfs::new();
    let own = fs::metadata(std::env::current_exe().unwrap()).unwrap();
    let script = rootfs.path().join("tmp/script");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for program in ["/proc/self/exe", "/tmp/script"] {
        // What runs then is the stub, which sees that it was executed by itself and gives up.
        let mut running = runtime::start(rootfs.spec(&[program])).unwrap();
        assert_eq!(running.wait().unwrap(), Exit::Code(125), "{program}");
    }
    let after = fs::metadata(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(own.len(), after.len());
}

#[test]
fn privileged_no_descriptor_of_the_host_is_left_open() {
    let rootfs = Rootfs::new();
    let _held = fs::File::open("/etc").unwrap();
    // The last one is that of the listing itself.
    let (_, output) = run(rootfs.spec(&["ls", "/proc/self/fd"]));
    assert_eq!(output, "0\n1\n2\n3\n");
}

#[test]
fn privileged_containers_start_from_many_threads_at_once() {
    let rootfs = Rootfs::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let rootfs = &rootfs;
            scope.spawn(move || {
                for round in 0..5 {
                    let command = format!("echo {number}-{round}");
                    assert_eq!(rootfs.output(&command), format!("{number}-{round}\n"));
                }
            });
        }
    });
}
