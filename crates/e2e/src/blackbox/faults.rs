//! Each fault: how it is done, how it is known to have happened, how it ends.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::field::Field;
use super::member::Syncs;
use super::net::{self, Slot};
use super::schedule::Kind;

/// What a member says that has found rot in what it was to read.
const FOUND_OUT: &str = "state engine corrupted";
const SECOND_NS: i64 = 1_000_000_000;
/// How long a member may go on after a sync of its log has failed.
const EXIT_AFTER_SYNC_ERROR: Duration = Duration::from_secs(20);
/// How often the data of a member with rotten files are compared with another's until they are taken for different.
const COMPARISONS: u32 = 40;
/// How long such a member is left alone first.
const ROTTEN_SECONDS: u64 = 6;

impl Field {
    /// One step, from the first harm to full recovery.
    ///
    /// # Errors
    /// When it did not happen as demanded, or the cluster did not come back.
    pub async fn step(&mut self, kind: Kind) -> Result<()> {
        // Some steps stand in bad weather.
        let late = kind != Kind::Delay && self.dice.one_in(4);
        if late {
            self.delay_all(120);
        }
        match kind {
            Kind::Partition => self.partition().await?,
            Kind::OneWay => self.one_way().await?,
            Kind::Swallow => self.swallow().await?,
            Kind::Delay => self.delay().await?,
            Kind::Cut => self.cut().await?,
            Kind::Kill => self.kill().await?,
            Kind::Pause => self.pause().await?,
            Kind::PowerLoss => self.power_loss().await?,
            Kind::FullDisk => self.full_disk().await?,
            Kind::HungDisk => self.hung_disk().await?,
            Kind::SyncError => self.sync_error().await?,
            Kind::BitRot => self.bit_rot().await?,
            Kind::ClockJump => self.clock_jump().await?,
            Kind::MoveLeader => self.move_leader().await?,
            Kind::Replace => {
                let slots = self.slots();
                let victim = self.dice.pick(&slots);
                self.replace(victim).await?;
            }
            Kind::Snapshot => self.snapshot().await?,
            Kind::Compact => self.compact().await?,
        }
        if late {
            self.proxies.heal();
        }
        self.recover().await.with_context(|| format!("after {kind}"))
    }

