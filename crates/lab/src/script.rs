//! What is done to a run, written down as data.
//!
//! A script is the weather (how the network behaves by itself) and a list of acts: what clients ask for, and
//! what breaks, each at a time or after a number of events. It is generated from a seed ([`crate::swarm`]) or
//! written by hand, on the page or in a test; it can be kept, sent, cut down and run again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::process::NodeId;

/// Acts in one script.
pub const ACTS_MAX: usize = 10_000;
/// Events in one run.
pub const EVENTS_MAX: u64 = 1_000_000;

/// Everything that is done to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How the network behaves by itself.
    pub weather: Weather,
    /// What is done. Of acts that are due at once, the one that stands first comes first.
    pub acts: Vec<Act>,
    /// When the run ends, if nothing is left to happen before.
    pub end: End,
    /// From this time on nothing is broken and the weather is calm, so that what must happen in the end may
    /// be asked for; `None` if that is not promised.
    #[serde(default)]
    pub calm_from_us: Option<u64>,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// After so many events.
    pub events: u64,
    /// At this time.
    pub at_us: u64,
}

/// How the network behaves by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weather {
    /// The shortest way of a message, in microseconds.
    pub delay_us_min: u64,
    /// The longest way of a message that is not slow.
    pub delay_us_max: u64,
    /// How many of a thousand messages are slow: they take up to ten times as long.
    pub slow_per_mille: u64,
    /// How many of a thousand are lost.
    pub drop_per_mille: u64,
    /// How many of a thousand arrive twice.
    pub duplicate_per_mille: u64,
    /// Whether messages of one link keep their order, as on one TCP connection.
    pub in_order: bool,
    /// Where the nodes are; adds the way between two places to the delay of each message.
    #[serde(default)]
    pub map: Map,
}

impl Weather {
    /// Nothing is lost, doubled or slow; a message takes one to two milliseconds.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            delay_us_min: 1_000,
            delay_us_max: 2_000,
            slow_per_mille: 0,
            drop_per_mille: 0,
            duplicate_per_mille: 0,
            in_order: false,
            map: Map::Room,
        }
    }

    /// Every message takes exactly one millisecond: rounds can be read off the clock.
    #[must_use]
    pub fn lockstep() -> Self {
        Self { delay_us_min: 1_000, delay_us_max: 1_000, in_order: true, ..Self::calm() }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages take {} to {} us", self.delay_us_min, self.delay_us_max)?;
        let rates = [
            (self.slow_per_mille, "are slow"),
            (self.drop_per_mille, "are lost"),
            (self.duplicate_per_mille, "arrive twice"),
        ];
        for (rate, what) in rates.into_iter().filter(|(rate, _)| *rate > 0) {
            write!(f, ", {rate} of a thousand {what}")?;
        }
        if self.in_order { f.write_str(", in order") } else { Ok(()) }
    }
}

/// Where the nodes are. Round trips are those of public clouds, rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Map {
    /// Nowhere in particular: the weather's delay is all.
    #[default]
    Room,
    /// Three zones of one region: 1 ms there and back between zones.
    Region,
    /// One continent: 12 to 65 ms there and back.
    Continent,
    /// The globe: 65 to 250 ms there and back.
    Globe,
    /// Milliseconds there and back, by places; a node is at its number modulo the places.
    RoundTripsMs(Vec<Vec<u64>>),
}

/// Virginia, and so on: round trips in milliseconds.
const CONTINENT: (&[&str], &[&[u64]]) = (
    &["Virginia", "Ohio", "Oregon", "Montreal", "California"],
    &[
        &[0, 12, 65, 15, 62],
        &[12, 0, 50, 25, 50],
        &[65, 50, 0, 60, 22],
        &[15, 25, 60, 0, 75],
        &[62, 50, 22, 75, 0],
    ],
);

/// The same of the globe.
const GLOBE: (&[&str], &[&[u64]]) = (
    &["Virginia", "Ireland", "Tokyo", "Oregon", "Sydney", "Sao Paulo", "Mumbai"],
    &[
        &[0, 67, 145, 65, 200, 115, 185],
        &[67, 0, 200, 120, 250, 175, 120],
        &[145, 200, 0, 97, 105, 250, 120],
        &[65, 120, 97, 0, 140, 175, 220],
        &[200, 250, 105, 140, 0, 310, 150],
        &[115, 175, 250, 175, 310, 0, 300],
        &[185, 120, 120, 220, 150, 300, 0],
    ],
);

