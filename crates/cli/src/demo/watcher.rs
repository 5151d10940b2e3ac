//! The load, and the questions to every member.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Client, Config, Error, Prefer, Put};
use proto::etcdserverpb as pb;
use tokio::time::Instant;

use super::members::{Members, Process, endpoint};
use super::view::{Look, Row};
use crate::exit::{Exit, Result};

/// Between two questions to the same member.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A member that does not answer within this is shown as silent.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// A write that is not answered within this counts as unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two writes of a writer: a demo should not heat the room.
const WRITE_EVERY: Duration = Duration::from_millis(2);
/// Different keys of the load.
const KEYS: u64 = 1000;

/// What the writers have seen.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
}

/// An answer of a member, and when it came.
type Answer = Option<(Instant, pb::StatusResponse)>;

/// The running tasks; they end with the runtime.
pub(crate) struct Watcher {
    answers: Arc<Mutex<Vec<Answer>>>,
    counts: Arc<Counts>,
    started: Instant,
}

impl Watcher {
    /// Starts asking every endpoint, and `writers` writers.
    ///
    /// # Errors
    /// Never for endpoints of [`Members`].
    pub(crate) fn start(endpoints: &[String], writers: usize) -> Result<Self> {
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::new(Mutex::new(vec![None; endpoints.len()]));
        let counts = Arc::new(Counts::default());
        let started = Instant::now();
        let mut config = Config::new(endpoints).map_err(Exit::failed)?;
        config.prefer = Prefer::Leader;
        config.request_timeout = WRITE_TIMEOUT;
        config.connect_timeout = ASK_TIMEOUT;
        let writer = Client::new(config.clone());
        for number in 0..writers {
            tokio::spawn(write(writer.clone(), number as u64, Arc::clone(&counts)));
        }
        config.request_timeout = ASK_TIMEOUT;
        let asking = Client::new(config);
        for (index, text) in endpoints.iter().enumerate() {
            let one = asking.only(&endpoint(text)?);
            tokio::spawn(ask(one, index, started, Arc::clone(&answers)));
        }
        Ok(Self { answers, counts, started })
    }

    /// What is known now.
    pub(crate) fn look(&self, members: &Members, chosen: usize) -> Look {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        let fresh = |answer: Answer| {
            answer.filter(|(at, _)| now - *at < ASK_TIMEOUT + ASK_EVERY).map(|(_, status)| status)
        };
        let rows = members
            .processes()
            .zip(answers)
            .map(|((name, process), answer)| Row {
                name: name.to_owned(),
                process: process.clone(),
                status: fresh(answer).filter(|_| *process == Process::Running),
            })
            .collect();
        Look {
            at: now,
            running_for: now - self.started,
            chosen,
            rows,
            endpoints: members.endpoints(),
            written: self.counts.written.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            unknown: self.counts.unknown.load(Ordering::Relaxed),
        }
    }
}

/// Asks one member again and again, at the same moments as the others are asked, so that their
/// answers can be compared.
async fn ask(one: Client, index: usize, started: Instant, answers: Arc<Mutex<Vec<Answer>>>) {
    let mut moments = tokio::time::interval_at(started, ASK_EVERY);
    moments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        moments.tick().await;
        if let Ok(Ok(status)) = tokio::time::timeout(ASK_TIMEOUT, one.status()).await {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers[index] = Some((Instant::now(), status));
        }
    }
}

async fn write(client: Client, writer: u64, counts: Arc<Counts>) {
    for turn in 0_u64.. {
        let key = format!("demo/{:03}", (turn * 7 + writer) % KEYS);
        let count = match client.put(Put::new(key, turn.to_string())).await {
            Ok(_) => &counts.written,
            Err(Error::Unknown(_) | Error::Malformed(_)) => &counts.unknown,
            Err(_) => &counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(WRITE_EVERY).await;
    }
}
