//! Writes a snapshot of made-up keys, to try tools and restores on large ones:
//!
//! ```text
//! cargo run --release -p quorate-bolt --example synthesize -- FILE KEYS VALUE_BYTES
//! ```
//!
//! Each key was put once, one per revision from 2 on. Prints how long it took and how much
//! memory it needed at most, as Linux counts it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::time::Instant;

use bolt::WriteError;
use bolt::etcd::{Chunks, Meta, RevisionKey, SnapshotWriter, Version};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [path, keys, value_bytes] = &arguments[..] else {
        return Err("usage: synthesize FILE KEYS VALUE_BYTES".into());
    };
    let (keys, value_bytes): (i64, usize) = (keys.parse()?, value_bytes.parse()?);
    let start = Instant::now();
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    let mut writer = SnapshotWriter::create(file)?;
    writer.versions(|put| {
        (2..keys.saturating_add(2)).try_for_each(|main| {
            let revision = RevisionKey { main, sub: 0, tombstone: false };
            put(&Version { revision, encoded: version(main, value_bytes).into() })
        })?;
        Ok::<_, WriteError>(())
    })?;
    writer.meta(&Meta {
        consistent_index: keys.unsigned_abs(),
        term: Some(1),
        ..Meta::default()
    })?;
    let (file, summary) = writer.finish()?;
    let written = start.elapsed();
    let mut digest = None;
    for chunk in Chunks::new(&file, 1 << 20)? {
        digest = Some(chunk?.blob);
    }
    File::options().append(true).open(path)?.write_all(&digest.unwrap_or_default())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("");
    println!("{} pages, {} bytes in {written:.1?}, {peak}", summary.pages, summary.bytes);
    Ok(())
}

/// `mvccpb.KeyValue`.
fn version(main: i64, value_bytes: usize) -> Vec<u8> {
    let key = format!("/synthetic/{main:012}");
    let mut bytes = Vec::with_capacity(value_bytes + 64);
    let number = |bytes: &mut Vec<u8>, tag: u8, mut value: u64| {
        bytes.push(tag);
        while value >= 0x80 {
            bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        bytes.push(value.to_le_bytes()[0]);
    };
    number(&mut bytes, 0x0a, key.len() as u64);
    bytes.extend_from_slice(key.as_bytes());
    for (tag, value) in [(0x10, main.unsigned_abs()), (0x18, main.unsigned_abs()), (0x20, 1)] {
        number(&mut bytes, tag, value);
    }
    number(&mut bytes, 0x2a, value_bytes as u64);
    bytes.resize(bytes.len() + value_bytes, b'v');
    bytes
}
