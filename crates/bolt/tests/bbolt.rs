//! bbolt itself reads, checks and changes what is written here, and what it writes is read.
//!
//! Runs only with `QUORATE_PEERS_GO=1`, and then needs Go, which fetches bbolt.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt::{Bucket, BucketWriter, Entry, Limits, Reader, WriteError, Writer};

const SEEDS: u32 = 12;

struct Bbolt {
    program: PathBuf,
}

impl Bbolt {
    fn build(directory: &Path) -> Self {
        let program = directory.join("bbolt");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bbolt");
        let mut go = Command::new("go");
        let built = go.current_dir(source).args(["build", "-o"]).arg(&program).arg(".").status();
        assert!(built.expect("QUORATE_PEERS_GO=1, but there is no go").success());
        Self { program }
    }

    /// Returns the list of all values.
    fn run(&self, what: &str, seed: u32, path: &Path) -> String {
        let mut command = Command::new(&self.program);
        let output = command.args([what, &seed.to_string()]).arg(path).output().expect("runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bbolt, {what} with seed {seed}: {errors}");
        std::fs::read_to_string(format!("{}.list", path.display())).expect("a list")
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn list(out: &mut Vec<u8>, bucket: &Bucket<'_, File>, path: &str) {
    for entry in bucket.entries() {
        match entry.expect("a valid database") {
            Entry::Value { key, value } => {
                writeln!(out, "{path}{}={}", hex(&key), hex(&value)).expect("memory");
            }
            Entry::Bucket { name, bucket } => list(out, &bucket, &format!("{path}{}/", hex(&name))),
        }
    }
}

fn read(path: &Path) -> (Reader<File>, String) {
    let file = File::open(path).expect("it was just written");
    let reader = Reader::open(file, Limits::default()).expect("a valid database");
    reader.check().expect("every page is accounted for");
    let mut out = Vec::new();
    list(&mut out, &reader.root(), "");
    (reader, String::from_utf8(out).expect("hexadecimal"))
}

fn copy(from: &Bucket<'_, File>, to: &mut BucketWriter<'_, File>) -> Result<(), WriteError> {
    from.entries().try_for_each(|entry| match entry.expect("a valid database") {
        Entry::Value { key, value } => to.put(&key, &value),
        Entry::Bucket { name, bucket } => to.bucket(&name, |to| copy(&bucket, to)),
    })
}

fn rewrite(reader: &Reader<File>, path: &Path) {
    let mut writer = Writer::create(File::create(path).expect("new")).expect("writes");
    for entry in reader.root().entries() {
        let Ok(Entry::Bucket { name, bucket }) = entry else { panic!("the root has buckets only") };
        writer.bucket(&name, |to| copy(&bucket, to)).expect("sorted");
    }
    writer.finish().expect("writes");
}

#[test]
fn bbolt_and_this_crate_read_each_other() {
    if std::env::var("QUORATE_PEERS_GO").as_deref() != Ok("1") {
        eprintln!("QUORATE_PEERS_GO is not 1: not comparing with bbolt");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let bbolt = Bbolt::build(directory.path());
    for seed in 0..SEEDS {
        let theirs = directory.path().join(format!("theirs {seed}"));
        let made = bbolt.run("make", seed, &theirs);
        let (reader, listed) = read(&theirs);
        assert!(listed == made, "read something else, seed {seed}");
        assert!(made.len() > 10_000, "a database of some size");

        let ours = directory.path().join(format!("ours {seed}"));
        rewrite(&reader, &ours);
        assert!(bbolt.run("check", seed, &ours) == made, "wrote something else, seed {seed}");
        let changed = bbolt.run("change", seed, &ours);
        assert!(changed != made && read(&ours).1 == changed, "changed by bbolt, seed {seed}");
    }
}
