//! A member without a log: the real state machine over a state in memory, applied at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use etcd::{ClusterFacts, Error, Evaluated, FoundingMember, Machine, Request, Response};
use mvcc::engine::mem::MemEngine;
use mvcc::{Commit, Reader, State, View};
use server::{Backend, Feed, MemberStatus, Standing};
use tokio::sync::mpsc;

pub(crate) const CLUSTER: u64 = 0xc1;
pub(crate) const MEMBER: u64 = 0xae1;
const TERM: u64 = 2;
/// Commits a subscriber may be behind.
const FEED_LEN: usize = 4096;

struct Core {
    machine: Machine<MemEngine>,
    index: u64,
    feeds: Vec<mpsc::Sender<Arc<Commit>>>,
}

struct Shared {
    core: Mutex<Core>,
    reader: Reader,
    began: Instant,
    has_leader: AtomicBool,
    is_learner: AtomicBool,
    /// How many reads found no leader.
    reads_refused: AtomicU64,
}

/// The member.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Shared>);

impl Memory {
    /// An empty cluster of one, which expires leases in a thread of its own.
    pub(crate) fn new() -> Memory {
        let state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
        let reader = state.reader();
        let limits = etcd::Limits { lease_extension: Duration::ZERO, ..Default::default() };
        let config = etcd::Config { member_id: MEMBER, limits, seed: 7 };
        let mut machine = Machine::open(state, config);
        let founder = FoundingMember {
            id: MEMBER,
            name: "default".to_owned(),
            peer_urls: vec!["http://localhost:2380".to_owned()],
        };
        let founding = Machine::<MemEngine>::founding(TERM, &[founder]);
        machine.apply(Duration::ZERO, 1, TERM, &founding).expect("the founding effects apply");
        machine.lead(Duration::ZERO, TERM).expect("no leases yet");
        machine.observe_cluster(ClusterFacts {
            unix_time_s: 1_700_000_000,
            connected_for: BTreeMap::new(),
            matched: BTreeMap::new(),
            last_index: 1,
        });
        let core = Core { machine, index: 1, feeds: Vec::new() };
        let memory = Memory(Arc::new(Shared {
            core: Mutex::new(core),
            reader,
            began: Instant::now(),
            has_leader: AtomicBool::new(true),
            is_learner: AtomicBool::new(false),
            reads_refused: AtomicU64::new(0),
        }));
        let weak = Arc::downgrade(&memory.0);
        std::thread::spawn(move || {
            while let Some(shared) = weak.upgrade() {
                Memory(shared).expire();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        memory
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().expect("no panic while it is held")
    }

    fn expire(&self) {
        let mut core = self.core();
        let now = self.0.began.elapsed();
        for effects in core.machine.expire(now).expect("memory can be read").effects {
            core.apply(now, &effects);
        }
    }

    /// Lets the member lose its leader, or find it again.
    pub(crate) fn set_leader(&self, known: bool) {
        self.0.has_leader.store(known, Ordering::Relaxed);
    }

    /// How many linearizable reads there were while the member had no leader.
    pub(crate) fn reads_refused(&self) -> u64 {
        self.0.reads_refused.load(Ordering::Relaxed)
    }

    /// Makes the member say that it is a learner.
    pub(crate) fn set_learner(&self, learner: bool) {
        self.0.is_learner.store(learner, Ordering::Relaxed);
    }

    /// Cuts all subscribers off, as if they had not kept up.
    pub(crate) fn cut_feeds(&self) {
        self.core().feeds.clear();
    }
}

impl Core {
    fn apply(&mut self, now: Duration, effects: &bytes::Bytes) {
        self.index += 1;
        let applied =
            self.machine.apply(now, self.index, TERM, effects).expect("own effects apply");
        if let Some(commit) = applied.commit {
            self.feeds.retain(|feed| feed.try_send(Arc::clone(&commit)).is_ok());
        }
    }
}

impl Backend for Memory {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        if !self.0.has_leader.load(Ordering::Relaxed) {
            return Err(Error::NoLeader);
        }
        let mut core = self.core();
        let now = self.0.began.elapsed();
        let evaluated = match core.machine.evaluate(now, request) {
            Evaluated::Long(long) => {
                let done = core.machine.begin_long(now, long).run();
                core.machine.end_long(now, done)
            }
            other => other,
        };
        match evaluated {
            Evaluated::Long(_) => Err(Error::NotLeader),
            Evaluated::Refused(error) => Err(error),
            Evaluated::Read(outcome) => *outcome,
            Evaluated::Propose { effects, outcome }
            | Evaluated::Membership { effects, outcome, .. } => {
                core.apply(now, &effects);
                *outcome
            }
        }
    }

    async fn execute_in(&self, _: node::RangeId, _: Request) -> Result<Response, Error> {
        Err(Error::RangeNotHere)
    }

    async fn read_point(&self) -> Result<View, Error> {
        if self.0.has_leader.load(Ordering::Relaxed) {
            Ok(self.view())
        } else {
            self.0.reads_refused.fetch_add(1, Ordering::Relaxed);
            Err(Error::NoLeader)
        }
    }

    fn view(&self) -> View {
        self.0.reader.view()
    }

    fn standing(&self) -> Standing {
        Standing {
            cluster_id: CLUSTER,
            member_id: MEMBER,
            term: TERM,
            leader: self.0.has_leader.load(Ordering::Relaxed).then_some(MEMBER),
            is_learner: self.0.is_learner.load(Ordering::Relaxed),
        }
    }

    fn status(&self) -> MemberStatus {
        let applied = self.view().applied().index;
        MemberStatus {
            version: "3.7.0".to_owned(),
            cluster_version: Some("3.7.0".to_owned()),
            storage_version: Some("3.7.0".to_owned()),
            committed: applied,
            applied,
            db_size_bytes: 20_480,
            db_in_use_bytes: 16_384,
            quota_bytes: None,
        }
    }

    fn subscribe(&self) -> Feed {
        let (sender, feed) = mpsc::channel(FEED_LEN);
        self.core().feeds.push(sender);
        feed
    }

    async fn move_leader(&self, target: u64) -> Result<(), Error> {
        if target == MEMBER { Ok(()) } else { Err(Error::BadLeaderTransferee) }
    }

    async fn defragment(&self) -> Result<(), Error> {
        Ok(())
    }
}
