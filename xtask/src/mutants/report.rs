//! The rows of the table of mutants: from the lines of harnesses, to a terminal and to a page.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::run::root;

const PAGE: &str = "docs/verification.md";
const BEGIN: &str = "<!-- mutants: written by `cargo xtask mutants --write` -->\n";
const END: &str = "<!-- /mutants -->\n";

/// The most of what was noticed that goes onto the page, in characters.
const PAGE_CHARS_MAX: usize = 90;

/// One mutant, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) harness: String,
    pub(super) mutant: String,
    /// The known way to get it wrong that it stands for.
    pub(super) way: Option<u8>,
    pub(super) caught: bool,
    /// How many were tried.
    pub(super) seeds: u64,
    pub(super) ms: u64,
    /// What was noticed, and by which seed.
    pub(super) noticed: String,
}

impl Row {
    /// The row that a line is; `None` if it is none.
    pub(super) fn parse(line: &str) -> Result<Option<Self>> {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[0] != "mutant" {
            return Ok(None);
        }
        let [_, harness, mutant, way, verdict, seeds, ms, noticed] = fields[..] else {
            anyhow::bail!("{} fields in {line:?}", fields.len());
        };
        let way = (way != "-").then(|| way.parse()).transpose();
        ensure!(matches!(verdict, "caught" | "survived"), "{verdict:?} is no verdict");
        Ok(Some(Self {
            harness: harness.to_owned(),
            mutant: mutant.to_owned(),
            way: way.with_context(|| format!("way in {line:?}"))?,
            caught: verdict == "caught",
            seeds: seeds.parse().with_context(|| format!("seeds in {line:?}"))?,
            ms: ms.parse().with_context(|| format!("milliseconds in {line:?}"))?,
            noticed: noticed.to_owned(),
        }))
    }

    fn way(&self) -> String {
        self.way.map_or_else(|| "-".to_owned(), |way| way.to_string())
    }
}

/// How many mutants the harness says that it hunted, if the line is its last.
pub(super) fn parse_end(line: &str, harness: &str) -> Result<Option<usize>> {
    let Some(rest) = line.strip_prefix("hunted\t") else { return Ok(None) };
    let (name, count) = rest.split_once('\t').with_context(|| format!("{line:?}"))?;
    ensure!(name == harness, "{harness} ends as {name}");
    Ok(Some(count.parse()?))
}

/// One row for a terminal.
pub(super) fn line(row: &Row) -> String {
    let Row { harness, mutant, seeds, ms, noticed, .. } = row;
    let verdict = if row.caught { noticed.as_str() } else { "SURVIVED" };
    format!("{:>3}  {harness:<8} {mutant:<32} {seeds:>5} seeds {ms:>6} ms  {verdict}", row.way())
}

/// The table for a terminal, by known way.
pub(super) fn plain(rows: &[Row]) -> String {
    let mut table = String::from("way  harness  mutant\n");
    for row in in_order(rows) {
        table.push_str(&line(row));
        table.push('\n');
    }
    table
}

/// By known way, those without one last; then as they were reported.
fn in_order(rows: &[Row]) -> Vec<&Row> {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| row.way.unwrap_or(u8::MAX));
    rows
}

/// The table for a page.
fn markdown(rows: &[Row]) -> String {
    let mut table = String::from(
        "| way | harness | mutant | seeds | ms | what noticed it |\n|---|---|---|---|---|---|\n",
    );
    for row in in_order(rows) {
        let mut noticed: String = row.noticed.chars().take(PAGE_CHARS_MAX).collect();
        if noticed.len() < row.noticed.len() {
            noticed.push_str("...");
        }
        // Inside of backquotes nothing but these two has a meaning.
        let noticed = noticed.replace('`', "'").replace('|', "\\|");
        let Row { harness, mutant, seeds, ms, .. } = row;
        let _infallible = writeln!(
            table,
            "| {} | {harness} | {mutant} | {seeds} | {ms} | `{noticed}` |",
            row.way()
        );
    }
    table
}

/// Puts the table into the page.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    std::fs::write(&path, replaced(&page, &markdown(rows))?)?;
    println!("{PAGE} updated");
    Ok(())
}

fn replaced(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("no mark for the mutants")?;
    let (_, after) = rest.split_once(END).context("no end of the mutants")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "mutant\traft\tWrong\t7\tcaught\t3\t20\tseed 3: a|b `c`";

    #[test]
    fn lines_become_rows_or_nothing_or_errors() {
        let row = Row::parse(LINE).unwrap().unwrap();
        assert_eq!((row.way, row.caught, row.seeds, row.ms), (Some(7), true, 3, 20));
        assert_eq!(Row::parse("test mutants ... ok").unwrap(), None);
        for wrong in [
            "mutant\traft\tWrong\t7\tcaught\t3\t20",
            "mutant\traft\tWrong\tx\tcaught\t3\t20\t-",
            "mutant\traft\tWrong\t7\tpassed\t3\t20\t-",
            "mutant\traft\tWrong\t7\tcaught\t-\t20\t-",
        ] {
            assert!(Row::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_end("hunted\traft\t9", "raft").unwrap(), Some(9));
        assert_eq!(parse_end("test result: ok", "raft").unwrap(), None);
        assert!(parse_end("hunted\traft\t9", "store").is_err());
    }

    #[test]
    fn the_page_keeps_what_is_around_the_table() {
        let mut rows = vec![Row::parse(LINE).unwrap().unwrap()];
        rows.insert(0, Row { way: None, mutant: "Other".into(), ..rows[0].clone() });
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let page = replaced(&page, &markdown(&rows)).unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("after\n"), "{page}");
        assert!(!page.contains("old"), "{page}");
        let wrong = page.find("| Wrong | 3 | 20 | `seed 3: a\\|b 'c'` |").unwrap();
        assert!(wrong < page.find("| Other |").unwrap(), "known ways first");
        assert!(replaced("no marks", "").is_err());
    }
}
