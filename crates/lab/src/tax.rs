//! What distance costs: how long a write takes, by where the members are and where the leader is.
//!
//! A leader answers when a majority has the entry, itself among them. So a write takes the round trip to the
//! farthest of the nearest members that make up a majority with the leader: that is predicted. And it is
//! measured: the store's Raft runs with the messages taking their way between these places and nothing else
//! taking any time.

use serde::{Deserialize, Serialize};

use crate::facade::{Run, RunError, Subject as _, Tell};
use crate::process::NodeId;
use crate::protocols::raft::Raft;
use crate::script::{Act, End, Map, Script, Weather, What};

/// How many members are looked at.
pub const SIZES: &[usize] = &[3, 5, 7];

/// Where they are.
pub const MAPS: &[(&str, Map)] =
    &[("region", Map::Region), ("continent", Map::Continent), ("globe", Map::Globe)];

/// Writes that are measured.
const WRITES: u64 = 9;

/// A cluster with its leader in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tax {
    /// The map, by its name.
    pub map: String,
    /// How many members.
    pub n: usize,
    /// The member that leads.
    pub leader: NodeId,
    /// Where that is.
    pub place: String,
    /// The round trip to the nearest quorum, in microseconds.
    pub predicted_us: u64,
    /// How long a write took, in microseconds: the median.
    pub simulated_us: u64,
}

/// Every map and size, with the leader in every place.
///
/// # Errors
/// If the simulation cannot be run.
pub fn all() -> Result<Vec<Tax>, RunError> {
    let sizes = MAPS.iter().flat_map(|map| SIZES.iter().map(move |&n| (map, n)));
    let placements = sizes.flat_map(|(map, n)| NodeId::all(n).map(move |leader| (map, n, leader)));
    placements.map(|((name, map), n, leader)| tax(name, map, n, leader)).collect()
}

/// One cluster.
///
/// # Errors
/// If the simulation cannot be run.
pub fn tax(name: &str, map: &Map, n: usize, leader: NodeId) -> Result<Tax, RunError> {
    Ok(Tax {
        map: name.to_owned(),
        n,
        leader,
        place: map.place(leader),
        predicted_us: predicted_us(map, n, leader),
        simulated_us: simulated_us(map, n, leader)?,
    })
}

/// The round trip to the nearest quorum: of the members in the order of their distance from the leader, which
/// is the first, the one with which they are a majority.
#[must_use]
pub fn predicted_us(map: &Map, n: usize, leader: NodeId) -> u64 {
    let round_trip = |peer| map.one_way_us(leader, peer) + map.one_way_us(peer, leader);
    let mut round_trips: Vec<u64> = NodeId::all(n).map(round_trip).collect();
    round_trips.sort_unstable();
    round_trips[n / 2]
}

fn simulated_us(map: &Map, n: usize, leader: NodeId) -> Result<u64, RunError> {
    let weather =
        Weather { delay_us_min: 1, delay_us_max: 1, map: map.clone(), ..Weather::lockstep() };
    let write = |nth| What::Client { node: leader, op: "write".to_owned(), args: vec![nth] };
    let mut acts = vec![Act::at_ms(1, What::Expire(leader))];
    acts.extend((0..WRITES).map(|nth| Act::at_ms(2_000 + 500 * nth, write(nth))));
    let end = End { events: 20_000, at_us: 2_000_000 + 500_000 * (WRITES + 1) };
    let script = Script { weather, acts, end, calm_from_us: None };
    let run = Run::by_hand("raft", n, script).with("write_us", 0).with("election_ms", 5_000);
    let outcome = Raft.run(&run, Tell::End)?;
    let mut took: Vec<u64> = outcome.tally.replied.values().map(|reply| reply.after_us).collect();
    took.sort_unstable();
    Ok(took.get(took.len() / 2).copied().unwrap_or(0))
}

/// The plot, as an SVG that a browser and a README show: a bar for what was measured, a line for what was
/// predicted.
#[must_use]
pub fn plot(taxes: &[Tax]) -> String {
    const ROW: usize = 18;
    const LEFT: usize = 190;
    const WIDTH: u64 = 420;
    let longest_us =
        taxes.iter().map(|tax| tax.simulated_us.max(tax.predicted_us)).max().unwrap_or(1);
    let x = |us: u64| LEFT as u64 + us * WIDTH / longest_us.max(1);
    let mut rows = String::new();
    let mut y = 30;
    let mut group = None;
    for tax in taxes {
        if group != Some((&tax.map, tax.n)) {
            group = Some((&tax.map, tax.n));
            y += ROW;
            let title = format!("{} members, {}", tax.n, where_words(&tax.map));
            rows += &format!("<text x=\"8\" y=\"{}\" class=\"g\">{title}</text>\n", y + 12);
            y += ROW;
        }
        let (ms, mark) = (milliseconds(tax.simulated_us), x(tax.predicted_us));
        rows += &format!(
            "<text x=\"{}\" y=\"{}\" class=\"l\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\
             <path d=\"M{mark} {}v{}\"/><text x=\"{}\" y=\"{}\">{ms}</text>\n",
            LEFT - 8,
            y + 12,
            tax.place,
            y + 2,
            x(tax.simulated_us) - LEFT as u64,
            ROW - 6,
            y,
            ROW - 2,
            x(tax.simulated_us.max(tax.predicted_us)) + 6,
            y + 12,
        );
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" role=\"img\" \
         aria-label=\"How long a write takes, by the place of the leader\">\n<style>\
         svg{{background:#fff}}text{{font:12px system-ui,sans-serif;fill:#1b1f24}}.g{{font-weight:600}}\
         .l{{text-anchor:end}}rect{{fill:#3b7dd8}}path{{stroke:#c2410c;stroke-width:2}}\
         @media(prefers-color-scheme:dark){{svg{{background:#14171c}}text{{fill:#e6e8eb}}rect{{fill:#5b9bf0}}\
         path{{stroke:#fb923c}}}}</style>\n\
         <text x=\"8\" y=\"20\">A write, by the place of the leader: bar, simulated; line, the round trip to the \
         nearest quorum</text>\n{rows}</svg>\n",
        height = y + ROW,
    )
}

fn where_words(map: &str) -> &'static str {
    match map {
        "region" => "three zones of one region",
        "continent" => "one continent",
        _ => "the globe",
    }
}

/// With one decimal.
#[must_use]
pub fn milliseconds(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}
