//! Reading what is no user's key: the levels merged.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::chain::Newest;
use crate::disk::Disk;
use crate::engine::{EngineError, Table};
use crate::error::ReadError;
use crate::layout;
use crate::types::KeySpan;
use crate::view::Levels;

/// Rows read ahead.
const AHEAD_ROWS: usize = 256;
/// Bytes read ahead, a row more at most.
const AHEAD_BYTES: usize = 256 * 1024;

/// Meta keys and their values, in key order. See [`View::meta_scan`](crate::View::meta_scan).
///
/// After an error it is over.
pub struct MetaScan<'a> {
    fronts: Vec<Newest<'a, Option<Bytes>>>,
    rows: Rows,
    /// Rows that it may still look at.
    left: usize,
}

impl<'a> MetaScan<'a> {
    pub(crate) fn new(
        levels: &'a Levels,
        span: &KeySpan,
        sequence: u64,
    ) -> Result<Self, EngineError> {
        let fronts = levels.fronts();
        let fronts = fronts.map(|front| Newest::new(&front.meta, span, sequence, false));
        let rows = Rows::new(&levels.disk, span)?;
        Ok(Self { fronts: fronts.collect(), rows, left: usize::MAX })
    }

    /// From here on it looks at so many rows, those that are gone included: if there are more,
    /// [`ReadError::TooLong`] follows, and the scan is over. Without a word it looks at all.
    pub fn look_at(&mut self, rows: usize) {
        self.left = rows;
    }

    /// Rows that it may still look at.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next key and its value; no value is a key that is gone.
    fn step(&mut self) -> Result<Option<(Bytes, Option<Bytes>)>, EngineError> {
        let front = self.fronts.iter().filter_map(Newest::head).min_by_key(|(key, _)| *key);
        let row = self.rows.ahead.last();
        let (key, value) = match (front, row) {
            (None, None) => return Ok(None),
            (Some((key, value)), None) => (key.clone(), value.clone()),
            (Some((key, value)), Some((other, _))) if key <= other => (key.clone(), value.clone()),
            (_, Some((key, value))) => (key.clone(), Some(value.clone())),
        };
        for front in &mut self.fronts {
            if front.head().is_some_and(|(other, _)| *other == key) {
                front.advance();
            }
        }
        if self.rows.ahead.last().is_some_and(|(other, _)| *other == key) {
            self.rows.advance()?;
        }
        Ok(Some((key, value)))
    }

    /// The next key that is there, however many are gone before it.
    pub(crate) fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        while let Some((key, value)) = self.step()? {
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl MetaScan<'_> {
    fn next_within(&mut self) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        while let Some((key, value)) = self.step()? {
            self.left = self.left.checked_sub(1).ok_or(ReadError::TooLong)?;
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl Iterator for MetaScan<'_> {
    type Item = Result<(Bytes, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_within();
        if row.is_err() {
            self.fronts.clear();
            self.rows.ahead.clear();
            self.rows.over = true;
        }
        row.transpose()
    }
}

/// The engine's part.
struct Rows {
    disk: Arc<Disk>,
    start: Bytes,
    end: Bytes,
    over: bool,
    /// Read ahead, the next one last.
    ahead: Vec<(Bytes, Bytes)>,
}

impl Rows {
    fn new(disk: &Arc<Disk>, span: &KeySpan) -> Result<Self, EngineError> {
        let start = layout::meta_row(&span.start);
        let end = span
            .end
            .as_ref()
            .map_or_else(|| Bytes::from_static(layout::META_END), |end| layout::meta_row(end));
        let mut rows = Self { disk: Arc::clone(disk), start, end, over: false, ahead: Vec::new() };
        rows.fill()?;
        Ok(rows)
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        self.ahead.pop();
        self.fill()
    }

    fn fill(&mut self) -> Result<(), EngineError> {
        if !self.ahead.is_empty() || self.over {
            return Ok(());
        }
        let mut bytes = 0;
        let mut full = false;
        let (ahead, end) = (&mut self.ahead, Some(&self.end[..]));
        self.disk.snapshot.scan(Table::Meta, &self.start, end, &mut |row, value| {
            bytes += row.len() + value.len();
            ahead.push((Bytes::copy_from_slice(&row[1..]), Bytes::copy_from_slice(value)));
            full = ahead.len() == AHEAD_ROWS || bytes >= AHEAD_BYTES;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.over = !full;
        if let Some((last, _)) = ahead.last() {
            self.start = layout::meta_row(&[&last[..], &[0]].concat());
        }
        ahead.reverse();
        Ok(())
    }
}
