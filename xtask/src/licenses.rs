//! Licenses of everything we build on, against the allow list of deny.toml.
//!
//! cargo-deny is run where it is installed, because it checks advisories and sources too. Elsewhere the part
//! that no machine may skip, the licenses, is checked from `cargo metadata`: a small reader of SPDX
//! expressions (`A OR B`, `A AND B`, `A/B`, parentheses, `WITH` exceptions as part of the name).

use anyhow::{Context, Result, bail, ensure};

use crate::metadata::foreign;
use crate::run::{program, root};

pub(crate) fn check() -> Result<()> {
    check_of("Cargo.toml", &[])?;
    if program("cargo-deny", &["--version"]).output().is_ok() {
        program("cargo-deny", &["check", "bans", "licenses", "sources"]).run()?;
    } else {
        println!("cargo-deny is not installed: bans and sources are left to a machine that has it");
    }
    Ok(())
}

/// The licenses of what the lock file beside this manifest brings in, against the allow list and `also`.
pub(crate) fn check_of(manifest: &str, also: &[&str]) -> Result<()> {
    let deny = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let mut allowed = allow_list(&deny)?;
    allowed.extend(also.iter().map(|name| (*name).to_owned()));
    let packages = foreign(manifest)?;
    let mut faults = Vec::new();
    for package in &packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.license {
            None => faults.push(format!("{name}: no license field")),
            Some(expression) => match permits(expression, &allowed) {
                Ok(true) => {}
                Ok(false) => {
                    faults.push(format!("{name}: {expression} is not allowed by deny.toml"))
                }
                Err(error) => faults.push(format!("{name}: {expression}: {error}")),
            },
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{manifest}: {} packages, all of an allowed license", packages.len());
    Ok(())
}

/// The strings of `allow = [...]` under `[licenses]`.
fn allow_list(deny: &str) -> Result<Vec<String>> {
    let section = deny.split("[licenses]").nth(1).context("deny.toml has no [licenses]")?;
    let list = section.split("allow = [").nth(1).context("[licenses] has no allow list")?;
    let list = list.split(']').next().context("the allow list does not end")?;
    let allowed: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(!allowed.is_empty(), "the allow list is empty");
    Ok(allowed)
}

/// Whether an SPDX expression can be satisfied with the allowed licenses.
fn permits(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let verdict = reader.any_of()?;
    ensure!(reader.words.is_empty(), "cannot read it from {:?} on", reader.words);
    Ok(verdict)
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any_of(&mut self) -> Result<bool> {
        let mut verdict = self.all_of()?;
        while self.take("OR") {
            verdict |= self.all_of()?;
        }
        Ok(verdict)
    }

    fn all_of(&mut self) -> Result<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let verdict = self.any_of()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(verdict);
        }
        let (first, rest) = self.words.split_first().context("a license is missing")?;
        self.words = rest;
        let mut name = (*first).to_owned();
        if self.take("WITH") {
            let (exception, rest) = self.words.split_first().context("an exception is missing")?;
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        Ok(self.allowed.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> bool {
        permits(expression, &["MIT".to_owned(), "Apache-2.0".to_owned(), "A WITH x".to_owned()])
            .unwrap()
    }

    #[test]
    fn expressions() {
        assert!(verdict("MIT"));
        assert!(verdict("MIT OR GPL-3.0"));
        assert!(verdict("GPL-3.0/MIT"));
        assert!(verdict("(MIT OR GPL-3.0) AND Apache-2.0"));
        assert!(verdict("A WITH x"));
        assert!(!verdict("A"));
        assert!(!verdict("MIT WITH x"));
        assert!(!verdict("GPL-3.0"));
        assert!(!verdict("MIT AND GPL-3.0"));
        assert!(!verdict("(MIT OR Apache-2.0) AND GPL-3.0"));
    }

    #[test]
    fn nonsense_is_an_error_not_a_pass() {
        for expression in ["", "MIT OR", "(MIT", "MIT MIT", "MIT)"] {
            assert!(permits(expression, &["MIT".to_owned()]).is_err(), "{expression}");
        }
    }

    #[test]
    fn the_allow_list_is_read() {
        let list =
            allow_list("[licenses]\nversion = 2\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n").unwrap();
        assert_eq!(list, ["MIT", "ISC"]);
        assert!(allow_list("[bans]\n").is_err());
    }
}
