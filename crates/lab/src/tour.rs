//! The story that the lab tells, from the generals to what needs no consensus: lessons of the protocols, in the
//! order in which they are best seen.

use serde::Serialize;

use crate::facade::Run;
use crate::registry;

/// What a step shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// A run.
    Run,
    /// The adversary of Fischer, Lynch and Paterson at work.
    Flp,
    /// The plot of [`crate::tax`].
    Tax,
}

/// A step as it is written down here.
struct Written {
    title: &'static str,
    text: &'static str,
    /// The protocol, one of its lessons, how it is broken, and the rule that is waited for.
    lesson: (&'static str, &'static str, &'static [&'static str], &'static [&'static str]),
    shows: Shows,
}

/// A step of the tour.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// For a heading.
    pub title: &'static str,
    /// What to see in it.
    pub text: &'static str,
    /// The protocol, by its name.
    pub protocol: &'static str,
    /// What it shows.
    pub shows: Shows,
    /// The run, if it shows one.
    pub run: Option<Run>,
}

const fn step(
    title: &'static str,
    protocol: &'static str,
    lesson: &'static str,
    text: &'static str,
) -> Written {
    Written { title, text, lesson: (protocol, lesson, &[], &[]), shows: Shows::Run }
}

impl Written {
    const fn broken(
        mut self,
        variants: &'static [&'static str],
        rules: &'static [&'static str],
    ) -> Self {
        self.lesson.2 = variants;
        self.lesson.3 = rules;
        self
    }

    const fn shows(mut self, shows: Shows) -> Self {
        self.shows = shows;
        self
    }
}

