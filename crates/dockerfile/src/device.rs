//! `RUN --device=`.

use crate::error::DidYouMean;
use crate::{mount, suggest};

const KEYS: [&str; 2] = ["name", "required"];

/// A device of the Container Device Interface that one `RUN` sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name, as `vendor.com/class=name`.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// Why a `--device` is wrong. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The quotes of the comma-separated fields do not match.
    #[error("failed to parse csv devices: bare or unclosed quote in {0:?}")]
    Quotes(String),
    /// A field without `=` that needs one.
    #[error("invalid field '{0}' must be a key=value pair")]
    NotAPair(String),
    /// There are two names.
    #[error("device name already set to {0}")]
    Renamed(String),
    /// `required=` is neither true nor false.
    #[error("invalid value for required: {0}")]
    Required(String),
    /// The key does not exist.
    #[error("unexpected key '{key}' in '{field}'{}", DidYouMean(.suggestion))]
    UnexpectedKey {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
}

impl Device {
    /// Reads the value of the flag.
    pub(crate) fn parse(text: &str) -> Result<Self, DeviceError> {
        let mut device = Self::default();
        let fields = mount::fields(text).ok_or_else(|| DeviceError::Quotes(text.to_owned()))?;
        for field in fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            match (key.to_lowercase().as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => {
                    device.required = mount::truth(value)
                        .ok_or_else(|| DeviceError::Required(value.to_owned()))?;
                }
                ("name", Some(value)) if device.name.is_empty() => {
                    value.clone_into(&mut device.name)
                }
                ("name", Some(_)) => return Err(DeviceError::Renamed(device.name)),
                _ if device.name.is_empty() => device.name = field,
                (_, None) => return Err(DeviceError::NotAPair(field)),
                (key, Some(_)) => {
                    return Err(DeviceError::UnexpectedKey {
                        suggestion: suggest::nearest(key, &KEYS).map(str::to_owned),
                        key: key.to_owned(),
                        field,
                    });
                }
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, bool), String> {
        let device = Device::parse(text).map_err(|error| error.to_string())?;
        Ok((device.name, device.required))
    }

    #[test]
    fn a_device_has_a_name_and_may_be_required() {
        for (text, name, required) in [
            ("v.org/gpu=0", "v.org/gpu=0", false),
            ("v.org/gpu,required", "v.org/gpu", true),
            ("Required=1,name=v.org/gpu=all", "v.org/gpu=all", true),
            ("v.org/gpu=0,required=f", "v.org/gpu=0", false),
            ("", "", false),
        ] {
            assert_eq!(parse(text), Ok((name.to_owned(), required)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_buildkits_words() {
        for (text, expected) in [
            ("a=1,name=b", "device name already set to a=1"),
            ("a=1,b", "invalid field 'b' must be a key=value pair"),
            ("a=1,required=maybe", "invalid value for required: maybe"),
            (
                "a=1,requird=1",
                "unexpected key 'requird' in 'requird=1' (did you mean required?)",
            ),
            (
                "a\"b",
                "failed to parse csv devices: bare or unclosed quote in \"a\\\"b\"",
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
