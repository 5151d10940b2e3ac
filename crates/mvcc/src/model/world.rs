//! A state, its engine, its log and the model, driven by a seed.

use std::sync::Arc;

use bytes::Bytes;

use super::load;
use super::oracle::Oracle;
use crate::checkpoint::Done;
use crate::engine::mem::MemEngine;
use crate::engine::{Engine, Table, Write};
use crate::{
    Batch, CHUNK_BYTES_MAX, CheckpointJob, CollectJob, Import, ImportError, Inserted, KeySpan,
    Limits, OpenError, ReadError, Record, Revision, State, View,
};

/// SplitMix64: all the randomness of a world.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn between(&mut self, low: Revision, high: Revision) -> Revision {
        let width = usize::try_from(high.0 - low.0).unwrap() + 1;
        Revision(low.0 + i64::try_from(self.below(width)).unwrap())
    }
}

/// What a run has been through. Whatever stays at zero has not been tested.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    commits: u64,
    compactions: u64,
    checkpoints: u64,
    checkpoints_cut_off: u64,
    collections: u64,
    crashes: u64,
    opened_with_newer_versions: u64,
    reads_on_old_views: u64,
    reads_below_compacted: u64,
    imports: u64,
    imports_cut_off: u64,
    imports_damaged: u64,
    loads_cut_off: u64,
    inserted_elsewhere: u64,
}

