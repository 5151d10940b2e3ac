//! Ascending order in bounded memory, for pairs that come in another.
//!
//! A snapshot wants versions by revision; a store holds live keys by key. The sorter gathers
//! pairs up to a budget, writes them to a run in ascending order, and in the end merges the runs:
//! one pass over the disk, with one buffer per run in memory. Pairs that fit into the budget
//! never touch the disk. Equal keys come out in the order they went in.
//!
//! A run is `key size u32 | value size u32 | key | value`, repeated, integers little-endian. Runs
//! are private to one process and carry no checksum.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// What a pair costs in memory beside its bytes, in bytes.
const PAIR_OVERHEAD: usize = 32;

/// Buffer for writing a run, and for each run that is being merged, in bytes.
const RUN_BUFFER_BYTES: usize = 64 << 10;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A file for one run: written from front to back, then read the same way.
pub trait Run: Read + Write + Seek {}

impl<T: Read + Write + Seek> Run for T {}

/// Sorts pairs by their keys.
#[derive(Debug)]
pub struct Sorter<F, M> {
    budget_bytes: usize,
    make_run: M,
    runs: Vec<F>,
    /// Offsets into `bytes`: where the key starts, where the value starts, where it ends.
    pairs: Vec<(usize, usize, usize)>,
    bytes: Vec<u8>,
}

impl<F: Run, M: FnMut() -> io::Result<F>> Sorter<F, M> {
    /// A sorter that holds about `budget_bytes` of pairs (one pair may exceed it) and asks
    /// `make_run` for an empty file each time they are full.
    pub fn new(budget_bytes: usize, make_run: M) -> Self {
        Self { budget_bytes, make_run, runs: Vec::new(), pairs: Vec::new(), bytes: Vec::new() }
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// Those of the runs' files; `InvalidInput` for a key or value of 4 GiB or more.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len().max(value.len()) > u32::MAX as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let cost = self.pairs.len() * PAIR_OVERHEAD + self.bytes.len();
        if cost + key.len() + value.len() > self.budget_bytes && !self.pairs.is_empty() {
            self.spill()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.pairs.push((start, start + key.len(), self.bytes.len()));
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.pairs.sort_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut run = BufWriter::with_capacity(RUN_BUFFER_BYTES, (self.make_run)()?);
        for (start, middle, end) in &self.pairs {
            let size = |from: usize, to: usize| {
                u32::try_from(to - from).expect("checked in push").to_le_bytes()
            };
            run.write_all(&size(*start, *middle))?;
            run.write_all(&size(*middle, *end))?;
            run.write_all(&self.bytes[*start..*end])?;
        }
        self.runs.push(run.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.pairs.clear();
        self.bytes.clear();
        Ok(())
    }

    /// All pairs in ascending order.
    ///
    /// # Errors
    /// Those of the runs' files, here and from the iterator.
    pub fn finish(mut self) -> io::Result<Sorted<F>> {
        self.sort();
        let mut sorted = Sorted {
            sources: Vec::new(),
            heads: BinaryHeap::new(),
            memory: self.pairs.into_iter(),
            bytes: self.bytes,
        };
        for mut run in self.runs {
            run.seek(SeekFrom::Start(0))?;
            sorted.sources.push(BufReader::with_capacity(RUN_BUFFER_BYTES, run));
        }
        // What is still in memory came last, so it is the last source.
        for source in 0..=sorted.sources.len() {
            sorted.advance(source)?;
        }
        Ok(sorted)
    }
}

/// Key, source, value: compared in this order.
type Head = (Vec<u8>, usize, Vec<u8>);

/// The pairs of a [`Sorter`] in ascending order.
#[derive(Debug)]
pub struct Sorted<F> {
    sources: Vec<BufReader<F>>,
    /// The next pair of each source that has one.
    heads: BinaryHeap<Reverse<Head>>,
    memory: std::vec::IntoIter<(usize, usize, usize)>,
    bytes: Vec<u8>,
}

impl<F: Run> Sorted<F> {
    fn advance(&mut self, source: usize) -> io::Result<()> {
        let pair = match self.sources.get_mut(source) {
            Some(run) => read_pair(run)?,
            None => self.memory.next().map(|(start, middle, end)| {
                (self.bytes[start..middle].to_vec(), self.bytes[middle..end].to_vec())
            }),
        };
        if let Some((key, value)) = pair {
            self.heads.push(Reverse((key, source, value)));
        }
        Ok(())
    }
}

fn read_pair(run: &mut impl Read) -> io::Result<Option<Pair>> {
    let mut sizes = [0; 8];
    match run.read_exact(&mut sizes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let size = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&sizes[at..at + 4]);
        u32::from_le_bytes(word) as usize
    };
    let (mut key, mut value) = (vec![0; size(0)], vec![0; size(4)]);
    run.read_exact(&mut key)?;
    run.read_exact(&mut value)?;
    Ok(Some((key, value)))
}

impl<F: Run> Iterator for Sorted<F> {
    type Item = io::Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((key, source, value)) = self.heads.pop()?;
        if let Err(error) = self.advance(source) {
            self.heads.clear();
            return Some(Err(error));
        }
        Some(Ok((key, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rand::{Rng, RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    fn sorted(budget_bytes: usize, pairs: &[Pair]) -> (Vec<Pair>, usize) {
        let mut runs = 0;
        let mut sorter = Sorter::new(budget_bytes, || {
            runs += 1;
            Ok(Cursor::new(Vec::new()))
        });
        for (key, value) in pairs {
            sorter.push(key, value).expect("memory does not fail");
        }
        let all = sorter.finish().expect("memory does not fail").collect::<io::Result<_>>();
        (all.expect("memory does not fail"), runs)
    }

    #[test]
    fn pairs_come_out_in_order_and_equal_keys_in_the_order_they_came() {
        for seed in 0..50 {
            let mut random = Pcg64::seed_from_u64(seed);
            let pairs: Vec<_> = (0..500u32)
                .map(|index| {
                    let mut key = vec![0; random.random_range(0..3)];
                    random.fill_bytes(&mut key);
                    (key, index.to_le_bytes().to_vec())
                })
                .collect();
            let mut expected = pairs.clone();
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            let (whole, runs) = sorted(1 << 20, &pairs);
            assert_eq!((whole, runs), (expected.clone(), 0), "in memory, seed {seed}");
            let (merged, runs) = sorted(1000, &pairs);
            assert_eq!(merged, expected, "merged, seed {seed}");
            assert!(runs > 5, "the budget was kept: {runs}");
        }
    }

    #[test]
    fn a_run_that_ends_within_a_pair_is_an_error() {
        let mut bytes = vec![1, 0, 0, 0, 4, 0, 0, 0, b'k', 1, 2];
        assert!(read_pair(&mut bytes.as_slice()).is_err());
        bytes.extend([3, 4]);
        let pair = read_pair(&mut bytes.as_slice()).expect("whole now");
        assert_eq!(pair, Some((b"k".to_vec(), vec![1, 2, 3, 4])));
    }
}
