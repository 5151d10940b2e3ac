//! Options of a task, `--name value` each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Options by name, taken out one by one.
pub(crate) struct Given<'a> {
    options: BTreeMap<&'a str, &'a str>,
    /// What `--help` prints.
    help: &'static str,
}

impl<'a> Given<'a> {
    /// # Errors
    /// If the last option has no value.
    pub(crate) fn parse(args: &'a [String], help: &'static str) -> Result<Self> {
        let mut options = BTreeMap::new();
        for pair in args.chunks(2) {
            match pair {
                [option, value] => options.insert(option.as_str(), value.as_str()),
                _ => bail!("{:?} needs a value\n\n{help}", pair[0]),
            };
        }
        Ok(Self { options, help })
    }

    pub(crate) fn take(&mut self, option: &str) -> Option<&'a str> {
        self.options.remove(option)
    }

    pub(crate) fn path(&mut self, option: &str, default: impl FnOnce() -> PathBuf) -> PathBuf {
        self.take(option).map_or_else(default, PathBuf::from)
    }

    /// # Errors
    /// If it is no number, or one that the type does not hold.
    pub(crate) fn number<N: TryFrom<u64>>(&mut self, option: &str, default: N) -> Result<N> {
        let Some(text) = self.take(option) else { return Ok(default) };
        let number = text.parse().ok().and_then(|number: u64| N::try_from(number).ok());
        number.with_context(|| format!("{option}: bad number {text:?}"))
    }

    /// # Errors
    /// If an option is left that nobody has taken.
    pub(crate) fn finish(self) -> Result<()> {
        match self.options.keys().next() {
            Some(unknown) => bail!("no option {unknown:?}\n\n{}", self.help),
            None => Ok(()),
        }
    }
}
