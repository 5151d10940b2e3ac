//! What the adversary leaves, and who checks it.

use serde::{Deserialize, Serialize};

use super::configuration::{Configuration, Step, Subject};
use crate::process::NodeId;

/// A schedule after which nobody has decided, stage by stage, with the evidence that all was open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// From the first configuration: a schedule that decides 0, and one that decides 1.
    pub witnesses: [Vec<Step>; 2],
    /// The stages.
    pub stages: Vec<Stage>,
}

/// One stage of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Whose turn it was.
    pub node: NodeId,
    /// Its oldest message, which ends the stage.
    pub event: Step,
    /// What happened before it.
    pub before: Vec<Step>,
    /// From the end of the stage: a schedule that decides 0, and one that decides 1.
    pub witnesses: [Vec<Step>; 2],
}

/// Why a certificate does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is another process's turn.
    #[error("stage {0}: it is another process's turn")]
    Turn(usize),
    /// The process has an older message.
    #[error("stage {0}: the event is not the oldest message of the process")]
    NotOldest(usize),
    /// The event happens before the end of the stage.
    #[error("stage {0}: the event comes too early")]
    Early(usize),
    /// A step cannot happen.
    #[error("stage {0}: a step cannot happen")]
    Impossible(usize),
    /// Somebody has decided.
    #[error("stage {0}: somebody has decided")]
    Decided(usize),
    /// A witness does not decide what it should.
    #[error("stage {stage}: the witness for {value} does not decide it")]
    Witness {
        /// The stage, counted from 1; 0 is the first configuration.
        stage: usize,
        /// The value.
        value: u64,
    },
}

/// What a certificate that holds shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Stages.
    pub stages: usize,
    /// Steps of the schedule, without the witnesses.
    pub steps: usize,
    /// Steps of each process.
    pub steps_of_each: Vec<u64>,
    /// Messages that were sent in it.
    pub sent: u64,
    /// Messages that were not delivered.
    pub undelivered: usize,
    /// The last stage at whose end every message was delivered that is by now: all that were sent before it.
    pub delivered_up_to_stage: usize,
    /// The digest of the last configuration.
    pub digest: String,
}

/// Replays a certificate, and believes nothing.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify<P: Subject>(
    initial: &Configuration<P>,
    certificate: &Certificate,
    value: impl Fn(&P::Output) -> u64,
) -> Result<Verified, Fault> {
    let mut configuration = initial.clone();
    let mut steps = 0;
    check_witnesses(&configuration, &certificate.witnesses, 0, &value)?;
    // What waited at the beginning of each stage.
    let mut waiting: Vec<Vec<Step>> = Vec::new();
    for (number, stage) in certificate.stages.iter().enumerate() {
        waiting.push(inboxes(&configuration));
        if stage.node != NodeId(number % configuration.len()) || stage.event.node() != stage.node {
            return Err(Fault::Turn(number));
        }
        // Who has a message must be given the oldest; who has none may take a step without one.
        let oldest = configuration.oldest(stage.node);
        if oldest.is_some_and(|oldest| oldest != stage.event) {
            return Err(Fault::NotOldest(number));
        }
        if stage.before.contains(&stage.event) {
            return Err(Fault::Early(number));
        }
        for &step in stage.before.iter().chain([&stage.event]) {
            if !configuration.apply(step) {
                return Err(Fault::Impossible(number));
            }
            steps += 1;
            if !configuration.decided().is_empty() {
                return Err(Fault::Decided(number));
            }
        }
        check_witnesses(&configuration, &stage.witnesses, number + 1, &value)?;
    }
    let left = inboxes(&configuration);
    let delivered = |before: &Vec<Step>| !before.iter().any(|step| left.contains(step));
    let delivered_up_to_stage = waiting.iter().take_while(|before| delivered(before)).count();
    Ok(Verified {
        stages: certificate.stages.len(),
        steps,
        steps_of_each: configuration.steps(),
        sent: configuration.sent(),
        undelivered: configuration.undelivered(),
        delivered_up_to_stage,
        digest: format!("{:016x}", configuration.digest()),
    })
}

fn inboxes<P: Subject>(configuration: &Configuration<P>) -> Vec<Step> {
    NodeId::all(configuration.len()).flat_map(|id| configuration.inbox(id)).collect()
}

fn check_witnesses<P: Subject>(
    from: &Configuration<P>,
    witnesses: &[Vec<Step>; 2],
    stage: usize,
    value: &impl Fn(&P::Output) -> u64,
) -> Result<(), Fault> {
    for (wanted, witness) in [0, 1].into_iter().zip(witnesses) {
        let mut configuration = from.clone();
        let possible = configuration.apply_all(witness);
        let decides = configuration.decided().values().any(|output| value(output) == wanted);
        if !possible || !decides {
            return Err(Fault::Witness { stage, value: wanted });
        }
    }
    Ok(())
}