impl Map {
    /// One way between two nodes, in microseconds.
    #[must_use]
    pub fn one_way_us(&self, from: NodeId, to: NodeId) -> u64 {
        let table = |table: &[&[u64]]| table[from.0 % table.len()][to.0 % table.len()] * 500;
        match self {
            Self::Room => 0,
            Self::Region => 500 * u64::from(from.0 % 3 != to.0 % 3),
            Self::Continent => table(CONTINENT.1),
            Self::Globe => table(GLOBE.1),
            Self::RoundTripsMs(rows) => rows
                .get(from.0 % rows.len().max(1))
                .and_then(|row| row.get(to.0 % rows.len().max(1)))
                .map_or(0, |ms| ms.saturating_mul(500)),
        }
    }

    /// Where a node is, by the name of the place.
    #[must_use]
    pub fn place(&self, node: NodeId) -> String {
        let named = |names: &[&str]| names[node.0 % names.len()].to_owned();
        match self {
            Self::Room => "here".to_owned(),
            Self::Region => named(&["zone a", "zone b", "zone c"]),
            Self::Continent => named(CONTINENT.0),
            Self::Globe => named(GLOBE.0),
            Self::RoundTripsMs(rows) => format!("place {}", node.0 % rows.len().max(1)),
        }
    }
}

/// When an act is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At this time, in microseconds, before what happens by itself then.
    Us(u64),
    /// After so many events.
    Event(u64),
}

/// Something that is done to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub when: When,
    /// What.
    pub what: What,
}

impl Act {
    /// At a time in milliseconds: most scripts by hand are made of these.
    #[must_use]
    pub fn at_ms(ms: u64, what: What) -> Self {
        Self { when: When::Us(ms * 1000), what }
    }

    /// After so many events.
    #[must_use]
    pub fn after_event(events: u64, what: What) -> Self {
        Self { when: When::Event(events), what }
    }
}

/// What can be done to a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A client asks a node for something: one of the protocol's operations.
    Client {
        /// Whom.
        node: NodeId,
        /// The operation by name.
        op: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<u64>,
    },
    /// Nothing passes from one node to the other any more; the other way it does.
    Cut {
        /// From.
        from: NodeId,
        /// To.
        to: NodeId,
    },
    /// That link works again.
    Mend {
        /// From.
        from: NodeId,
        /// To.
        to: NodeId,
    },
    /// Nothing passes between these and the others, in either direction.
    Split(Vec<NodeId>),
    /// All links work again.
    Heal,
    /// The process is gone, and what it had not persisted.
    Crash(NodeId),
    /// It comes again; what it had persisted is there.
    Restart(NodeId),
    /// It comes again with an empty disk.
    RestartBlank(NodeId),
    /// It stops in the middle of everything and notices nothing: a long garbage collection.
    Pause(NodeId),
    /// It goes on. What was meant for it meanwhile comes at once.
    Resume(NodeId),
    /// Its clocks change.
    Clock {
        /// Whose.
        node: NodeId,
        /// How far its wall clock is set wrong, in microseconds.
        offset_us: i64,
        /// How much too fast it runs, in millionths.
        drift_ppm: i64,
    },
    /// It turns traitor, or loyal again.
    Traitor {
        /// Who.
        node: NodeId,
        /// How it behaves from now on.
        conduct: Conduct,
    },
    /// The weather changes.
    Weather(Weather),
    /// Its next timer runs out at once.
    Expire(NodeId),
    /// This message, by its number, arrives at once.
    Deliver(u64),
    /// This message, by its number, is lost.
    Lose(u64),
    /// This message, by its number, is held until it is delivered or lost by an act.
    Hold(u64),
}

/// How a traitor behaves. It runs the protocol's code; what it lies about is what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conduct {
    /// Not at all.
    Loyal,
    /// It says nothing.
    Silent,
    /// It lies in so many of a thousand messages, by chance.
    Lies {
        /// How many.
        per_mille: u64,
    },
    /// A lie by number for each message that it sends, in order; 0 is the truth, and so is what comes after
    /// the last. [`crate::protocol::Protocol::forge`] says what the numbers mean.
    Script(Vec<u64>),
}
