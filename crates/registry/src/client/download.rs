//! A file from a URL.

use std::io::{self, Read};
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, LAST_MODIFIED};

use super::courier::Courier;
use super::error::ClientError;
use super::registry::refusal;
use super::request::Request;
use super::transport::Response;

/// The body of a download, read as it arrives. A body that ends before its announced length is
/// an error of the last read.
#[derive(Debug)]
pub struct Download {
    response: Response,
    _courier: Arc<Courier>,
}

impl Download {
    pub(super) fn start(courier: Arc<Courier>, url: &str) -> Result<Self, ClientError> {
        let url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| ClientError::InvalidUrl(url.to_owned()))?;
        let response = courier.deliver(&Request::get(url))?;
        if !response.status().is_success() {
            return Err(refusal(response));
        }
        Ok(Self {
            response,
            _courier: courier,
        })
    }

    /// Returns the length that the server announced.
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Returns the `Last-Modified` header: a date as in `Mon, 23 Nov 2026 12:00:00 GMT`.
    pub fn last_modified(&self) -> Option<&str> {
        self.response.header(&LAST_MODIFIED)
    }

    /// Returns the file name that the server gave in `Content-Disposition`, without directories.
    pub fn file_name(&self) -> Option<&str> {
        file_name(self.response.header(&CONTENT_DISPOSITION)?)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.response.read(buffer)
    }
}

fn file_name(disposition: &str) -> Option<&str> {
    let value = disposition
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("filename"))?
        .1
        .trim()
        .trim_matches('"');
    let name = value.rsplit(['/', '\\']).next()?;
    (!matches!(name, "" | "." | "..")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_file_name_never_leads_out_of_its_directory() {
        for (text, expected) in [
            ("attachment; filename=\"a.tar\"", Some("a.tar")),
            ("attachment; filename=a.tar", Some("a.tar")),
            ("attachment; FileName=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"a/\"", None),
            ("inline", None),
        ] {
            assert_eq!(file_name(text), expected, "{text}");
        }
    }
}