    /// A time to keep something up: from `low` to `high` seconds.
    fn span(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low * 1_000 + self.dice.below((high - low) * 1_000 + 1))
    }

    /// Keeps a fault up for a while; in half of the cases something is done to the cluster meanwhile, if it can be.
    async fn hold(&mut self, low: u64, high: u64) -> Result<()> {
        let span = self.span(low, high);
        let until = Instant::now() + span;
        sleep(span / 3).await;
        if self.dice.one_in(2) {
            // In the middle of a fault both may well be refused.
            let meanwhile = async {
                match self.dice.below(2) {
                    0 => self.try_move_leader().await.map(drop),
                    _ => self.snapshot().await,
                }
            };
            let _best_effort = tokio::time::timeout(span / 3, meanwhile).await;
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Some members: the leader, one other, a minority, most, or all.
    async fn victims(&mut self) -> Vec<Slot> {
        let leader = self.leader_or_any().await;
        let mut others: Vec<Slot> =
            self.slots().into_iter().filter(|slot| *slot != leader).collect();
        for place in (1..others.len()).rev() {
            let with = self.dice.index(place + 1);
            others.swap(place, with);
        }
        let minority = (self.members.len() - 1) / 2;
        match self.dice.below(8) {
            0..3 => vec![leader],
            3..5 => others[..1].to_vec(),
            5 => {
                let mut some = others[..minority.saturating_sub(1)].to_vec();
                some.push(leader);
                some
            }
            6 => others[..=minority.min(others.len() - 1)].to_vec(),
            _ => self.slots(),
        }
    }

    async fn one_victim(&mut self) -> Slot {
        if self.dice.one_in(2) {
            return self.leader_or_any().await;
        }
        let slots = self.slots();
        self.dice.pick(&slots)
    }

    fn lost(&self) -> Result<u64> {
        self.slots().into_iter().map(net::lost).sum()
    }

    /// Two sides that do not hear each other, or one pair only.
    async fn partition(&mut self) -> Result<()> {
        let leader = self.leader_or_any().await;
        let slots = self.slots();
        let other = self.dice.pick(&slots);
        let pairs: Vec<(Slot, Slot)> = match self.dice.below(4) {
            0 => vec![(leader, other % slots.len() + 1)],
            1 => slots.iter().flat_map(|a| slots.iter().map(move |b| (*a, *b))).collect(),
            2 => slots.iter().map(|slot| (other, *slot)).collect(),
            _ => slots.iter().map(|slot| (leader, *slot)).collect(),
        };
        let mut pairs: Vec<(Slot, Slot)> = pairs.into_iter().filter(|(a, b)| a != b).collect();
        if pairs.is_empty() {
            pairs.push((leader, leader % slots.len() + 1));
        }
        for (a, b) in pairs {
            net::lose(a, b)?;
            net::lose(b, a)?;
        }
        self.hold(3, 8).await?;
        let lost = self.lost()?;
        self.heal_network()?;
        self.note(Kind::Partition, lost)
    }

    /// One member is not heard by some, or does not hear some.
    async fn one_way(&mut self) -> Result<()> {
        let victim = self.one_victim().await;
        let deaf = self.dice.one_in(2);
        let all = self.dice.one_in(2);
        let others: Vec<Slot> = self.slots().into_iter().filter(|slot| *slot != victim).collect();
        // Two followers have little to say to each other.
        let leader = self.leader_or_any().await;
        let other = if leader == victim { self.dice.pick(&others) } else { leader };
        let others = if all { others } else { vec![other] };
        for other in others {
            if deaf { net::lose(other, victim)? } else { net::lose(victim, other)? }
        }
        self.hold(3, 8).await?;
        let lost = self.lost()?;
        self.heal_network()?;
        self.note(Kind::OneWay, lost)
    }

    async fn swallow(&mut self) -> Result<()> {
        let victim = self.one_victim().await;
        let deaf = self.dice.one_in(2);
        let before = self.count(|link| link.swallowed.load(Ordering::SeqCst));
        for other in self.slots().into_iter().filter(|slot| *slot != victim) {
            let (from, to) = if deaf { (other, victim) } else { (victim, other) };
            self.proxies.link(from, to).swallow.store(true, Ordering::SeqCst);
        }
        self.hold(3, 7).await?;
        self.heal_network()?;
        let swallowed = self.count(|link| link.swallowed.load(Ordering::SeqCst)) - before;
        self.note(Kind::Swallow, swallowed)
    }

    fn count(&self, of: impl Fn(&super::proxy::Link) -> u64) -> u64 {
        let slots = self.slots();
        let pairs = slots.iter().flat_map(|a| slots.iter().map(move |b| (*a, *b)));
        pairs.map(|(a, b)| of(self.proxies.link(a, b))).sum()
    }

    fn delay_all(&mut self, most_ms: u64) {
        for from in self.slots() {
            for to in self.slots() {
                let delay = 1 + self.dice.below(most_ms);
                self.proxies.link(from, to).delay_ms.store(delay, Ordering::SeqCst);
            }
        }
    }

    async fn delay(&mut self) -> Result<()> {
        let before = self.count(|link| link.delayed.load(Ordering::SeqCst));
        let most = self.dice.pick(&[100, 400, 1_500]);
        self.delay_all(most);
        self.hold(4, 8).await?;
        self.heal_network()?;
        let delayed = self.count(|link| link.delayed.load(Ordering::SeqCst)) - before;
        self.note(Kind::Delay, delayed)
    }

    async fn cut(&mut self) -> Result<()> {
        let before = self.proxies.cut.load(Ordering::SeqCst);
        for _ in 0..3 + self.dice.below(6) {
            self.proxies.cut_all();
            let rest = self.span(0, 1);
            sleep(rest).await;
        }
        sleep(Duration::from_millis(300)).await;
        let cut = self.proxies.cut.load(Ordering::SeqCst) - before;
        self.note(Kind::Cut, cut)
    }

    async fn kill(&mut self) -> Result<()> {
        let victims = self.victims().await;
        let mut killed = 0;
        for slot in &victims {
            let status = self.member(*slot).kill()?.context("it did not run")?;
            killed += u64::from(status.signal() == Some(9));
        }
        self.hold(0, 4).await?;
        for slot in &victims {
            self.member(*slot).start()?;
        }
        ensure!(killed == victims.len() as u64, "of {victims:?} {killed} ended by kill -9");
        self.note(Kind::Kill, killed)
    }

    async fn pause(&mut self) -> Result<()> {
        let victims = self.victims().await;
        let began = Instant::now();
        for slot in &victims {
            self.member(*slot).pause()?;
        }
        self.hold(3, 8).await?;
        let states: Vec<_> = victims.iter().map(|slot| self.members[*slot - 1].state()).collect();
        for slot in &victims {
            self.member(*slot).resume()?;
        }
        let still = states.iter().all(|state| *state == Some('T'));
        ensure!(still, "{victims:?} did not stand still, but are in the states {states:?}");
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.note(Kind::Pause, ms * victims.len() as u64)
    }

    async fn power_loss(&mut self) -> Result<()> {
        // All at once is the hardest: nobody remembers what was not synced. That is what a lie shows at.
        let all = self.syncs == Syncs::Lie || self.dice.one_in(2);
        let victims = if all { self.slots() } else { vec![self.one_victim().await] };
        for slot in &victims {
            self.member(*slot).volume.power_off()?;
        }
        for slot in &victims {
            self.member(*slot).kill()?;
        }
        self.hold(0, 3).await?;
        for slot in &victims {
            self.member(*slot).volume.power_on()?;
            self.member(*slot).start()?;
        }
        self.note(Kind::PowerLoss, victims.len() as u64)
    }

    async fn full_disk(&mut self) -> Result<()> {
        let slot = self.one_victim().await;
        let left_bytes = self.dice.below(16) << 20;
        self.member(slot).volume.fill(left_bytes)?;
        self.hold(4, 9).await?;
        self.member(slot).volume.relieve()?;
        // A member may end when something else takes its last room. It must come back with everything.
        if !self.member(slot).runs()? {
            println!("blackbox: m{slot} has ended on its full disk");
            self.member(slot).start()?;
        }
        self.note(Kind::FullDisk, 1)
    }

    async fn hung_disk(&mut self) -> Result<()> {
        let slot = self.one_victim().await;
        let frozen = self.member(slot).volume.freeze()?;
        let held = self.hold(4, 8).await;
        let led = self.another_leads(slot).await;
        let ms = frozen.thaw()?;
        held.and(led)?;
        self.note(Kind::HungDisk, ms)
    }

    /// Waits for another member to lead than that, in the latest term that anybody leads.
    async fn another_leads(&mut self, than: Slot) -> Result<()> {
        for _ in 0..50 {
            if self.leader().await.is_some_and(|(slot, _)| slot != than) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        bail!("m{than}, whose disk hangs, leads still, or nobody does")
    }

    async fn sync_error(&mut self) -> Result<()> {
        let slot = self.one_victim().await;
        let before = self.member(slot).syncs_refused()?;
        self.member(slot).sync_as(Syncs::Fail)?;
        let exit = self.member(slot).wait_exit(EXIT_AFTER_SYNC_ERROR).await;
        let refused = self.member(slot).syncs_refused()? - before;
        let usual = self.syncs;
        self.member(slot).sync_as(usual)?;
        let status = exit.with_context(|| {
            format!("after {refused} failed syncs\n{}", self.members[slot - 1].log_end())
        })?;
        ensure!(!status.success(), "m{slot} ended in order although its syncs had failed");
        // What was written before the failed sync is not on the disk.
        self.member(slot).volume.power_off()?;
        self.hold(0, 2).await?;
        self.member(slot).volume.power_on()?;
        self.member(slot).start()?;
        self.note(Kind::SyncError, refused)
    }

    async fn bit_rot(&mut self) -> Result<()> {
        let slot = self.one_victim().await;
        self.member(slot).kill()?;
        let mut dice = self.dice.clone();
        let turned = self.member(slot).volume.rot(&mut dice)?;
        self.dice.roll();
        self.member(slot).start()?;
        let until = Instant::now() + Duration::from_secs(ROTTEN_SECONDS);
        let mut fate = "refused to start".to_owned();
        while self.member(slot).runs()? {
            if Instant::now() >= until {
                fate = self.compare_rotten(slot).await?;
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        println!("blackbox: m{slot} with {}: {fate}", turned.join(", "));
        self.note(Kind::BitRot, turned.len() as u64)?;
        self.replace(slot).await
    }

    /// A member that runs with rotten files must have the others' data, or none.
    async fn compare_rotten(&mut self, slot: Slot) -> Result<String> {
        let other = slot % self.members.len() + 1;
        let mut last = String::new();
        for _ in 0..COMPARISONS {
            if !self.member(slot).runs()? {
                return Ok("ended when it was asked for its data".into());
            }
            match self.compare(slot, other).await {
                Ok(revision) => return Ok(format!("serves the right data at {revision}")),
                // It says so itself, instead of answering.
                Err(error) if format!("{error}").contains(FOUND_OUT) => {
                    return Ok("finds its state corrupted when that is read".into());
                }
                Err(error) => last = format!("{error:#}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
        if self.serves(slot).await.is_err() {
            return Ok(format!("does not serve: {last}"));
        }
        bail!("m{slot} serves from rotten files, not what m{other} has: {last}")
    }

    /// A revision at which two members have the same data.
    async fn compare(&self, slot: Slot, other: Slot) -> Result<i64> {
        let revision = self.revision(slot).await?.min(self.revision(other).await?);
        let theirs = self.hash(other, revision).await.context("the other")?;
        let own = self.hash(slot, revision).await?;
        // One may have compacted further, for a moment.
        ensure!(own == theirs, "at {revision}: hash and compaction {own:?} and {theirs:?}");
        Ok(revision)
    }

    async fn clock_jump(&mut self) -> Result<()> {
        let victims = self.victims().await;
        let before = self.clock_moved()?;
        for _ in 0..4 {
            for slot in &victims {
                let reach = self.dice.pick(&[2, 60, 3_600, 86_400 * 400]);
                let seconds =
                    i64::try_from(self.dice.below(2 * reach + 1))? - i64::try_from(reach)?;
                self.member(*slot).move_clock(seconds * SECOND_NS + 1)?;
            }
            self.hold(1, 2).await?;
        }
        let moved = self.clock_moved()? - before;
        // Half of them stay where they are.
        for slot in victims {
            if self.dice.one_in(2) {
                self.member(slot).move_clock(0)?;
            }
        }
        self.note(Kind::ClockJump, moved)
    }

    fn clock_moved(&self) -> Result<u64> {
        self.members.iter().map(super::member::Member::clock_moved).sum()
    }
}