impl Seen {
    fn counts(&self) -> [u64; 14] {
        [
            self.commits,
            self.compactions,
            self.checkpoints,
            self.checkpoints_cut_off,
            self.collections,
            self.crashes,
            self.opened_with_newer_versions,
            self.reads_on_old_views,
            self.reads_below_compacted,
            self.imports,
            self.imports_cut_off,
            self.imports_damaged,
            self.loads_cut_off,
            self.inserted_elsewhere,
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.compactions += other.compactions;
        self.checkpoints += other.checkpoints;
        self.checkpoints_cut_off += other.checkpoints_cut_off;
        self.collections += other.collections;
        self.crashes += other.crashes;
        self.opened_with_newer_versions += other.opened_with_newer_versions;
        self.reads_on_old_views += other.reads_on_old_views;
        self.reads_below_compacted += other.reads_below_compacted;
        self.imports += other.imports;
        self.imports_cut_off += other.imports_cut_off;
        self.imports_damaged += other.imports_damaged;
        self.loads_cut_off += other.loads_cut_off;
        self.inserted_elsewhere += other.inserted_elsewhere;
    }

    pub(super) fn assert_complete(&self) {
        assert!(self.counts().iter().all(|&count| count > 0), "{self:?}");
    }
}

enum Job {
    Checkpoint(CheckpointJob<MemEngine>),
    Collect(CollectJob<MemEngine>),
    Done(Done),
}

pub(super) struct World {
    random: Random,
    limits: Limits,
    engine: Arc<MemEngine>,
    state: State<MemEngine>,
    /// Applies the same and never writes a checkpoint.
    twin: State<MemEngine>,
    oracle: Oracle,
    /// How many entries the state has applied: fewer than the log has, after a crash.
    applied: usize,
    job: Option<Job>,
    /// The next entry, in memory and not published.
    inserted: Option<Inserted>,
    /// Views held, with the number of entries they contain.
    views: Vec<(View, usize)>,
    pub(super) seen: Seen,
}

const KEYS: [&[u8]; 9] =
    [b"a", b"a\0", b"a\0\0", b"a\0\x01", b"a\xff", b"aa", b"b", b"\xff", b"\xff\xff\0"];

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = Limits {
            checkpoint_write_bytes: [1, 400, 2000, 1 << 30][random.below(4)],
            events_row_bytes: [1, 20, 100][random.below(3)],
            collect_changes: 1 + random.below(6),
            import_write_bytes: [1, 300, 1 << 20][random.below(3)],
            import_row_bytes: 1 << 16,
            front_root_bits: 3,
        };
        let engine = Arc::new(MemEngine::new());
        let state = State::open_with(Arc::clone(&engine), limits).unwrap();
        let twin = State::open(Arc::new(MemEngine::new())).unwrap();
        Self {
            random,
            limits,
            engine,
            state,
            twin,
            oracle: Oracle::default(),
            applied: 0,
            job: None,
            inserted: None,
            views: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn step(&mut self) {
        if self.inserted.is_some() {
            return self.step_beside_insert();
        }
        if self.applied < self.oracle.log.len() && self.random.below(8) > 0 {
            return self.replay();
        }
        match self.random.below(25) {
            0..=9 => self.write(),
            10 => self.compact(),
            11..=12 => self.begin_checkpoint(),
            13 => self.begin_collect(),
            14..=16 => self.run_job(),
            17..=18 => self.finish_job(),
            19 => self.crash(),
            20 => self.hold_view(),
            21 => self.check_old_view(),
            22 => self.transfer(),
            _ => self.check(),
        }
    }

    /// What may happen while a batch is in memory and not published.
    fn step_beside_insert(&mut self) {
        match self.random.below(10) {
            0..=2 => self.publish(),
            3 => self.begin_checkpoint(),
            4 => self.run_job(),
            5 => self.finish_job(),
            6 => self.crash(),
            7 => self.check_old_view(),
            8 => self.transfer(),
            _ => self.check(),
        }
    }

    /// Applies an entry, at once or in two steps.
    fn put_in(&mut self, batch: Batch) {
        if self.random.below(4) == 0 {
            self.inserted = Some(self.state.inserter().insert(batch));
            self.seen.inserted_elsewhere += 1;
        } else {
            self.state.apply(batch);
            self.applied += 1;
        }
    }

    fn publish(&mut self) {
        let inserted = self.inserted.take().unwrap();
        assert!(self.state.inserted(inserted));
        self.applied += 1;
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(KEYS[self.random.below(KEYS.len())])
    }

    fn write(&mut self) {
        let mut batch = self.next_batch();
        let mut puts: Vec<(Bytes, Bytes)> = Vec::new();
        for _ in 0..self.random.below(3) {
            let (key, len) = (self.key(), self.random.below(40));
            let value = vec![u8::try_from(self.random.below(256)).unwrap(); len];
            if puts.iter().all(|(other, _)| *other != key) {
                puts.push((key, value.into()));
            }
        }
        let mut deletes: Vec<Bytes> = Vec::new();
        for _ in 0..self.random.below(3) {
            let key = self.key();
            let times = 1 + self.random.below(2);
            deletes.extend(std::iter::repeat_n(key, times));
        }
        let commit = self.oracle_now().commit(&puts, &deletes);
        if !commit.changes.is_empty() {
            batch.commit = Some(Arc::new(commit));
            self.seen.commits += 1;
        }
        for _ in 0..self.random.below(3) {
            let value = Bytes::from(batch.index.to_string());
            batch.meta.push((self.key(), (self.random.below(3) > 0).then_some(value)));
        }
        self.append(batch);
    }

    fn compact(&mut self) {
        let (low, high) = (self.state.compacted(), self.state.revision());
        let mut batch = self.next_batch();
        batch.compact = Some(self.random.between(low, high));
        self.seen.compactions += 1;
        self.append(batch);
    }

    fn next_batch(&mut self) -> Batch {
        let before = self.oracle_now().applied();
        let index = before.index + 1 + self.random.below(2) as u64;
        let term = before.term.max(1) + self.random.below(8) as u64 / 7;
        Batch { index, term, ..Batch::default() }
    }

    /// A new entry; what the log had beyond the entries applied is replayed first.
    fn append(&mut self, batch: Batch) {
        if self.applied < self.oracle.log.len() {
            return self.replay();
        }
        self.oracle.log.push(batch.clone());
        self.twin.apply(batch.clone());
        self.put_in(batch);
    }

    fn replay(&mut self) {
        self.put_in(self.oracle.log[self.applied].clone());
        if self.random.below(4) == 0 {
            self.check();
        }
    }

    fn begin_checkpoint(&mut self) {
        if let Some(job) = self.state.freeze() {
            assert!(self.job.is_none());
            self.job = Some(Job::Checkpoint(job));
        }
    }

    fn begin_collect(&mut self) {
        if let Some(job) = self.state.collect() {
            assert!(self.job.is_none());
            self.job = Some(Job::Collect(job));
        }
    }

    fn run_job(&mut self) {
        self.job = match self.job.take() {
            Some(Job::Checkpoint(job)) => {
                self.seen.checkpoints += 1;
                Some(Job::Done(job.run().unwrap()))
            }
            Some(Job::Collect(job)) => {
                self.seen.collections += 1;
                Some(Job::Done(job.run().unwrap()))
            }
            other => other,
        };
    }

    fn finish_job(&mut self) {
        match self.job.take() {
            Some(Job::Done(done)) => drop(self.state.finish(done)),
            other => self.job = other,
        }
    }

    /// Loses the state, perhaps in the middle of a job, and opens it again.
    fn crash(&mut self) {
        self.engine.fail_writes_after(Some(self.random.below(6) as u64));
        match self.job.take() {
            Some(Job::Checkpoint(job)) => {
                self.seen.checkpoints_cut_off += u64::from(job.run().is_err());
            }
            Some(Job::Collect(job)) => drop(job.run()),
            _ => {}
        }
        self.engine.fail_writes_after(None);
        self.views.clear();
        let lost = self.inserted.take();
        self.state = State::open_with(Arc::clone(&self.engine), self.limits).unwrap();
        let mark = self.state.applied();
        let contained = self.oracle.log.iter().take_while(|batch| batch.index <= mark.index);
        self.applied = contained.count();
        if let Some(lost) = lost {
            assert!(!self.state.inserted(lost), "it was of another state");
        }
        self.seen.crashes += 1;
        let levels = self.state.view();
        let disk = &levels.levels().disk;
        self.seen.opened_with_newer_versions += u64::from(disk.newest > disk.mark.revision);
        self.check();
    }

    fn hold_view(&mut self) {
        if self.views.len() > 3 {
            let index = self.random.below(self.views.len());
            self.views.swap_remove(index);
        }
        self.views.push((self.state.reader().view(), self.applied));
    }

    fn check_old_view(&mut self) {
        if self.views.is_empty() {
            return;
        }
        let index = self.random.below(self.views.len());
        let (view, applied) = self.views[index].clone();
        self.seen.reads_on_old_views += u64::from(applied < self.applied);
        let oracle = self.oracle.prefix(applied);
        self.check_view(&view, &oracle);
    }

    /// Sends a state to another member, and sometimes goes on as that member.
    fn transfer(&mut self) {
        let (view, applied) = match self.views.last() {
            Some(old) if self.random.below(2) == 0 => old.clone(),
            _ => (self.state.view(), self.applied),
        };
        let chunks: Vec<Bytes> = view.export().map(Result::unwrap).collect();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
        let engine = Arc::new(MemEngine::new());
        let rest = Write::Put(Table::Latest, "rest of another state".into(), "x".into());
        engine.write(&[rest]).unwrap();
        self.damage(&engine, &mut chunks.clone());
        self.cut_off(&engine, &chunks);
        let imported = import(&engine, self.limits, &chunks).unwrap();
        assert_eq!(imported.applied(), imported.durable());
        let oracle = self.oracle.prefix(applied);
        self.check_view(&imported.view(), &oracle);
        assert_eq!(imported.view().hash().unwrap(), view.hash().unwrap());
        self.seen.imports += 1;
        self.load(&view, &oracle);
        if self.random.below(2) == 0 {
            // A job that is out belongs to the state that is given up.
            let job = self.job.take();
            (self.engine, self.state, self.applied) = (engine, imported, applied);
            if let Some(lost) = self.inserted.take() {
                assert!(!self.state.inserted(lost), "it was of another state");
            }
            if let Some(Job::Done(done)) = job {
                drop(self.state.finish(done));
            }
            self.check();
        }
    }

    /// A state that is loaded from the whole history is the one that was applied.
    fn load(&mut self, view: &View, oracle: &Oracle) {
        let engine = Arc::new(MemEngine::new());
        let writes = 1 + self.random.below(4) as u64;
        self.seen.loads_cut_off += u64::from(load::cut_off(&engine, self.limits, oracle, writes));
        let loaded = load::load(&engine, self.limits, oracle).unwrap();
        assert_eq!(loaded.applied(), loaded.durable());
        self.check_view(&loaded.view(), oracle);
        assert_eq!(loaded.view().hash().unwrap(), view.hash().unwrap());
        assert_eq!(
            loaded.view().hash_kv(view.revision()).unwrap(),
            view.hash_kv(view.revision()).unwrap()
        );
    }

    /// Any damage to any chunk, and any change of their order, is noticed.
    fn damage(&mut self, engine: &Arc<MemEngine>, chunks: &mut Vec<Bytes>) {
        let index = self.random.below(chunks.len());
        match self.random.below(3) {
            0 => {
                let mut chunk = chunks[index].to_vec();
                let byte = self.random.below(chunk.len());
                chunk[byte] ^= 1 << self.random.below(8);
                chunks[index] = chunk.into();
            }
            1 => drop(chunks.remove(index)),
            _ => chunks.insert(index, chunks[index].clone()),
        }
        assert!(import(engine, self.limits, chunks).is_err());
        self.seen.imports_damaged += 1;
    }

    /// An import that a crash cuts off leaves no state behind.
    fn cut_off(&mut self, engine: &Arc<MemEngine>, chunks: &[Bytes]) {
        engine.fail_writes_after(Some(1 + self.random.below(4) as u64));
        let failed = import(engine, self.limits, chunks).is_err();
        engine.fail_writes_after(None);
        if failed {
            self.seen.imports_cut_off += 1;
            let opened = State::open(Arc::clone(engine));
            assert!(matches!(opened, Err(OpenError::ImportUnfinished)));
        }
    }

    fn oracle_now(&self) -> Oracle {
        self.oracle.prefix(self.applied)
    }

    fn check(&mut self) {
        let (view, oracle) = (self.state.view(), self.oracle_now());
        assert_eq!(self.state.revision(), oracle.revision());
        assert_eq!(self.state.compacted(), oracle.compacted());
        self.check_view(&view, &oracle);
    }

    /// Random questions to a view.
    fn check_view(&mut self, view: &View, oracle: &Oracle) {
        assert_eq!(view.applied(), oracle.applied());
        assert_eq!(view.revision(), oracle.revision());
        assert_eq!(view.compacted(), oracle.compacted());
        assert_eq!(view.live_keys(), oracle.live(oracle.revision()).len() as u64);
        for _ in 0..3 {
            let at = self.random.between(Revision(0), view.revision().next());
            let at = if self.random.below(3) == 0 { view.revision() } else { at };
            let (low, high) = (self.key(), self.key());
            let end = (self.random.below(4) > 0).then_some(high);
            self.check_reads(view, oracle, &KeySpan { start: low, end }, at);
            let from = self.random.between(Revision(0), view.revision().next());
            check_events(view, oracle, from, at);
        }
        check_meta(view, oracle);
    }

    fn check_reads(&mut self, view: &View, oracle: &Oracle, span: &KeySpan, at: Revision) {
        if at < oracle.compacted() {
            self.seen.reads_below_compacted += 1;
            let error = view.get(&span.start, at).unwrap_err();
            assert!(matches!(error, ReadError::Compacted { compacted } if compacted > at));
            assert!(view.scan(span, at).is_err() && view.count(span, at).is_err());
            return;
        }
        if at > oracle.revision() {
            let error = view.get(&span.start, at).unwrap_err();
            assert!(matches!(error, ReadError::Future { newest } if newest < at));
            return;
        }
        let live = oracle.live(at);
        for key in KEYS {
            assert_eq!(view.get(key, at).unwrap().as_ref(), live.get(key), "{key:?} at {at}");
        }
        let mut expected: Vec<_> = oracle.in_span(span, at);
        assert_eq!(collect(view.scan(span, at).unwrap()), expected, "{span:?} at {at}");
        assert_eq!(view.count(span, at).unwrap(), expected.len() as u64, "{span:?} at {at}");
        let rows = self.random.below(8);
        check_bounded(view.scan(span, at).unwrap(), &expected, rows);
        self.check_pages(view, &expected, span, at);
        expected.reverse();
        assert_eq!(collect(view.scan_back(span, at).unwrap()), expected, "{span:?} at {at}");
        let before = at.next();
        let previous = view.previous(&span.start, before).unwrap();
        assert_eq!(previous.as_ref(), live.get(&span.start));
    }

    /// A list read page by page is the list, and each page knows how much is left.
    fn check_pages(&mut self, view: &View, expected: &[Record], span: &KeySpan, at: Revision) {
        let limit = self.random.below(4);
        let mut left = expected;
        let mut span = Some(span.clone());
        while let Some(here) = span {
            let page = view.page(&here, at, limit).unwrap();
            let (records, rest) = left.split_at(limit.min(left.len()));
            assert_eq!(page.records, records);
            assert_eq!(page.count, left.len() as u64);
            assert_eq!(page.rest.is_some(), !rest.is_empty());
            left = rest;
            span = page.rest.filter(|_| limit > 0);
        }
    }

    /// All questions to the newest view, hashes among them.
    pub(super) fn check_everything(&mut self) {
        while self.applied < self.oracle.log.len() {
            match self.inserted {
                Some(_) => self.publish(),
                None => self.replay(),
            }
        }
        let (view, oracle, twin) = (self.state.view(), self.oracle_now(), self.twin.view());
        for at in 0..=view.revision().next().0 {
            self.check_reads(&view, &oracle, &KeySpan::all(), Revision(at));
            check_events(&view, &oracle, Revision(at), view.revision());
            if view.compacted().0 <= at && at <= view.revision().0 {
                let at = Revision(at);
                assert_eq!(view.hash_kv(at).unwrap(), twin.hash_kv(at).unwrap());
            }
        }
        assert_eq!(view.hash().unwrap(), twin.hash().unwrap());
        self.check_view(&view, &oracle);
    }
}

fn import(
    engine: &Arc<MemEngine>,
    limits: Limits,
    chunks: &[Bytes],
) -> Result<State<MemEngine>, ImportError> {
    let mut import = Import::begin(Arc::clone(engine), limits)?;
    for chunk in chunks {
        import.push(chunk)?;
    }
    import.finish()
}

fn collect(scan: impl Iterator<Item = Result<Record, ReadError>>) -> Vec<Record> {
    scan.map(Result::unwrap).collect()
}

/// A scan that may look at so many rows gives the first records, and says that there are more rows,
/// deleted ones among them.
fn check_bounded(mut scan: crate::Scan<'_>, expected: &[Record], rows: usize) {
    scan.look_at(rows);
    let mut seen = Vec::new();
    let over = loop {
        match scan.next() {
            Some(Ok(record)) => seen.push(record),
            Some(Err(ReadError::TooLong)) => break false,
            other => break other.is_none(),
        }
    };
    assert!(seen.len() <= rows && expected.starts_with(&seen));
    match over {
        true => assert_eq!(seen, expected),
        false => assert_eq!(scan.left(), 0),
    }
    assert!(scan.next().is_none(), "after an error it is over");
}

fn check_events(view: &View, oracle: &Oracle, from: Revision, to: Revision) {
    if from < oracle.compacted() {
        assert!(matches!(view.events(from..=to), Err(ReadError::Compacted { .. })));
        return;
    }
    let events = view.events(from..=to).unwrap();
    let events: Vec<_> = events.map(|commit| (*commit.unwrap()).clone()).collect();
    assert_eq!(events, oracle.events(from, to), "{from} to {to}");
}

fn check_meta(view: &View, oracle: &Oracle) {
    let meta = oracle.meta();
    for key in KEYS {
        assert_eq!(view.meta_get(key).unwrap().as_ref(), meta.get(key));
    }
    for prefix in [&b""[..], b"a", b"a\0", b"\xff"] {
        let seen: Vec<_> = view.meta_scan(prefix).unwrap().map(Result::unwrap).collect();
        let expected = meta.clone().into_iter().filter(|(key, _)| key.starts_with(prefix));
        assert_eq!(seen, expected.collect::<Vec<_>>(), "{prefix:?}");
    }
}
