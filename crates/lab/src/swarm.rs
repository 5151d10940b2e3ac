//! Scripts from seeds.
//!
//! In swarm fashion (Groce and others, *Swarm Testing*, 2012): each seed leaves most kinds of faults out and
//! has much of the others, for a little of everything hides what only much of one thing shows. A script never
//! does to a protocol what it does not claim to bear.

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{About, Bears, Protocol, Setup, Traitors};
use crate::script::{Act, Conduct, End, Script, Weather, What, When};

/// Events in a generated run.
const EVENTS: u64 = 20_000;
/// A generated run that ends calm is calm for this many times as long as it was not.
const CALM_TIMES: u64 = 4;

/// A script for the setup, drawn from `dice`.
#[must_use]
pub fn script<P: Protocol>(setup: &Setup, dice: &mut Dice) -> Script {
    let bears = P::ABOUT.bears;
    let length_us = bears.length_us;
    let calm = dice.coin();
    // Most of what happens falls into one part of the run, so that much of it meets.
    let width_us = length_us >> dice.below(7);
    let begins_us = dice.below(length_us - width_us + 1);
    let all = setup.n + P::besides(setup);
    let focus_us = (begins_us, begins_us + width_us);
    let mut draw = Draw { bears, setup, all, calm, focus_us, acts: Vec::new(), dice };
    for nth in 0..bears.wishes {
        let what = P::wish(setup, draw.dice, nth);
        let at_us = draw.moment();
        draw.push(at_us, what);
    }
    draw.crashes();
    draw.pauses();
    draw.cuts();
    draw.clocks();
    draw.traitors();
    let weather = draw.weather();
    let Draw { mut acts, .. } = draw;
    if calm {
        acts.push(Act { when: When::Us(length_us), what: What::Heal });
        acts.push(Act {
            when: When::Us(length_us),
            what: What::Weather(Weather { in_order: weather.in_order, ..Weather::calm() }),
        });
    }
    let at_us = if calm { length_us * (1 + CALM_TIMES) } else { length_us * 2 };
    Script {
        weather,
        acts,
        end: End { events: EVENTS, at_us },
        calm_from_us: calm.then_some(length_us),
    }
}

/// A script for a protocol with leaders: one seed in two has [`turmoil`], one in four [`reigns`].
#[must_use]
pub fn led<P: Protocol>(setup: &Setup, dice: &mut Dice) -> Script {
    let mut script = script::<P>(setup, dice);
    match dice.below(4) {
        0 => {}
        1 => reigns::<P>(&mut script, setup, dice),
        _ => turmoil::<P>(&mut script, setup, dice),
    }
    script
}

/// Makes of a script one of short reigns, as in figure 8 of the Raft paper: two processes or three take turns at
/// leading, each reaches few of the others and then nobody, and is gone before the rest have heard. So what is on a
/// few disks meets what the next one has. Nothing else goes wrong: every message takes a millisecond.
pub fn reigns<P: Protocol>(script: &mut Script, setup: &Setup, dice: &mut Dice) {
    let mut rivals: Vec<NodeId> = NodeId::all(setup.n).collect();
    while rivals.len() > 2 + usize::from(dice.chance(300)) {
        rivals.swap_remove(dice.index(rivals.len()));
    }
    let length_us = dice.within(8_000, 20_000);
    // In which moment of a reign a message is cut off decides what is where: the same one more often than not.
    let beat_us = dice.within(1_000, 12_000);
    let mut at_us = dice.below(5_000);
    let mut acts = Vec::new();
    let mut down = None;
    for nth in 0..dice.within(3, 8) {
        let leader = rivals[usize::try_from(nth).unwrap_or(0) % rivals.len()];
        acts.push((at_us, What::Heal));
        acts.extend(down.take().map(|node| (at_us, What::Restart(node))));
        let mut reign =
            Reign { leader, n: setup.n, at_us, ends_us: at_us + length_us - 1, acts: &mut acts };
        if setup.n > 1 && dice.chance(200) {
            let rival = rivals[usize::try_from(nth + 1).unwrap_or(0) % rivals.len()];
            reign.contested(rival, P::ABOUT.bears.crashes, dice);
        } else {
            reign.cut_short(beat_us + 1_000 * dice.below(3), dice);
        }
        if dice.coin() {
            let asked_us = at_us + dice.within(1_000, length_us);
            if let What::Client { op, args, .. } = P::wish(setup, dice, P::ABOUT.bears.wishes + nth)
            {
                acts.push((asked_us, What::Client { node: leader, op, args }));
            }
        }
        if P::ABOUT.bears.crashes && dice.chance(800) {
            acts.push((at_us + length_us - 1, What::Crash(leader)));
            down = Some(leader);
        }
        at_us += length_us;
    }
    acts.push((at_us, What::Heal));
    acts.extend(down.map(|node| (at_us, What::Restart(node))));
    let in_order = !P::ABOUT.bears.disorder || dice.coin();
    *script = Script {
        weather: Weather { in_order, ..Weather::lockstep() },
        acts: acts.into_iter().map(|(at_us, what)| Act { when: When::Us(at_us), what }).collect(),
        end: End { events: EVENTS, at_us: at_us + P::ABOUT.bears.length_us / 8 },
        calm_from_us: None,
    };
}

