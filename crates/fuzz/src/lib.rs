//! What every decoder promises of any bytes.
//!
//! A *target* is a function over bytes that anybody could send or leave on a disk. It says whether
//! they were accepted, and panics where a promise is broken:
//!
//! - nothing panics, overflows or loops for ever: what makes no sense is an error;
//! - what decodes says the same when it is encoded and decoded again, and where there is one
//!   encoding only, it is that one;
//! - however a stream is cut, the same is found in it;
//! - memory is bounded by the bytes that are there, not by a length that they claim
//!   ([`Target::memory`], counted by an allocator of our own);
//! - what is accepted can be used: a state can be read, a log can be written to and opened again.
//!
//! The functions lie beside their decoders, in a module `fuzzing` behind a feature of that name;
//! here is the list of them, and three ways to call them:
//!
//! 1. `cargo test -p quorate-fuzz`, in the gate: samples that our own encoders write, the committed
//!    corpus, and random changes of both ([`mutate`]). No coverage, and nothing but Rust.
//! 2. `cargo xtask fuzz [TARGET]`: libFuzzer, which looks for inputs that reach other lines. What it
//!    finds worth keeping goes into the corpus.
//! 3. `cargo run -p quorate-fuzz -- replay TARGET HEX`: one input.
//!
//! # The corpus
//!
//! `corpus/TARGET.txt` has one input a line, in hexadecimal; lines with `#` say why the next one is
//! there. Inputs that once broke a promise stay, with their reason.
//!
//! # Caveats
//!
//! - Sums are made right in the targets that look behind them (`state_stream`, `log_records`,
//!   `etcd_snapshot`): neither chance nor coverage guesses a CRC.
//! - Restoring a snapshot into a data directory takes files, and is not here; what it reads is.

pub mod corpus;
mod database;
mod memory;
pub mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Bytes of memory that a target may use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whatever the input.
    pub base: usize,
    /// For each byte of it.
    pub per_byte: usize,
}

/// A decoder, or a few that belong together.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it reads, in a few words.
    pub reads: &'static str,
    /// Whether it accepts the bytes.
    pub check: fn(&[u8]) -> bool,
    /// What its encoders write.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Whether a change of what is accepted is refused, because sums tell of it.
    pub is_summed: bool,
    /// The bound.
    pub memory: Memory,
    /// No longer inputs are tried.
    pub bytes_max: usize,
}

/// For decoders that hold what they decode, and a copy of it: the most that an element costs is
/// some hundred bytes of memory for two on the wire.
const DECODED: Memory = Memory { base: 256 << 10, per_byte: 1_000 };
/// For streams, whose pieces are read as they come.
const STREAMED: Memory = Memory { base: 256 << 10, per_byte: 8 };
/// For those that have a state, a connection or a disk beneath them.
const SERVED: Memory = Memory { base: 8 << 20, per_byte: 2_000 };

