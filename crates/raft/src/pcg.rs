//! A small random number generator for the jitter of election timeouts.
//!
//! PCG-XSH-RR 64/32 (O'Neill 2014): the same seed gives the same numbers on every platform and
//! in every version of this crate, which no library promises and every recorded seed needs.

#[derive(Clone, Debug)]
pub(crate) struct Pcg {
    state: u64,
}

impl Pcg {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    const INCREMENT: u64 = 1_442_695_040_888_963_407;

    pub(crate) fn new(seed: u64) -> Self {
        let mut pcg = Self { state: seed.wrapping_add(Self::INCREMENT) };
        pcg.next_u32();
        pcg
    }

    fn next_u32(&mut self) -> u32 {
        let state = self.state;
        self.state = state.wrapping_mul(Self::MULTIPLIER).wrapping_add(Self::INCREMENT);
        #[expect(clippy::cast_possible_truncation, reason = "the generator's output is 32 bits")]
        let mixed = (((state >> 18) ^ state) >> 27) as u32;
        mixed.rotate_right((state >> 59) as u32)
    }

    /// Uniform enough in `0..bound`; 0 if `bound` is 0. The bias of the multiplication is below
    /// `bound / 2^32`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Pcg;

    #[test]
    fn a_seed_determines_the_numbers() {
        let draw = |seed| {
            let mut pcg = Pcg::new(seed);
            [(); 6].map(|()| pcg.below(1_000))
        };
        assert_eq!(draw(42), draw(42));
        assert_ne!(draw(42), draw(43));
    }

    #[test]
    fn every_value_below_the_bound_comes_up_about_equally_often() {
        let mut pcg = Pcg::new(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[pcg.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (900..1_100).contains(&n)), "{seen:?}");
        assert_eq!(0, pcg.below(0));
    }
}