/// One of [`reigns`].
struct Reign<'a> {
    leader: NodeId,
    n: usize,
    at_us: u64,
    ends_us: u64,
    acts: &'a mut Vec<(u64, What)>,
}

impl Reign<'_> {
    fn push(&mut self, after_us: u64, what: What) {
        self.acts.push(((self.at_us + after_us).min(self.ends_us - 1), what));
    }

    fn expires(&mut self, node: NodeId, dice: &mut Dice) {
        self.push(500, What::Expire(node));
        if dice.coin() {
            // Who comes from an earlier term hears of the later one, and has to try again.
            self.push(4_500, What::Expire(node));
        }
    }

    /// From a moment on the leader reaches two of the others at most, and soon nobody.
    fn cut_short(&mut self, after_us: u64, dice: &mut Dice) {
        let leader = self.leader;
        self.expires(leader, dice);
        let mut others: Vec<NodeId> = NodeId::all(self.n).filter(|&it| it != leader).collect();
        let all = others.clone();
        for _ in 0..dice.below(3).min(others.len() as u64) {
            others.swap_remove(dice.index(others.len()));
        }
        let again_us = after_us + dice.within(1_000, 6_000);
        for (us, those) in [(after_us, others), (again_us, all)] {
            for to in those {
                self.push(us, What::Cut { from: leader, to });
            }
        }
    }

    /// Another means to lead as well, the two do not hear each other, and somebody restarts meanwhile.
    fn contested(&mut self, rival: NodeId, crashes: bool, dice: &mut Dice) {
        let leader = self.leader;
        self.push(0, What::Cut { from: leader, to: rival });
        self.push(0, What::Cut { from: rival, to: leader });
        self.expires(leader, dice);
        self.push(dice.within(500, 4_000), What::Expire(rival));
        let others: Vec<NodeId> =
            NodeId::all(self.n).filter(|&it| it != leader && it != rival).collect();
        if let Some(&other) = dice.pick(&others).filter(|_| crashes) {
            self.push(dice.within(1_000, 6_000), What::Restart(other));
        }
    }
}

/// Makes of a script one in which leaders come and go: for a while processes restart, time out before their
/// time, and are cut off for moments, one soon after the other, and clients go on asking. For protocols with
/// leaders, whose worst moments are short.
pub fn turmoil<P: Protocol>(script: &mut Script, setup: &Setup, dice: &mut Dice) {
    let length_us = P::ABOUT.bears.length_us;
    let step_us = dice.within(1_000, 30_000);
    let [restarts, expiries, cuts] = [(); 3].map(|()| dice.within(0, 4));
    let mut at_us = dice.below(length_us / 4);
    let mut nth = P::ABOUT.bears.wishes;
    let acts = &mut script.acts;
    for _ in 0..dice.within(10, 80) {
        at_us += dice.within(step_us / 10, step_us * 2);
        if at_us >= length_us {
            break;
        }
        let node = NodeId(dice.index(setup.n));
        let when = When::Us(at_us);
        let mut push = |what| acts.push(Act { when, what });
        match dice.below(restarts + expiries + 3 * cuts + 3) {
            draw if draw < restarts => push(What::Restart(node)),
            draw if draw < restarts + expiries => push(What::Expire(node)),
            draw if draw < restarts + expiries + cuts => push(What::Heal),
            draw if draw < restarts + expiries + 2 * cuts => push(What::Split(vec![node])),
            draw if draw < restarts + expiries + 3 * cuts => {
                push(What::Split(NodeId::all(setup.n).filter(|_| dice.coin()).collect()));
            }
            _ => {
                push(P::wish(setup, dice, nth));
                nth += 1;
            }
        }
    }
}

/// One of the operations; the first argument is another one each time, the others are small.
#[must_use]
pub fn wish(about: &About, setup: &Setup, dice: &mut Dice, nth: u64) -> What {
    let node = NodeId(dice.index(setup.n));
    let operation = dice.pick(about.operations);
    let (op, count) = operation.map_or(("", 0), |op| (op.name, op.args.len()));
    let args = (0..count).map(|place| if place == 0 { nth + 1 } else { dice.below(10) }).collect();
    What::Client { node, op: op.to_owned(), args }
}

struct Draw<'a> {
    bears: Bears,
    setup: &'a Setup,
    all: usize,
    calm: bool,
    focus_us: (u64, u64),
    acts: Vec<Act>,
    dice: &'a mut Dice,
}

