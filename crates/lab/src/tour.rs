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
         of the two cases. Watch it obey the wrong one, and the rule ic2 turn red.",
    ),
    step(
        "Four can",
        "generals-oral",
        "four-and-the-commander",
        "With 3m + 1 generals m traitors are borne. This time the commander himself lies; the lieutenants tell each other \
         what they heard and obey the majority. Watch all three decide the same. It took nine messages for one order: \
         agreement among liars is dear.",
    ),
    step(
        "Three can, if they sign",
        "generals-signed",
        "three-and-the-commander",
        "A signature cannot be forged: who signs two orders is caught. m + 2 generals are enough now. Watch the two \
         lieutenants show each other what the commander has signed, and both retreat.",
    ),
    step(
        "A service among liars: PBFT",
        "pbft",
        "equivocating-primary",
        "Castro and Liskov made of that a service that lasts. The primary of 3f + 1 replicas says one thing to some and \
         another to others. Three phases: what is prepared at one loyal replica is prepared differently at none, and what \
         is committed survives the next view. The client waits for f + 1 equal replies. Watch n0 get nowhere with \
         its two stories, and n1 take over in view 1. From here on nobody lies, unless we say so; they only crash, and \
         messages are late or lost.",
    ),
    step(
        "Nobody can promise to decide",
        "paxos",
        "duel",
        "Fischer, Lynch and Paterson, 1985: in an asynchronous system no deterministic protocol that bears one crash always \
         decides. The adversary only chooses which message arrives next. It lets everybody take steps and every message \
         arrive, and still nothing is decided. What you see is a finite beginning of such a run: wait as \
         long as you like for a decision beside one of the names.",
    )
    .shows(Shows::Flp),
    step(
        "A coin gets out of it",
        "ben-or",
        "split",
        "Ben-Or, 1983: who sees no majority tosses a coin. No schedule can be unlucky for ever; agreement never depends on \
         luck, only the time does. Two begin with 0 and two with 1: watch them toss, until a round in which the coins are \
         alike enough.",
    ),
    step(
        "Paxos: the highest ballot, not the commonest value",
        "paxos",
        "highest-not-commonest",
        "Paxos is safe always and decides when things are calm. Its heart: a new proposer asks a majority what they have \
         accepted, and takes over the value of the highest ballot. Here B is chosen, and n0 asks: two of the three promises name A, which \
         would undo it; one names B, in a higher ballot. Watch n0 propose B.",
    ),
    step(
        "The pain of Paxos",
        "paxos",
        "duel",
        "Two proposers overtake each other, and nothing is ever chosen: watch the ballots rise. That is the theorem again, \
         in a friendly suit. So \
         there is a leader; and who leads is something that may be wrong without harm.",
    ),
    step(
        "A log: Multi-Paxos",
        "multi-paxos",
        "steady-state",
        "One value is not enough, a log of them is a machine. The leader asks once for all slots, and then each write takes \
         one round trip: watch Prepare go out once, and only Accept after it. A new leader has to fill the gaps of the old \
         one.",
    ),
    step(
        "In the order of the primary: Zab",
        "zab",
        "dies-before-commit",
        "Zookeeper sends changes of state, which make sense only in their order. Zab keeps the order of each primary, and \
         makes a new one find out and spread what a quorum has before it says anything itself. Watch the primary die with a \
         proposal that n0 has and n1 has not: the next primary keeps it.",
    ),
    step(
        "Raft elects",
        "raft",
        "election",
        "The Raft that you see is the one that the store runs. n0 leads and dies; a follower that hears nothing for long \
         enough asks for votes in the next term. Who has less of the log than a voter gets no vote. Watch the term \
         rise beside the names.",
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
         majority and is overwritten all the same. The leader of this broken Raft counts it as committed. Watch n4 come to \
         lead without it. Figure 8 of the paper is why Raft commits entries of its own term only.",
    )
    .broken(&["commit-old-term"], &["leader-completeness"]),
    step(
        "In-sync replicas, and where not to cut",
        "isr",
        "watermark-is-no-truncation-point",
        "Kafka replicates to all that are in sync, and keeps who they are in a service of its own: f + 1 replicas bear f \
         failures, and the slowest of them sets the pace. A follower that comes back has to cut its log where the leader's \
         began to differ. Not at its high watermark: what is above may be committed already. All goes well here; tick \
         truncate-by-high-watermark under Break the protocol, play it again, and v2 is lost.",
    ),
    step(
        "The same, pulled: KRaft",
        "kraft",
        "pulled",
        "Raft, but the followers fetch. Watch who speaks first: a follower asks, and its question waits at the leader until \
         there is something to answer. The leader learns from what they ask for what they have, and everything that the \
         paper proves still has to hold, and does.",
    ),
    step(
        "What distance costs",
        "raft",
        "replication",
        "A write takes the round trip from the leader to the nearest quorum, wherever the others are. No protocol gets \
         below that; where the leader is, is up to you. The plot below has both: what was predicted, and what a run took.",
    )
    .shows(Shows::Tax),
    step(
        "Clocks: commit-wait",
        "commit-wait",
        "two-clocks",
        "If clocks say how wrong they may be, waiting twice as long as that before an answer makes timestamps respect \
         the order in which clients saw things. While twice the uncertainty is below the round trip of a quorum it costs nothing. Watch n0, whose \
         clock is fast, hold its answer back; n1's clock is slow, and its timestamp is the higher one all the same.",
    ),
    step(
        "A lock is not enough",
        "lock",
        "paused-holder",
        "Who holds a lock may stop for longer than his lease and not know it. The token that came with the lock does: \
         storage that has seen a newer one refuses the older. Watch n2 stop, n3 get the lock, and n2 wake and be refused.",
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
