//! What is in a snapshot.

use std::fmt::Write as _;

use super::json::{Json, Object};
use super::{Show, Style, text};

/// A snapshot's figures.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) status: bolt::etcd::Status,
}

impl Status {
    fn row(&self) -> Vec<String> {
        vec![
            format!("{:x}", self.status.hash),
            self.status.revision.to_string(),
            self.status.total_keys.to_string(),
            text::size(self.status.total_bytes),
        ]
    }
}

impl Show for Status {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible = writeln!(out, "{}", self.row().join(", "));
    }

    fn fields(&self, out: &mut String) {
        let bolt::etcd::Status { hash, revision, total_keys, total_bytes } = self.status;
        let _infallible = writeln!(
            out,
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\
             \"Size\" : {total_bytes}"
        );
    }

    fn json(&self, _style: Style) -> Json {
        Object::default()
            .with("hash", self.status.hash)
            .with("revision", self.status.revision)
            .with("totalKey", self.status.total_keys)
            .with("totalSize", self.status.total_bytes)
            .into()
    }

    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        Some((&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], vec![self.row()]))
    }
}
