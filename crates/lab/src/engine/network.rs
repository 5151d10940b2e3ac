//! The network: messages on their way, and links.

use std::collections::BTreeMap;

use super::{InFlight, Key};
use crate::dice::Dice;
use crate::process::NodeId;
use crate::script::Weather;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Flying<M> {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: M,
    /// How many messages led to it, itself included.
    pub(super) depth: u64,
    /// Where its arrival lies in the queue; `None` if it is held.
    pub(super) arrival: Option<Key>,
}

/// One direction between two processes.
#[derive(Debug)]
struct Link {
    cut: bool,
    dice: Dice,
    /// When the latest message arrives, for links that keep the order.
    latest_us: u64,
}

/// What the weather makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) arrives_us: u64,
    pub(super) again_us: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Network<M> {
    pub(super) weather: Weather,
    links: Vec<Link>,
    all: usize,
    flying: BTreeMap<u64, Flying<M>>,
    next_id: u64,
}

impl<M> Network<M> {
    pub(super) fn new(all: usize, seed: u64, weather: Weather) -> Self {
        let link = |n: usize| Link {
            cut: false,
            dice: Dice::stream(seed, &[1, (n / all) as u64, (n % all) as u64]),
            latest_us: 0,
        };
        Self {
            weather,
            links: (0..all * all).map(link).collect(),
            all,
            flying: BTreeMap::new(),
            next_id: 0,
        }
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        &mut self.links[from.0 * self.all + to.0]
    }

    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.links[from.0 * self.all + to.0].cut
    }

    /// Cuts or mends. Nobody can be cut off from itself.
    pub(super) fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        if from != to {
            self.link(from, to).cut = cut;
        }
    }

    pub(super) fn heal(&mut self) {
        self.links.iter_mut().for_each(|link| link.cut = false);
    }

    pub(super) fn any_cut(&self) -> bool {
        self.links.iter().any(|link| link.cut)
    }

    /// Draws what becomes of a message. The number of draws does not depend on what is drawn, so that
    /// calmer weather leaves the other draws as they are.
    pub(super) fn fate(&mut self, from: NodeId, to: NodeId, now_us: u64) -> Fate {
        let weather = self.weather.clone();
        let way_us = weather.map.one_way_us(from, to);
        let link = self.link(from, to);
        let arrival_us = |link: &mut Link| {
            let delay_us = link.dice.within(weather.delay_us_min, weather.delay_us_max);
            let slow = link.dice.chance(weather.slow_per_mille);
            let times = link.dice.within(2, 10);
            let delay_us = if slow { delay_us.saturating_mul(times) } else { delay_us };
            let mut arrives_us = now_us.saturating_add(way_us).saturating_add(delay_us);
            if weather.in_order {
                arrives_us = arrives_us.max(link.latest_us);
                link.latest_us = arrives_us;
            }
            arrives_us
        };
        let lost = link.dice.chance(weather.drop_per_mille);
        let again = link.dice.chance(weather.duplicate_per_mille);
        let arrives_us = arrival_us(link);
        let again_us = again.then(|| arrival_us(link));
        Fate { lost, arrives_us, again_us }
    }

    /// The number of a message that leaves.
    pub(super) fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn fly(&mut self, id: u64, flying: Flying<M>) {
        self.flying.insert(id, flying);
    }

    /// Takes a message out of the air.
    pub(super) fn land(&mut self, id: u64) -> Flying<M> {
        self.flying.remove(&id).expect("what arrives was on its way")
    }

    /// Puts a message back, to wait.
    pub(super) fn hold(&mut self, id: u64, flying: Flying<M>) {
        self.flying.insert(id, Flying { arrival: None, ..flying });
    }

    /// A message that was lost.
    pub(super) fn forget(&mut self, id: u64) {
        self.flying.remove(&id);
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Flying<M>> {
        self.flying.get_mut(&id)
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = InFlight<'_, M>> {
        self.flying.iter().map(|(&id, flying)| show(id, flying))
    }

    pub(super) fn message(&self, id: u64) -> Option<InFlight<'_, M>> {
        self.flying.get(&id).map(|flying| show(id, flying))
    }
}

fn show<M>(id: u64, flying: &Flying<M>) -> InFlight<'_, M> {
    InFlight {
        id,
        from: flying.from,
        to: flying.to,
        message: &flying.message,
        arrives_us: flying.arrival.map(|(at_us, _)| at_us),
    }
}
