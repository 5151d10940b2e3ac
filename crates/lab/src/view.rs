//! What is shown of a process.

use serde::{Deserialize, Serialize};

/// What is shown of a process. Every part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What it is just now: `leader`, `proposer of 3.1`.
    pub role: String,
    /// Its term, ballot, view or epoch, by the paper's name: `ballot 3.1`.
    pub term: String,
    /// What it has come to, if that cannot be taken back: a decided value.
    pub decided: Option<String>,
    /// Its log, from left to right.
    pub log: Vec<Cell>,
    /// Anything else.
    pub fields: Vec<Field>,
}

/// A cell of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Its place in the log.
    pub at: u64,
    /// What is in it.
    pub text: String,
    /// How far it has come.
    pub state: CellState,
}

/// How far a cell of a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// It may vanish.
    #[default]
    Tentative,
    /// It is on the disk, and may still vanish.
    Durable,
    /// It will stay.
    Committed,
}

/// Anything else that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// What.
    pub name: String,
    /// How it is.
    pub value: String,
}

impl View {
    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.push(Field { name: name.to_owned(), value: value.to_string() });
        self
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend([&self.role, &self.term].into_iter().filter(|part| !part.is_empty()).cloned());
        if !self.log.is_empty() {
            let cells: Vec<String> = self.log.iter().map(|cell| cell.text.clone()).collect();
            parts.push(format!("[{}]", cells.join(" ")));
        }
        let fields = self.fields.iter().filter(|field| !field.value.is_empty());
        parts.extend(fields.map(|field| format!("{} {}", field.name, field.value)));
        parts.extend(self.decided.iter().map(|decided| format!("decided {decided}")));
        parts.join(", ")
    }
}