/// All targets, but `broken`.
pub const TARGETS: &[Target] = &[
    Target {
        name: "peer_hello",
        reads: "how a connection between members begins",
        check: node::fuzzing::peer_hello,
        samples: node::fuzzing::peer_hello_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 1_000,
    },
    Target {
        name: "peer_stream",
        reads: "frames between members, with their sums",
        check: node::fuzzing::peer_stream,
        samples: node::fuzzing::peer_stream_samples,
        is_summed: true,
        memory: STREAMED,
        bytes_max: 2_000,
    },
    Target {
        name: "peer_frame",
        reads: "consensus messages, forwarded requests and answers",
        check: node::fuzzing::peer_frame,
        samples: node::fuzzing::peer_frame_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 2_000,
    },
    Target {
        name: "log_files",
        reads: "the files of a log, when it is opened",
        check: storage::fuzzing::log_files,
        samples: storage::fuzzing::log_files_samples,
        is_summed: true,
        memory: SERVED,
        bytes_max: 16_384,
    },
    Target {
        name: "log_records",
        reads: "frames and records of a log, with their sums right",
        check: storage::fuzzing::log_records,
        samples: storage::fuzzing::log_records_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 2_000,
    },
    Target {
        name: "liveness_record",
        reads: "what a store has promised, as stored",
        check: liveness_record,
        samples: liveness_record_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 500,
    },
    Target {
        name: "effects",
        reads: "the effects of an entry, applied",
        check: etcd::fuzzing::effects,
        samples: etcd::fuzzing::effects_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "requests",
        reads: "requests of clients, evaluated and applied",
        check: etcd::fuzzing::requests,
        samples: etcd::fuzzing::requests_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "state_row",
        reads: "rows of the state engine",
        check: mvcc::fuzzing::state_row,
        samples: mvcc::fuzzing::state_row_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 1_000,
    },
    Target {
        name: "state_stream",
        reads: "a state on its way to another member, with its sums right",
        check: mvcc::fuzzing::state_stream,
        samples: mvcc::fuzzing::state_stream_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 2_000,
    },
    Target {
        name: "state_chunks",
        reads: "a state on its way to another member",
        check: mvcc::fuzzing::state_chunks,
        samples: mvcc::fuzzing::state_chunks_samples,
        is_summed: true,
        memory: SERVED,
        bytes_max: 2_000,
    },
    Target {
        name: "etcd_snapshot",
        reads: "a snapshot of etcd: pages, buckets, versions, leases, members",
        check: database::etcd_snapshot,
        samples: database::etcd_snapshot_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "connection",
        reads: "a client's connection of HTTP/2",
        check: http2::fuzzing::connection,
        samples: http2::fuzzing::connection_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 2_000,
    },
    Target {
        name: "header_blocks",
        reads: "compressed headers of HTTP/2",
        check: http2::fuzzing::header_blocks,
        samples: http2::fuzzing::header_blocks_samples,
        is_summed: false,
        // A byte may name an entry of the table, which has 4096 bytes.
        memory: Memory { base: 256 << 10, per_byte: 3 * 4_096 },
        bytes_max: 1_000,
    },
    Target {
        name: "grpc_body",
        reads: "the messages of a call, plain and compressed",
        check: server::fuzzing::grpc_body,
        samples: server::fuzzing::grpc_body_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "call_headers",
        reads: "the headers of a call",
        check: server::fuzzing::call_headers,
        samples: server::fuzzing::call_headers_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 500,
    },
    Target {
        name: "etcd_command_line",
        reads: "flags of etcd",
        check: cli::fuzzing::etcd_command_line,
        samples: cli::fuzzing::etcd_command_line_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "etcd_config_file",
        reads: "a configuration file of etcd",
        check: cli::fuzzing::etcd_config_file,
        samples: cli::fuzzing::etcd_config_file_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 1_000,
    },
    Target {
        name: "command_text",
        reads: "command lines, transactions, durations, addresses",
        check: cli::fuzzing::command_text,
        samples: cli::fuzzing::command_text_samples,
        is_summed: false,
        memory: SERVED,
        bytes_max: 500,
    },
    Target {
        name: "sim_plan",
        reads: "a plan of the simulator",
        check: sim_plan,
        samples: sim_plan_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 8_000,
    },
    Target {
        name: "lab_trace",
        reads: "the head of a trace that the lab's page is opened on",
        check: cli::fuzzing::lab_trace,
        samples: lab_trace_samples,
        is_summed: false,
        memory: DECODED,
        bytes_max: 8_000,
    },
];

/// A decoder with three faults, by which the search itself is tried: it takes a length at its word,
/// it panics at a word that nobody guesses at once, and it does not decode what it has encoded.
pub const BROKEN: Target = Target {
    name: "broken",
    reads: "nothing of ours: a decoder with known faults",
    check: broken,
    samples: || vec![vec![0, 4, b'a', b'b', b'c', b'd']],
    is_summed: false,
    memory: DECODED,
    bytes_max: 100,
};

fn broken(data: &[u8]) -> bool {
    let &[kind, length, ref rest @ ..] = data else { return false };
    match kind {
        0 => {
            let claimed = usize::from(length) << 16;
            let mut text: Vec<u8> = Vec::with_capacity(claimed);
            text.extend_from_slice(rest);
            text.len() == usize::from(length)
        }
        1 => {
            assert!(length != 200, "it does not survive the way");
            true
        }
        _ => {
            // A search that sees which lines are reached gets here letter by letter.
            let word = b"mad!";
            let alike = word.iter().zip(rest).take_while(|(own, its)| own == its).count();
            match alike {
                0 | 1 => false,
                2 => rest.len() > 9,
                3 => rest.len() > 12,
                _ => panic!("the word was guessed"),
            }
        }
    }
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain([&BROKEN]).find(|target| target.name == name)
}

