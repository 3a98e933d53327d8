//! `strata inspect`, `strata image inspect` and `strata container inspect`.

use serde_json::ser::PrettyFormatter;
use serde_json::{Value, json};
use store::{ContainerError, ImageRecord, ResolveError, Store, StoreError};
use strata::container::{Container, FindError};
use strata::ops::inspect;

use super::command::{Arity, Command};
use super::error::{CommandError, Exit, Voice};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::version::FORMAT_HELP;

pub(crate) const IMAGE: Command = Command {
    names: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    flags: &[Flag::one("format", "string", FORMAT_HELP).short('f')],
    refused: &["platform"],
    arity: Arity::AtLeast(1),
    run: |arguments, session| run(arguments, session, find_image),
    ..Command::DEFAULT
};

pub(crate) const CONTAINER: Command = Command {
    names: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    flags: &[Flag::one("format", "string", FORMAT_HELP).short('f')],
    refused: &["size"],
    arity: Arity::AtLeast(1),
    run: |arguments, session| run(arguments, session, find_container),
    ..Command::DEFAULT
};

pub(crate) const ANY: Command = Command {
    names: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on containers and images",
    flags: &[
        Flag::one("format", "string", FORMAT_HELP).short('f'),
        Flag::one("type", "string", "Only inspect objects of the given type"),
    ],
    refused: &["size"],
    arity: Arity::AtLeast(1),
    run: run_any,
    ..Command::DEFAULT
};

type Find = fn(&str, &Session) -> Result<Value, CommandError>;

fn run_any(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let find = match arguments.text("type") {
        None | Some("") => find_any,
        Some("image") => find_image,
        Some("container") => find_container,
        Some(other) => {
            return Err(CommandError::client(format!(
                "unknown type: {other:?}; must be one of \"container\" or \"image\""
            )));
        }
    };
    run(arguments, session, find)
}

fn run(arguments: &Arguments, session: &mut Session, find: Find) -> Result<Exit, CommandError> {
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for word in &arguments.positional {
        match find(word, session) {
            Ok(object) => objects.push(object),
            Err(error) => errors.push(error),
        }
    }
    let rendered = render(arguments.text("format"), &objects);
    if rendered.is_err() {
        // docker has ended the line of a result before it finds that there is none.
        session.out.data("\n")?;
    }
    session.out.data(&rendered?)?;
    let mut exit = Exit::SUCCESS;
    for error in errors {
        let (text, code) = error.report(Voice::Plain, session.program, "");
        session.out.talk(&text);
        exit = code;
    }
    Ok(exit)
}

fn render(format: Option<&str>, objects: &[Value]) -> Result<String, CommandError> {
    match format {
        None | Some("") => Ok(format!("{}\n", pretty(objects))),
        Some("json") => Ok(format!("{}\n", Value::Array(objects.to_vec()))),
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)
                .map_err(|error| CommandError::from(error).exit(Exit::BAD_TEMPLATE))?;
            let mut text = String::new();
            for object in objects {
                let executed = match format.execute(&gotmpl::to_value(object)?) {
                    Ok(executed) => executed,
                    // docker runs a template on its structures, where what is not set is empty.
                    Err(error) => format
                        .execute(&gotmpl::to_value(&with_unset_fields(object))?)
                        .map_err(|_| error)?,
                };
                // What `index` does not find is an empty string in docker's maps.
                text.push_str(&executed.replace("<no value>", ""));
                text.push('\n');
            }
            if text.is_empty() {
                text.push('\n');
            }
            Ok(text)
        }
    }
}

/// Adds the fields of `Config` that the document leaves out because they are not set.
fn with_unset_fields(object: &Value) -> Value {
    let mut object = object.clone();
    let config = object.get_mut("Config").and_then(Value::as_object_mut);
    if let (Some(config), Value::Object(unset)) = (config, unset_config()) {
        for (key, value) in unset {
            config.entry(key).or_insert(value);
        }
    }
    object
}

fn unset_config() -> Value {
    json!({
        "User": "", "ExposedPorts": {}, "Env": [], "Entrypoint": [], "Cmd": [], "Volumes": {},
        "WorkingDir": "", "Labels": {}, "StopSignal": "", "ArgsEscaped": false, "OnBuild": [],
        "Healthcheck": null, "Shell": [],
    })
}

fn pretty(objects: &[Value]) -> String {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(objects, &mut serializer).expect("invariant: values are JSON");
    String::from_utf8(bytes).expect("invariant: JSON is UTF-8")
}

fn find_image(word: &str, session: &Session) -> Result<Value, CommandError> {
    let store = session.store()?;
    show_image(store, || name::resolve(store, word))
}

/// Shows the image that `resolve` finds. One that is removed before it could be read is looked
/// for again: its name leads to nothing then, or to another one.
fn show_image(
    store: &Store,
    resolve: impl Fn() -> Result<ImageRecord, CommandError>,
) -> Result<Value, CommandError> {
    let mut gone = None;
    loop {
        match inspect::image(store, &resolve()?) {
            Err(StoreError::ImageNotFound(id)) if gone != Some(id) => gone = Some(id),
            shown => return Ok(shown?),
        }
    }
}

fn find_container(word: &str, session: &Session) -> Result<Value, CommandError> {
    let store = session.store()?;
    let container = Container::find(store, word)?;
    Ok(inspect::container(store, &container))
}

fn find_any(word: &str, session: &Session) -> Result<Value, CommandError> {
    let store = session.store()?;
    match Container::find(store, word) {
        Ok(container) => return Ok(inspect::container(store, &container)),
        Err(FindError::Container(ContainerError::NotFound(_))) => {}
        Err(error) => return Err(error.into()),
    }
    show_image(store, || match store.resolve(word) {
        Ok(image) => Ok(image),
        Err(ResolveError::NotFound { .. } | ResolveError::Invalid(_)) => Err(CommandError::client(
            format!("Error: No such object: {word}"),
        )),
        Err(error) => Err(error.into()),
    })
}
