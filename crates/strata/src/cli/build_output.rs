//! `--output`, `--push` and `--load` of a build.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use store::Store;
use strata::ops::image_build::{FilesForm, FilesOutput, Split};
use strata::ops::save::save;

use super::archive_output;
use super::build::{failed, open_error};
use super::error::CommandError;
use super::flags::Arguments;
use super::output::stdout_is_terminal;

/// What a build is to leave behind.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Its files.
    pub(super) files: Vec<FilesOutput>,
    /// Archives of the image; `None` is standard output.
    pub(super) archives: Vec<Option<String>>,
    /// Whether the store keeps the image.
    pub(super) keeps_image: bool,
    /// Whether its names go to their registries.
    pub(super) is_pushed: bool,
    /// More names.
    pub(super) names: Vec<String>,
    /// Whether one of the archives is docker's, which holds no index.
    pub(super) has_docker_archive: bool,
    /// Whether standard output takes the result.
    pub(super) uses_stdout: bool,
}

impl Outputs {
    /// Reads the flags. Files are opened, standard output is not a terminal.
    pub(super) fn read(arguments: &Arguments) -> Result<Self, CommandError> {
        let mut outputs = Self::default();
        let given: Vec<&str> = arguments.all("output").collect();
        let is_pushed = arguments.is_on("push");
        if is_pushed && arguments.is_on("load") {
            return Err(failed(
                "push and load may not be set together at the moment",
            ));
        }
        for text in &given {
            outputs.add(text)?;
        }
        if is_pushed {
            outputs.is_pushed = true;
            outputs.keeps_image = true;
        }
        outputs.keeps_image |= given.is_empty() || arguments.is_on("load");
        // An archive is made of an image.
        outputs.keeps_image |= !outputs.archives.is_empty();
        Ok(outputs)
    }

    fn stdout(&mut self, kind: &str) -> Result<File, CommandError> {
        if stdout_is_terminal() {
            return Err(failed(&format!(
                "dest file is required for {kind} exporter. refusing to write to console"
            )));
        }
        self.uses_stdout = true;
        Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn add(&mut self, text: &str) -> Result<(), CommandError> {
        let fields = Fields::parse(text)?;
        let destination = fields.destination.as_deref();
        // What a variable that is not set would leave.
        if destination == Some("") {
            let kind = &fields.kind;
            return Err(failed(&format!("dest is required for {kind} output")));
        }
        match fields.kind.as_str() {
            "local" => {
                let Some(path) = destination else {
                    return Err(failed("dest is required for local output"));
                };
                let form = FilesForm::Directory(PathBuf::from(path));
                self.files.push(FilesOutput {
                    form,
                    split: fields.split,
                });
            }
            "tar" => {
                let file = match destination.filter(|path| *path != "-") {
                    Some(path) => {
                        File::create(path).map_err(|error| failed(&open_error(path, &error)))?
                    }
                    None => self.stdout("tar")?,
                };
                self.files.push(FilesOutput {
                    form: FilesForm::Tar(file),
                    split: fields.split,
                });
            }
            "docker" if destination.is_none() => self.keeps_image = true,
            kind @ ("docker" | "oci") => {
                let path = destination.filter(|path| *path != "-");
                self.has_docker_archive |= kind == "docker";
                if path.is_none() {
                    self.stdout(kind)?;
                }
                self.archives.push(path.map(str::to_owned));
            }
            "image" | "registry" => {
                self.keeps_image = true;
                self.is_pushed |= fields.is_pushed || fields.kind == "registry";
                self.names.extend(fields.names);
            }
            other => {
                return Err(failed(&format!(
                    "failed to solve: exporter {other:?} could not be found"
                )));
            }
        }
        Ok(())
    }
}

/// The fields of one `--output`.
#[derive(Debug)]
struct Fields {
    kind: String,
    destination: Option<String>,
    names: Vec<String>,
    is_pushed: bool,
    split: Split,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let mut fields = Self {
            kind: String::new(),
            destination: None,
            names: Vec::new(),
            is_pushed: false,
            split: Split::WhenSeveral,
        };
        if !text.contains('=') {
            let (kind, destination) = match text {
                "-" => ("tar", "-"),
                path => ("local", path),
            };
            fields.kind = kind.to_owned();
            fields.destination = Some(destination.to_owned());
            return Ok(fields);
        }
        // A name may hold commas between quotes: `"name=a,b"`.
        for field in text.split(',') {
            let field = field.trim_matches('"');
            let Some((key, value)) = field.split_once('=') else {
                fields.names.push(field.to_owned());
                continue;
            };
            match key.to_ascii_lowercase().as_str() {
                "type" => fields.kind = value.to_owned(),
                "dest" => fields.destination = Some(value.to_owned()),
                "name" => fields.names.push(value.to_owned()),
                "push" => fields.is_pushed = truth(key, value)?,
                "tar" if truth(key, value)? => {}
                "platform-split" if truth(key, value)? => fields.split = Split::Always,
                "platform-split" => {
                    return Err(failed(
                        "platform-split=false is not supported: files of one platform would take the place of another's; leave it out for a single platform",
                    ));
                }
                _ => {
                    return Err(failed(&format!(
                        "output option {key:?} is not supported: use type, dest, name, push and platform-split"
                    )));
                }
            }
        }
        match fields.kind.is_empty() {
            true => Err(failed(&format!("type is required for output {text:?}"))),
            false => Ok(fields),
        }
    }
}

fn truth(key: &str, value: &str) -> Result<bool, CommandError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(failed(&format!("invalid value {value:?} for {key}"))),
    }
}

/// Writes archives of the image with this id, under its names.
pub(super) fn write_archives(
    outputs: &Outputs,
    store: &Store,
    targets: &[String],
) -> Result<(), CommandError> {
    for path in &outputs.archives {
        archive_output::write(path.as_deref(), "save", |file| {
            Ok(save(store, targets, file)?)
        })?;
    }
    Ok(())
}