/// What the program for libFuzzer does with an input: it ends the process by a panic where a promise
/// of the target is broken that `QUORATE_FUZZ_TARGET` names. Of [`BROKEN`] only the last fault can be
/// reached, the one that takes coverage to find.
///
/// # Panics
/// So, and if there is no such target.
pub fn under_libfuzzer(data: &[u8]) {
    static NAMED: LazyLock<&Target> = LazyLock::new(|| {
        let name =
            std::env::var("QUORATE_FUZZ_TARGET").expect("QUORATE_FUZZ_TARGET names a target");
        target(&name).expect("QUORATE_FUZZ_TARGET is a target")
    });
    let _verdict = if NAMED.name == BROKEN.name {
        BROKEN.run(&[&[2, 0], data].concat())
    } else {
        NAMED.run(data)
    };
}

impl Target {
    /// Whether the bytes are accepted. Longer ones than [`Target::bytes_max`] are cut.
    ///
    /// # Panics
    /// If a promise is broken, the one of memory included.
    #[must_use]
    pub fn run(&self, data: &[u8]) -> bool {
        let data = &data[..data.len().min(self.bytes_max)];
        let (accepted, peak_bytes) = memory::peak_bytes(|| (self.check)(data));
        let allowed = self.memory.base + self.memory.per_byte * data.len();
        assert!(
            peak_bytes <= allowed,
            "{}: {peak_bytes} bytes of memory for an input of {}, more than {allowed}",
            self.name,
            data.len(),
        );
        accepted
    }

    /// The same, with what is wrong as an error that says how to see it again.
    ///
    /// # Errors
    /// If a promise is broken.
    pub fn attempt(&self, data: &[u8]) -> Result<bool, String> {
        catch_unwind(AssertUnwindSafe(|| self.run(data))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let (name, hex) = (self.name, corpus::to_hex(data));
            let text = text.unwrap_or_default();
            format!("{text}\n  cargo run -p quorate-fuzz -- replay {name} {hex}")
        })
    }

    /// What a search begins with: what the encoders write, and the committed corpus.
    ///
    /// # Errors
    /// If the corpus cannot be read.
    pub fn seeds(&self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut seeds = (self.samples)();
        seeds.extend(corpus::read(self.name)?);
        Ok(seeds)
    }
}

/// What a store has promised, as stored. There is one encoding.
fn liveness_record(data: &[u8]) -> bool {
    let Ok(record) = store::liveness::Record::decode(data) else { return false };
    let again = record.encode();
    assert_eq!(store::liveness::Record::decode(&again), Ok(record), "a record survives the way");
    assert_eq!(again.len(), data.len());
    true
}

fn liveness_record_samples() -> Vec<Vec<u8>> {
    use std::time::Duration;
    use store::liveness::{Epoch, Record, Supported};
    let supported = |node: u64| {
        let promise = node.is_multiple_of(2).then(|| Duration::from_millis(node * 500 + 1));
        (store::NodeId(node), Supported { epoch: Epoch(node + 1), promise })
    };
    let record =
        |nodes| Record { asked: Epoch(3), supported: (1..=nodes).map(supported).collect() };
    [0, 1, 4].map(|nodes| record(nodes).encode()).to_vec()
}

/// A plan of the simulator, as JSON.
fn sim_plan(data: &[u8]) -> bool {
    let Ok(plan) = serde_json::from_slice::<sim::Plan>(data) else { return false };
    let text = serde_json::to_string(&plan).expect("a plan is plain data");
    let again = serde_json::from_str::<sim::Plan>(&text).expect("a plan reads as it is written");
    assert_eq!(again, plan, "a plan survives the way");
    true
}

fn lab_trace_samples() -> Vec<Vec<u8>> {
    let mut plan = sim::Plan::draw(1);
    plan.events.truncate(4);
    let outcome = sim::live(&plan, sim::Tell::Data);
    let short = |count| {
        let trace = sim::trace::File {
            format: sim::trace::FORMAT,
            plan: &plan,
            mutant: None,
            hash: format!("{:016x}", outcome.hash),
            broken: None,
            events: &outcome.seen[..count],
        };
        serde_json::to_vec(&trace).expect("a trace is plain data")
    };
    [0, 4, 20].map(short).to_vec()
}

fn sim_plan_samples() -> Vec<Vec<u8>> {
    let short = |seed| {
        let mut plan = sim::Plan::draw(seed);
        plan.events.truncate(12);
        serde_json::to_vec(&plan).expect("a plan is plain data")
    };
    [1, 2, 3].map(short).to_vec()
}
