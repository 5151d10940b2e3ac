//! The `quorate` binary.

fn main() -> anyhow::Result<()> {
    Ok(())
}