impl Draw<'_> {
    /// How often something happens: mostly never.
    fn times(&mut self, borne: bool) -> u64 {
        let wanted = self.dice.chance(400);
        let times = self.dice.within(1, 5);
        if borne && wanted { times } else { 0 }
    }

    fn moment(&mut self) -> u64 {
        let (from_us, to_us) = self.focus_us;
        let focused = self.dice.within(from_us, to_us);
        let anywhere = self.dice.below(self.bears.length_us);
        if self.dice.chance(800) { focused } else { anywhere }
    }

    /// From when to when something lasts: as often a moment as half the run.
    fn span(&mut self) -> (u64, u64) {
        let from_us = self.moment();
        let most_us = (self.bears.length_us / 2) >> self.dice.below(12);
        let lasts_us = self.dice.within(1, most_us);
        (from_us, (from_us + lasts_us).min(self.bears.length_us))
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.dice.index(self.setup.n))
    }

    fn any(&mut self) -> NodeId {
        NodeId(self.dice.index(self.all))
    }

    fn push(&mut self, at_us: u64, what: What) {
        self.acts.push(Act { when: When::Us(at_us), what });
    }

    fn crashes(&mut self) {
        for _ in 0..self.times(self.bears.crashes || self.bears.lost_disks) {
            let (from_us, to_us) = self.span();
            let node = self.node();
            self.push(from_us, What::Crash(node));
            let blank = self.bears.lost_disks && self.dice.coin();
            if self.calm || self.dice.chance(800) {
                let again = if blank { What::RestartBlank(node) } else { What::Restart(node) };
                self.push(to_us, again);
            }
        }
    }

    fn pauses(&mut self) {
        for _ in 0..self.times(self.bears.pauses) {
            let (from_us, to_us) = self.span();
            let node = self.any();
            self.push(from_us, What::Pause(node));
            self.push(to_us, What::Resume(node));
        }
    }

    fn cuts(&mut self) {
        for _ in 0..self.times(self.bears.cuts) {
            let (from_us, to_us) = self.span();
            let (from, to) = (self.any(), self.any());
            self.push(from_us, What::Cut { from, to });
            self.push(to_us, What::Mend { from, to });
        }
        for _ in 0..self.times(self.bears.cuts) {
            let (from_us, to_us) = self.span();
            let some = NodeId::all(self.all).filter(|_| self.dice.coin()).collect();
            self.push(from_us, What::Split(some));
            self.push(to_us, What::Heal);
        }
    }

    fn clocks(&mut self) {
        for _ in 0..self.times(self.bears.clocks) {
            let (from_us, _) = self.span();
            let node = self.any();
            let offset_us = self.dice.below(200_000).cast_signed() - 100_000;
            let drift_ppm = self.dice.below(400_000).cast_signed() - 200_000;
            self.push(from_us, What::Clock { node, offset_us, drift_ppm });
            if self.calm {
                let what = What::Clock { node, offset_us: 0, drift_ppm: 0 };
                self.push(self.bears.length_us, what);
            }
        }
    }

    fn traitors(&mut self) {
        let most = match self.bears.traitors {
            Traitors::None => 0,
            Traitors::BelowThird => (self.setup.n - 1) as u64 / 3,
            Traitors::Knob(name) => self.setup.knob(name),
        };
        let mut left: Vec<NodeId> = NodeId::all(self.setup.n).collect();
        for _ in 0..self.dice.within(most / 2, most) {
            if left.is_empty() {
                break;
            }
            let node = left.swap_remove(self.dice.index(left.len()));
            let conduct = match self.dice.below(4) {
                0 => Conduct::Silent,
                1 => Conduct::Lies { per_mille: 100 },
                _ => Conduct::Lies { per_mille: self.dice.within(200, 1000) },
            };
            self.push(0, What::Traitor { node, conduct });
        }
    }

    fn weather(&mut self) -> Weather {
        let dice = &mut *self.dice;
        let delay_us_min = dice.within(100, 2_000);
        let spread = dice.within(1, 20);
        let amount = |dice: &mut Dice, borne: bool, most: u64| {
            let wanted = dice.chance(400);
            let amount = dice.within(1, most);
            if borne && wanted { amount } else { 0 }
        };
        let slow_per_mille = amount(dice, self.bears.disorder, 300);
        let drop_per_mille = amount(dice, self.bears.loss, 300);
        let duplicate_per_mille = amount(dice, self.bears.duplicates, 300);
        Weather {
            delay_us_min,
            delay_us_max: delay_us_min * spread,
            slow_per_mille,
            drop_per_mille,
            duplicate_per_mille,
            in_order: !self.bears.disorder,
            map: crate::script::Map::Room,
        }
    }
}