const TOUR: &[Written] = &[
    step(
        "Three cannot agree if one lies",
        "generals-oral",
        "three-and-one",
        "Everything begins with two questions: who may fail, and how? Here one of three may lie. n1 hears attack from the \
         commander and retreat from n2, and cannot know which of the two is the traitor. Whatever it does is wrong in one \
         of the two cases.",
    ),
    step(
        "Four can",
        "generals-oral",
        "four-and-the-commander",
        "With 3m + 1 generals m traitors are borne. This time the commander himself lies; the lieutenants tell each other \
         what they heard and obey the majority. Count the messages: agreement among liars is dear.",
    ),
    step(
        "Three can, if they sign",
        "generals-signed",
        "three-and-the-commander",
        "A signature cannot be forged: who signs two orders is caught. m + 2 generals are enough now. From here on nobody \
         lies, unless we say so; they only crash, and messages are late or lost.",
    ),
    step(
        "A service among liars: PBFT",
        "pbft",
        "equivocating-primary",
        "Castro and Liskov made of that a service that lasts. The primary of 3f + 1 replicas says one thing to some and \
         another to others. Three phases: what is prepared at one loyal replica is prepared differently at none, and what \
         is committed survives the next view. The client waits for f + 1 equal replies.",
    ),
    step(
        "Nobody can promise to decide",
        "paxos",
        "duel",
        "Fischer, Lynch and Paterson, 1985: in an asynchronous system no deterministic protocol that bears one crash always \
         decides. The adversary only chooses which message arrives next. It lets everybody take steps and every message \
         arrive, and still nothing is decided. What you see is a finite beginning of such a run.",
    )
    .shows(Shows::Flp),
    step(
        "A coin gets out of it",
        "ben-or",
        "split",
        "Ben-Or, 1983: who sees no majority tosses a coin. No schedule can be unlucky for ever; agreement never depends on \
         luck, only the time does.",
    ),
    step(
        "Paxos: the highest ballot, not the commonest value",
        "paxos",
        "highest-not-commonest",
        "Paxos is safe always and decides when things are calm. Its heart: a new proposer asks a majority what they have \
         accepted, and takes over the value of the highest ballot. Two of the three answers name another value, and would \
         undo what is chosen.",
    ),
    step(
        "The pain of Paxos",
        "paxos",
        "duel",
        "Two proposers overtake each other, and nothing is ever chosen: that is the theorem again, in a friendly suit. So \
         there is a leader; and who leads is something that may be wrong without harm.",
    ),
    step(
        "A log: Multi-Paxos",
        "multi-paxos",
        "steady-state",
        "One value is not enough, a log of them is a machine. The leader asks once for all slots, and then each write takes \
         one round trip. A new leader has to fill the gaps of the old one.",
    ),
    step(
        "In the order of the primary: Zab",
        "zab",
        "dies-before-commit",
        "Zookeeper sends changes of state, which make sense only in their order. Zab keeps the order of each primary, and \
         makes a new one find out and spread what a quorum has before it says anything itself.",
    ),
    step(
        "Raft elects",
        "raft",
        "election",
        "The Raft that you see is the one that the store runs. n0 leads and dies; a follower that hears nothing for long \
         enough asks for votes in the next term. Who has less of the log than a voter gets no vote.",
    ),
    step(
        "Raft replicates",
        "raft",
        "replication",
        "The leader appends, the followers copy, and what a majority has is committed. n2 is away and nobody waits for it; \
         when it is back, it is given what it missed.",
    ),
    step(
        "What majority overlap does not give",
        "raft",
        "figure-8",
        "Any two majorities have a member in common. That alone is not safety: here an entry of an old term lies on a \
         majority and is overwritten all the same. The leader of this broken Raft counts it as committed. Figure 8 of the \
         paper is why Raft commits entries of its own term only.",
    )
    .broken(&["commit-old-term"], &["leader-completeness"]),
    step(
        "In-sync replicas, and where not to cut",
        "isr",
        "watermark-is-no-truncation-point",
        "Kafka replicates to all that are in sync, and keeps who they are in a service of its own: f + 1 replicas bear f \
         failures, and the slowest of them sets the pace. A follower that comes back has to cut its log where the leader's \
         began to differ. Not at its high watermark: what is above may be committed already.",
    ),
    step(
        "The same, pulled: KRaft",
        "kraft",
        "pulled",
        "Raft, but the followers fetch. The leader learns from what they ask for what they have, and everything that the \
         paper proves still has to hold, and does.",
    ),
    step(
        "What distance costs",
        "raft",
        "replication",
        "A write takes the round trip from the leader to the nearest quorum, wherever the others are. No protocol gets \
         below that; where the leader is, is up to you.",
    )
    .shows(Shows::Tax),
    step(
        "Clocks: commit-wait",
        "commit-wait",
        "two-clocks",
        "If clocks say how wrong they may be, waiting as long as that before an answer makes timestamps respect the order \
         in which clients saw things. While the uncertainty is below the round trip of a quorum it costs nothing.",
    ),
    step(
        "A lock is not enough",
        "lock",
        "paused-holder",
        "Who holds a lock may stop for longer than his lease and not know it. The token that came with the lock does: \
         storage that has seen a newer one refuses the older.",
    ),
    step(
        "When consensus is overkill",
        "gossip",
        "acknowledged-and-lost",
        "A cache wants to be fast and to lose little, not nothing. A master answers before its replica has heard of the \
         write, and dies: the write is gone, exactly where the protocol says that it may be. If that is what you need, do \
         not pay for agreement.",
    ),
];

/// The whole tour.
#[must_use]
pub fn tour() -> Vec<Step> {
    TOUR.iter().map(Written::step).collect()
}

impl Written {
    fn step(&self) -> Step {
        let (protocol, lesson, variants, rules) = self.lesson;
        let subject = registry::find(protocol).ok();
        let found = subject
            .and_then(|subject| subject.about().lessons.iter().find(|known| known.name == lesson));
        let run = found.map(|found| {
            let run = variants.iter().fold((found.run)(), |run, variant| run.broken(variant));
            rules.iter().fold(run, |run, rule| run.watching(rule))
        });
        let run = run.filter(|_| self.shows == Shows::Run);
        Step { title: self.title, text: self.text, protocol, shows: self.shows, run }
    }
}
