//! Relative links of the Markdown pages lead to files that exist.

use anyhow::{Result, bail};

use crate::run::{program, root};

pub(crate) fn check() -> Result<()> {
    let listing =
        program("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
            .output()?;
    let (mut links, mut faults) = (0_usize, Vec::new());
    for page in listing.lines() {
        let path = root().join(page);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for target in targets(&text) {
            links += 1;
            let file = target.split('#').next().unwrap_or_default();
            let base = path.parent().map_or_else(root, std::path::Path::to_path_buf);
            if !file.is_empty() && !base.join(file).exists() {
                faults.push(format!("{page}: {target} does not exist"));
            }
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{links} relative links, none broken");
    Ok(())
}

/// The relative targets of `[text](target)` outside code fences.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn relative_links_only() {
        let page =
            "see [a](docs/a.md#x) and [b](https://example.org)\n```\n[c](no.md)\n```\n[d](d.md)";
        assert_eq!(targets(page), ["docs/a.md#x", "d.md"]);
    }
}
