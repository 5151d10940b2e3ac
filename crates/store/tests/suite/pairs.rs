//! Store liveness alone: stores with clocks that run wrong, pauses, hung disks, crashes,
//! partitions, loss, repetition, reordering. After every event, in true time:
//!
//! - *promise*: what a store counts on, its supporter stands by, in memory or, while it is down or
//!   paused, on its disk; and what its replicas saw withdrawn, nobody counts on ever again;
//! - *epochs*: what is asked under never falls, rises with every restart, and is on disk before it
//!   is asked; what is supported never falls on a disk;
//! - *the disk*: nothing leaves a store whose disk hangs;
//! - *cost*: one heartbeat for each pair and interval, and one answer;
//! - *liveness*: after the faults have ended, every store is supported by every other in a bound.
//!
//! `LIVENESS_SEEDS=n` runs n seeds, `LIVENESS_FIRST_SEED=s` begins elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hunt::Hunt;
use store::liveness::{Config, Epoch, Event, Input, Liveness, Message, Record, Write, WriteToken};
use store::{Mutant, NodeId};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::tally::{Tally, number};

type Broken = String;

/// How this seed's world treats its inhabitants. Probabilities are per mille for every 20 ms.
#[derive(Clone, Debug)]
struct Climate {
    stores: u64,
    drop: u64,
    duplicate: u64,
    straggler: u64,
    latency_ms_max: u64,
    disk_ms_max: u64,
    crash: u64,
    pause: u64,
    hang: u64,
    partition: u64,
    drift_ppm: u64,
    mutant: Option<Mutant>,
    /// Mistakes of a driver: a record that is nothing new is not written; the time is read before
    /// the messages are taken in.
    bypasses_disk: bool,
    stale_now: bool,
}

impl Climate {
    fn draw(seed: u64) -> Climate {
        let dice = &mut Dice::new(seed ^ 0xc11a);
        let mut some = |high| if dice.chance(400) { 0 } else { dice.within(1, high) };
        Climate {
            drop: some(200),
            duplicate: some(100),
            straggler: some(100),
            crash: some(30),
            pause: some(30),
            hang: some(30),
            partition: some(40),
            stores: dice.of([2, 3, 3, 4, 5]),
            latency_ms_max: dice.of([1, 20, 100]),
            disk_ms_max: dice.of([1, 10, 60]),
            drift_ppm: dice.of([500, 5_000, 50_000]),
            mutant: None,
            bypasses_disk: false,
            stale_now: false,
        }
    }

    fn config(&self) -> Config {
        let support_duration = Duration::from_millis(600);
        // The least margin that covers the drift: D x 2r / (1 + r), rounded up.
        let nanos = 600_000_000 * 2 * self.drift_ppm / (1_000_000 + self.drift_ppm) + 1;
        let config = Config {
            heartbeat_interval: Duration::from_millis(100),
            support_duration,
            drift_margin: Duration::from_nanos(nanos),
            promise_max: Duration::from_secs(2),
            mutant: self.mutant,
        };
        assert!(config.drift_ppm_max() >= self.drift_ppm, "the world keeps to the bound");
        config
    }
}

struct Node {
    clock: Clock,
    life: u64,
    liveness: Option<Liveness>,
    record: Option<Record>,
    /// Under way, and what of it has left already by mistake.
    write: Option<Write>,
    hung_until: Duration,
    /// What arrived during a pause, and when that began on its clock.
    paused: Option<(Duration, VecDeque<Input>)>,
    asked: BTreeMap<NodeId, (u64, Epoch)>,
    heartbeats: u64,
}

enum Happening {
    Deliver(NodeId, NodeId, Message),
    DiskDone(NodeId, u64, WriteToken),
    Resume(NodeId),
    Restart(NodeId),
    Chaos,
}

struct World {
    now: Duration,
    climate: Climate,
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    nodes: BTreeMap<NodeId, Node>,
    blocked: BTreeSet<(NodeId, NodeId)>,
    healed: bool,
    /// The latest epoch that (supporter, asker) was seen to withdraw, and what it shows now.
    gone: BTreeMap<(NodeId, NodeId), Epoch>,
    shown: BTreeMap<(NodeId, NodeId), Epoch>,
    tally: Tally,
}

