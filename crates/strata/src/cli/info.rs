//! `strata info`.

use layer::Form;
use serde_json::json;
use strata::Hindrance;
use strata::container::status::Status;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::version::FORMAT_HELP;

pub(crate) const COMMAND: Command = Command {
    names: &["system info", "info"],
    about: "Display system-wide information",
    flags: &[Flag::one("format", "string", FORMAT_HELP).short('f')],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let engine = session.engine()?;
    let store = engine.store();
    let containers = store.containers()?;
    let running = containers
        .iter()
        .filter(|record| matches!(Status::of(store, record), Status::Running { .. }))
        .count();
    let images = store.images()?.len();
    let form = match engine.form()? {
        Form::Erofs => "erofs",
        Form::Tree => "tree",
    };
    let backing = store.file_system()?.name();
    let hindrance = Hindrance::of(store)?;
    let warnings: Vec<_> = hindrance
        .iter()
        .map(|it| format!("WARNING: {it}"))
        .collect();
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let object = json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": containers.len() - running,
        "Images": images,
        "Driver": "strata",
        "DriverStatus": [["Backing Filesystem", backing], ["Layer form", form]],
        "LoggingDriver": "json-file",
        "KernelVersion": text(system.release()),
        "OSType": "linux",
        "Architecture": text(system.machine()),
        "NCPU": processors,
        "DockerRootDir": store.root(),
        "RunDir": store.run_dir(),
        "Name": text(system.nodename()),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DefaultRuntime": "strata",
        "Warnings": warnings,
    });
    let text = match arguments.text("format") {
        None | Some("") => format!(
            "Containers: {}\n Running: {running}\n Stopped: {}\nImages: {images}\nServer Version: {}\nStorage Driver: strata\n Backing Filesystem: {backing}\n Layer form: {form}\nLogging Driver: json-file\nKernel Version: {}\nOSType: linux\nArchitecture: {}\nCPUs: {processors}\nName: {}\nDocker Root Dir: {}\nRun Dir: {}\n",
            containers.len(),
            containers.len() - running,
            env!("CARGO_PKG_VERSION"),
            text(system.release()),
            text(system.machine()),
            text(system.nodename()),
            store.root().display(),
            store.run_dir().display(),
        ),
        Some("json" | "{{json .}}") => format!("{object}\n"),
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            format.execute(&gotmpl::to_value(&object)?)? + "\n"
        }
    };
    session.out.data(&text)?;
    if arguments.text("format").is_none_or(str::is_empty) {
        for warning in &warnings {
            session.out.talk(warning);
        }
    }
    Ok(Exit::SUCCESS)
}