impl World {
    fn new(seed: u64, climate: Climate) -> World {
        let mut world = World {
            now: Duration::ZERO,
            dice: Dice::new(seed),
            queue: BTreeMap::new(),
            queued: 0,
            nodes: BTreeMap::new(),
            blocked: BTreeSet::new(),
            healed: false,
            gone: BTreeMap::new(),
            shown: BTreeMap::new(),
            tally: Tally::default(),
            climate,
        };
        for id in (1..=world.climate.stores).map(NodeId) {
            let clock = Clock::draw(&mut world.dice, world.climate.drift_ppm);
            let node = Node {
                clock,
                life: 0,
                liveness: None,
                record: None,
                write: None,
                hung_until: Duration::ZERO,
                paused: None,
                asked: BTreeMap::new(),
                heartbeats: 0,
            };
            world.nodes.insert(id, node);
        }
        for id in (1..=world.climate.stores).map(NodeId) {
            world.start(id).expect("nothing is broken yet");
        }
        world.after(1, Happening::Chaos);
        world
    }

    fn after(&mut self, milliseconds: u64, what: Happening) {
        let jitter = Duration::from_micros(self.dice.below(1_000));
        self.at(self.now + Duration::from_millis(milliseconds) + jitter, what);
    }

    fn at(&mut self, at: Duration, what: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), what);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("it exists")
    }

    fn start(&mut self, id: NodeId) -> Result<(), Broken> {
        let config = self.climate.config();
        let clock = Clock::draw(&mut self.dice, self.climate.drift_ppm);
        let peers = self.nodes.keys().copied().filter(|&peer| peer != id).collect();
        let now = clock.local(self.now);
        let node = self.node(id);
        node.life += 1;
        node.clock = clock;
        // Through the bytes, as on a disk.
        let record = node.record.as_ref().map(|record| Record::decode(&record.encode()));
        let record = record.transpose().map_err(|error| error.to_string())?;
        node.liveness = Some(Liveness::new(now, config, record).expect("it can work"));
        self.input(id, now, Input::Peers(peers))
    }

    fn crash(&mut self, id: NodeId) -> Result<(), Broken> {
        self.tally.add("crash");
        let survives = self.dice.chance(500);
        self.shown.retain(|&(supporter, _), _| supporter != id);
        let node = self.node(id);
        node.liveness = None;
        node.paused = None;
        if let Some(write) = node.write.take() {
            if survives {
                self.reach_disk(id, write.record)?;
                self.tally.add("a write survived a crash");
            } else {
                self.tally.add("a write was lost in a crash");
            }
        }
        let down = self.dice.of([1, 50, 300, 2_000]);
        self.after(down, Happening::Restart(id));
        Ok(())
    }

    fn reach_disk(&mut self, id: NodeId, record: Record) -> Result<(), Broken> {
        let node = self.node(id);
        if let Some(before) = node.record.replace(record) {
            let after = node.record.as_ref().expect("just written");
            let fell = before.asked > after.asked
                || before.supported.iter().any(|(node, supported)| {
                    after.supported.get(node).is_none_or(|now| now.epoch < supported.epoch)
                });
            if fell {
                return Err(format!("epochs fell on the disk of {id:?}: {before:?} {after:?}"));
            }
        }
        Ok(())
    }

    /// Lets the next thing happen, and checks everything.
    fn step(&mut self) -> Result<(), Broken> {
        let timers = self.nodes.iter().filter_map(|(&id, node)| {
            let liveness = node.liveness.as_ref().filter(|_| node.paused.is_none())?;
            Some((node.clock.when(liveness.next_deadline()?), id))
        });
        let timer = timers.min();
        let next = self.queue.first_key_value().map(|(&(at, _), _)| at);
        if let Some((at, id)) = timer
            && next.is_none_or(|next| at < next)
        {
            self.now = self.now.max(at);
            let now = self.nodes[&id].clock.local(self.now);
            self.input(id, now, Input::Timeout)?;
            return self.check();
        }
        let ((at, _), what) = self.queue.pop_first().expect("chaos never ends");
        self.now = self.now.max(at);
        match what {
            Happening::Deliver(from, to, message) => {
                self.take_in(to, Input::Receive(from, message))?;
            }
            Happening::DiskDone(id, life, token) => self.disk_done(id, life, token)?,
            Happening::Resume(id) => self.resume(id)?,
            Happening::Restart(id) => {
                if self.nodes[&id].liveness.is_none() {
                    self.start(id)?;
                }
            }
            Happening::Chaos => {
                self.after(20, Happening::Chaos);
                if !self.healed {
                    self.chaos()?;
                }
            }
        }
        self.check()
    }

    /// An input reaches a store, or waits for the end of its pause.
    fn take_in(&mut self, id: NodeId, input: Input) -> Result<(), Broken> {
        let at = self.now;
        let node = self.node(id);
        if let Some((_, inbox)) = &mut node.paused {
            inbox.push_back(input);
            return Ok(());
        }
        let now = node.clock.local(at);
        self.input(id, now, input)
    }

    fn resume(&mut self, id: NodeId) -> Result<(), Broken> {
        let stale = self.climate.stale_now;
        let Some((since, inbox)) = self.node(id).paused.take() else { return Ok(()) };
        for input in inbox {
            let node = &self.nodes[&id];
            let now = if stale { since } else { node.clock.local(self.now) };
            self.input(id, now, input)?;
        }
        Ok(())
    }

    fn input(&mut self, id: NodeId, now: Duration, input: Input) -> Result<(), Broken> {
        let Some(liveness) = self.node(id).liveness.as_mut() else { return Ok(()) };
        liveness.step(now, input);
        while let Some(ready) = self.node(id).liveness.as_mut().and_then(Liveness::ready) {
            for event in ready.events {
                self.tally.add(match event {
                    Event::Withdrawn(..) => "withdrawn",
                    Event::Gained(..) => "gained",
                    Event::Lapsed(..) => "lapsed",
                });
            }
            if let Some(write) = ready.write {
                self.write(id, write)?;
            }
        }
        let askers: Vec<NodeId> = self.nodes.keys().copied().filter(|&asker| asker != id).collect();
        for asker in askers {
            let liveness = self.nodes[&id].liveness.as_ref();
            let shows = liveness.and_then(|liveness| liveness.support_for(asker));
            let showed = match shows {
                Some(epoch) => self.shown.insert((id, asker), epoch),
                None => self.shown.remove(&(id, asker)),
            };
            if let Some(showed) = showed.filter(|_| showed != shows) {
                self.gone.insert((id, asker), showed);
            }
        }
        Ok(())
    }

    fn write(&mut self, id: NodeId, mut write: Write) -> Result<(), Broken> {
        if self.climate.bypasses_disk && self.nodes[&id].record.as_ref() == Some(&write.record) {
            for (to, message) in std::mem::take(&mut write.then) {
                self.send(id, to, message)?;
            }
        }
        let delay = Duration::from_micros(self.dice.below(1_000 * self.climate.disk_ms_max));
        let at = (self.now + delay).max(self.nodes[&id].hung_until);
        let (life, token) = (self.nodes[&id].life, write.token);
        let before = self.node(id).write.replace(write);
        assert!(before.is_none(), "one write at a time");
        self.at(at, Happening::DiskDone(id, life, token));
        Ok(())
    }

    fn disk_done(&mut self, id: NodeId, life: u64, token: WriteToken) -> Result<(), Broken> {
        if self.nodes[&id].life != life || self.nodes[&id].liveness.is_none() {
            return Ok(());
        }
        if self.now < self.nodes[&id].hung_until {
            let at = self.nodes[&id].hung_until;
            self.at(at, Happening::DiskDone(id, life, token));
            return Ok(());
        }
        let write = self.node(id).write.take().expect("a write is under way");
        self.reach_disk(id, write.record)?;
        for (to, message) in write.then {
            self.send(id, to, message)?;
        }
        self.take_in(id, Input::Written(token))
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) -> Result<(), Broken> {
        if self.now < self.nodes[&from].hung_until {
            return Err(format!("{message:?} left {from:?}, whose disk hangs"));
        }
        if let Message::Heartbeat { epoch, .. } = message {
            self.check_asked(from, to, epoch)?;
        }
        if let Message::Refusal { .. } = message {
            self.tally.add("refusal");
        }
        let faulty = !self.healed;
        if self.blocked.contains(&(from, to)) || (faulty && self.dice.chance(self.climate.drop)) {
            self.tally.add("lost");
            return Ok(());
        }
        let copies = if faulty && self.dice.chance(self.climate.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let latency = if faulty && self.dice.chance(self.climate.straggler) {
                self.tally.add("straggler");
                self.dice.within(200, 4_000)
            } else {
                self.dice.within(0, self.climate.latency_ms_max)
            };
            self.after(latency, Happening::Deliver(from, to, message));
        }
        Ok(())
    }

    fn check_asked(&mut self, from: NodeId, to: NodeId, epoch: Epoch) -> Result<(), Broken> {
        let node = self.node(from);
        node.heartbeats += 1;
        let stored = node.record.as_ref().map(|record| record.asked);
        if stored.is_none_or(|stored| stored < epoch) {
            return Err(format!("{from:?} asks under {epoch}, but has stored {stored:?}"));
        }
        let life = node.life;
        if let Some((before_life, before)) = node.asked.insert(to, (life, epoch))
            && (epoch < before || (life > before_life && epoch == before))
        {
            return Err(format!("{from:?} asks under {epoch} after {before}"));
        }
        Ok(())
    }

    fn chaos(&mut self) -> Result<(), Broken> {
        let climate = self.climate.clone();
        let id = NodeId(self.dice.within(1, climate.stores));
        let up = self.nodes[&id].liveness.is_some();
        if up && self.dice.chance(climate.crash) {
            self.crash(id)?;
        } else if up && self.nodes[&id].paused.is_none() && self.dice.chance(climate.pause) {
            self.tally.add("pause");
            let since = self.nodes[&id].clock.local(self.now);
            self.node(id).paused = Some((since, VecDeque::new()));
            let length = self.dice.of([20, 300, 700, 3_000]);
            self.after(length, Happening::Resume(id));
        }
        if self.dice.chance(climate.hang) {
            self.tally.add("hung disk");
            let length = Duration::from_millis(self.dice.of([100, 700, 3_000]));
            self.node(id).hung_until = self.now + length;
        }
        if self.dice.chance(climate.partition) {
            self.tally.add("partition");
            let one_way = self.dice.chance(300);
            for other in (1..=climate.stores).map(NodeId).filter(|&other| other != id) {
                if self.dice.chance(700) {
                    self.blocked.insert((id, other));
                    if !one_way {
                        self.blocked.insert((other, id));
                    }
                }
            }
        }
        if self.dice.chance(50) {
            self.blocked.clear();
        }
        Ok(())
    }

    /// *Promise*, for every pair, at this true time.
    fn check(&mut self) -> Result<(), Broken> {
        for (&asker, node) in &self.nodes {
            let Some(liveness) = &node.liveness else { continue };
            let now = node.clock.local(self.now);
            for (&supporter, other) in &self.nodes {
                if supporter == asker || !liveness.is_supported_by(supporter, now) {
                    continue;
                }
                let counted = liveness.support_from(supporter).expect("it is supported");
                let held = match &other.liveness {
                    Some(liveness) if other.paused.is_none() => liveness.support_for(asker),
                    _ => other.record.as_ref().and_then(|record| {
                        let supported = record.supported.get(&asker)?;
                        supported.promise.map(|_| supported.epoch)
                    }),
                };
                let gone = self.gone.get(&(supporter, asker));
                if held != Some(counted.epoch) || gone.is_some_and(|&gone| gone >= counted.epoch) {
                    return Err(format!(
                        "{asker:?} counts on {supporter:?} under {counted:?} at {now:?}, which \
                         holds {held:?} and has withdrawn {gone:?}",
                    ));
                }
                self.tally.add("counted on");
            }
        }
        Ok(())
    }

    /// Ends all faults; then everybody supports everybody.
    fn heal(&mut self) -> Result<(), Broken> {
        self.healed = true;
        self.blocked.clear();
        self.climate.latency_ms_max = 20;
        self.climate.disk_ms_max = 10;
        for id in (1..=self.climate.stores).map(NodeId) {
            self.node(id).hung_until = self.now;
            self.resume(id)?;
            if self.nodes[&id].liveness.is_none() {
                self.start(id)?;
            }
        }
        // Stragglers may take as long to arrive, and what hung or was paused as long to go on.
        let bound = self.now + Duration::from_secs(10);
        while self.now < bound {
            self.step()?;
        }
        let before: u64 = self.nodes.values().map(|node| node.heartbeats).sum();
        let start = self.now;
        while self.now < start + Duration::from_secs(10) {
            self.step()?;
            self.all_supported()?;
        }
        let sent = self.nodes.values().map(|node| node.heartbeats).sum::<u64>() - before;
        let pairs = self.climate.stores * (self.climate.stores - 1);
        // 100 intervals, by clocks that may be a little fast.
        if sent > pairs * 107 {
            return Err(format!("{sent} heartbeats for {pairs} pairs in 100 intervals"));
        }
        self.tally.add("everybody supports everybody");
        Ok(())
    }

    fn all_supported(&self) -> Result<(), Broken> {
        for (&asker, node) in &self.nodes {
            let liveness = node.liveness.as_ref().ok_or("a store is down")?;
            let now = node.clock.local(self.now);
            for &supporter in self.nodes.keys().filter(|&&supporter| supporter != asker) {
                if !liveness.is_supported_by(supporter, now) {
                    return Err(format!("{asker:?} is not supported by {supporter:?}"));
                }
            }
        }
        Ok(())
    }
}

fn live(seed: u64, climate: Climate) -> Result<Tally, Broken> {
    let mut world = World::new(seed, climate);
    while world.now < Duration::from_secs(20) {
        world.step()?;
    }
    world.heal()?;
    Ok(world.tally)
}

const KINDS: [&str; 14] = [
    "a write survived a crash",
    "a write was lost in a crash",
    "counted on",
    "crash",
    "everybody supports everybody",
    "gained",
    "hung disk",
    "lapsed",
    "lost",
    "partition",
    "pause",
    "refusal",
    "straggler",
    "withdrawn",
];

#[test]
fn what_is_counted_on_is_stood_by() {
    let first = number("LIVENESS_FIRST_SEED", 1);
    let count = number("LIVENESS_SEEDS", 200);
    let mut tally = Tally::default();
    for seed in first..first + count {
        match live(seed, Climate::draw(seed)) {
            Ok(seen) => tally.merge(&seen),
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{count} seeds: {:#?}", tally.0);
    tally.must_have(&KINDS, count);
}

/// The known way to get it wrong that a mistake stands for, and how many seeds it may survive.
/// `None` if it takes replicas to show it: see `groups.rs`.
fn case(mutant: Mutant) -> Option<(Option<u8>, u64)> {
    Some(match mutant {
        Mutant::CountedFromReceipt | Mutant::ExpiryKeepsEpoch => (Some(10), 20),
        Mutant::NoDriftMargin | Mutant::RefusalTakenForSupport => (Some(10), 100),
        Mutant::RestartKeepsEpoch => (Some(10), 20),
        Mutant::RestartDoesNotSitOut => (Some(10), 50),
        Mutant::PromiseNotPersisted => (Some(11), 20),
        Mutant::WithdrawalNotPersisted => (Some(11), 100),
        Mutant::LeaseOfAnyEpoch | Mutant::LeaseWithoutEnd | Mutant::WithdrawnFromTheWrongStore => {
            return None;
        }
    })
}

/// What a driver of the store may get wrong.
#[derive(Clone, Copy, Debug)]
enum Driver {
    /// It writes only what is new: heartbeats bypass the disk.
    BypassesDisk,
    /// It reads the time before the message is there: the time of before a pause.
    StaleNow,
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("store");
    for &mutant in Mutant::ALL {
        let Some((way, seeds)) = case(mutant) else { continue };
        hunt.mutant(mutant, way, 1..=seeds, |seed, mutant| {
            live(seed, Climate { mutant, ..Climate::draw(seed) }).map(drop)
        });
    }
    for (driver, seeds) in [(Driver::BypassesDisk, 20), (Driver::StaleNow, 100)] {
        hunt.mutant(driver, Some(10), 1..=seeds, |seed, driver| {
            let mut climate = Climate::draw(seed);
            match driver {
                Some(Driver::BypassesDisk) => climate.bypasses_disk = true,
                Some(Driver::StaleNow) => climate.stale_now = true,
                None => {}
            }
            live(seed, climate).map(drop)
        });
    }
    hunt.end();
}
