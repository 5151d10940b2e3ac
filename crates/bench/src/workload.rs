//! What is asked for: keys, how they are drawn, and operations.

use bytes::{BufMut, Bytes, BytesMut};
use client::{Client, Get, Put, Txn, kv};
use proto::etcdserverpb::response_op::Response;

/// Bytes from which values are cut.
const POOL_BYTES: usize = 1 << 16;

/// The first range beside the one that holds all keys.
const FIRST_RANGE: u64 = 2;

/// Exponent of the Zipf distribution, the usual one of YCSB.
const ZIPF_THETA: f64 = 0.99;

/// Random numbers that are good enough for load: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift (Lemire 2019); its bias of bound / 2^64 does not matter here.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How keys are drawn from the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// Every key as likely as any other.
    #[default]
    Uniform,
    /// A few keys get most of the load; the first is the hottest.
    Zipf,
    /// One after the other, around and around.
    Sequential,
}

impl std::str::FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf),
            "sequential" => Ok(Self::Sequential),
            _ => Err("one of uniform, zipf, sequential".to_owned()),
        }
    }
}

/// A space of numbered keys of equal length.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Bytes,
    key_bytes: usize,
    count: u64,
    distribution: Distribution,
    zipf: Zipf,
}

impl Keys {
    /// `count` keys that start with `prefix`, padded with zeros to `key_bytes` bytes or as many
    /// as the number needs.
    pub fn new(prefix: &str, key_bytes: usize, count: u64, distribution: Distribution) -> Self {
        let count = count.max(1);
        let zipf = match distribution {
            Distribution::Zipf => Zipf::new(count),
            _ => Zipf::new(1),
        };
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        Self { prefix, key_bytes, count, distribution, zipf }
    }

    /// How many keys there are; at least one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What every key starts with.
    pub fn prefix(&self) -> Bytes {
        self.prefix.clone()
    }

    /// The key of this number.
    pub fn key(&self, number: u64) -> Bytes {
        let mut digits = [b'0'; 20];
        let mut used = 0;
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            used += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let padding = self.key_bytes.saturating_sub(self.prefix.len() + used);
        let mut key = BytesMut::with_capacity(self.prefix.len() + padding + used);
        key.extend_from_slice(&self.prefix);
        key.put_bytes(b'0', padding);
        key.extend_from_slice(&digits[digits.len() - used..]);
        key.freeze()
    }

    /// The number of the next key to use. `turn` counts the requests of all clients.
    pub fn draw(&self, random: &mut Random, turn: u64) -> u64 {
        match self.distribution {
            Distribution::Uniform => random.below(self.count),
            Distribution::Zipf => self.zipf.draw(random.unit()),
            Distribution::Sequential => turn % self.count,
        }
    }
}

/// Zipf-distributed ranks in constant time (Gray et al., "Quickly generating billion-record
/// synthetic databases", SIGMOD 1994).
#[derive(Debug, Clone)]
struct Zipf {
    count: f64,
    alpha: f64,
    eta: f64,
    zeta: f64,
}

#[expect(clippy::cast_precision_loss, reason = "key spaces are far below 2^53")]
impl Zipf {
    fn new(count: u64) -> Self {
        let term = |rank: u64| (rank as f64).powf(-ZIPF_THETA);
        let zeta: f64 = (1..=count).map(term).sum();
        let zeta_two = 1.0 + term(2);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_THETA)) / (1.0 - zeta_two / zeta);
        Self { count: count as f64, alpha: 1.0 / (1.0 - ZIPF_THETA), eta, zeta }
    }

    fn draw(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count < 2.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(ZIPF_THETA) {
            return 1;
        }
        let rank = self.count * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and count - 1"
        )]
        let rank = rank.clamp(0.0, self.count - 1.0) as u64;
        rank
    }
}

/// What one request does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Writes a key.
    Put,
    /// Reads a key.
    Get {
        /// From the asked member alone.
        serializable: bool,
    },
    /// Reads up to so many keys in order, from a drawn key on.
    Range {
        /// Keys a request.
        keys: i64,
        /// From the asked member alone.
        serializable: bool,
    },
    /// Reads so many keys in order, page by page, all as of the first page's revision: how
    /// Kubernetes lists. One request here is all of them.
    List {
        /// Keys in all.
        keys: u64,
        /// Keys a page.
        page: i64,
        /// From the asked member alone.
        serializable: bool,
    },
    /// Compares a key's revision and writes it, or reads it if another was faster: what
    /// Kubernetes does with every update.
    CompareAndSwap,
    /// Reads with this share of the requests, writes with the rest.
    Mixed {
        /// Between 0 and 1.
        reads: f64,
        /// From the asked member alone.
        serializable: bool,
    },
}

impl Operation {
    /// Whether the key space has to be filled before it makes sense.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Put)
    }
}

/// One simulated user.
#[derive(Debug)]
pub struct User {
    client: Client,
    /// Over how many ranges the keys are spread; 0 is the one that holds all keys.
    ranges: u64,
    keys: Keys,
    random: Random,
    pool: Bytes,
    value_bytes: usize,
    /// What compare-and-swap knows of its keys.
    revisions: std::collections::BTreeMap<u64, i64>,
}

/// How a request went, other than badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Keys that came back.
    pub keys: u64,
    /// Bytes of keys and values that came back.
    pub bytes: u64,
    /// Whether a compare-and-swap met a change by somebody else.
    pub conflict: bool,
}

impl User {
    /// A user of `client` with random numbers of its own.
    pub fn new(
        client: Client,
        ranges: u64,
        keys: Keys,
        pool: Bytes,
        value_bytes: usize,
        seed: u64,
    ) -> Self {
        let revisions = std::collections::BTreeMap::new();
        Self { client, ranges, keys, random: Random::new(seed), pool, value_bytes, revisions }
    }

    /// Does one request.
    ///
    /// # Errors
    /// The client's.
    pub async fn act(&mut self, operation: Operation, turn: u64) -> client::Result<Done> {
        let number = self.keys.draw(&mut self.random, turn);
        let key = self.keys.key(number);
        if let Some(range) = range_of(number, self.ranges) {
            self.client = self.client.in_range(range);
        }
        match operation {
            Operation::Put => self.put(key).await,
            Operation::Get { serializable } => self.get(Get::key(key), serializable).await,
            Operation::Range { keys, serializable } => {
                let first = self.first_of(number, u64::try_from(keys).unwrap_or(0));
                let end = kv::prefix_end(&self.keys.prefix());
                self.get(Get::range(first, end).limit(keys), serializable).await
            }
            Operation::List { keys, page, serializable } => {
                let first = self.first_of(number, keys);
                self.list(first, keys, page, serializable).await
            }
            Operation::CompareAndSwap => self.swap(number, key).await,
            Operation::Mixed { reads, serializable } => {
                if self.random.unit() < reads {
                    self.get(Get::key(key), serializable).await
                } else {
                    self.put(key).await
                }
            }
        }
    }

    /// A value; two in a row differ.
    fn value(&mut self) -> Bytes {
        let room = (self.pool.len() - self.value_bytes) as u64;
        let start = usize::try_from(self.random.below(room + 1)).unwrap_or(0);
        self.pool.slice(start..start + self.value_bytes)
    }

    async fn put(&mut self, key: Bytes) -> client::Result<Done> {
        let value = self.value();
        self.client.put(Put::new(key, value)).await.map(|_| Done::default())
    }

    async fn get(&mut self, get: Get, serializable: bool) -> client::Result<Done> {
        let get = if serializable { get.serializable() } else { get };
        let response = self.client.get(get).await?;
        let bytes = response.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
        Ok(Done { keys: response.kvs.len() as u64, bytes: bytes as u64, conflict: false })
    }

    /// Where to begin so that `keys` keys are there to be read: at the drawn one, or before it.
    fn first_of(&self, drawn: u64, keys: u64) -> Bytes {
        self.keys.key(drawn.min(self.keys.count().saturating_sub(keys)))
    }

    async fn list(
        &mut self,
        first: Bytes,
        keys: u64,
        page: i64,
        serializable: bool,
    ) -> client::Result<Done> {
        let end = kv::prefix_end(&self.keys.prefix());
        let (mut next, mut revision, mut done) = (first, None, Done::default());
        while done.keys < keys {
            let mut get = Get::range(next.clone(), end.clone()).limit(page);
            if let Some(revision) = revision {
                get = get.revision(revision);
            }
            let get = if serializable { get.serializable() } else { get };
            let response = self.client.get(get).await?;
            revision = revision.or(response.header.as_ref().map(|header| header.revision));
            done.keys += response.kvs.len() as u64;
            done.bytes +=
                response.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>() as u64;
            match response.kvs.last() {
                // The key right behind the last one.
                Some(last) if response.more => next = [&last.key[..], &[0]].concat().into(),
                _ => break,
            }
        }
        Ok(done)
    }

    async fn swap(&mut self, number: u64, key: Bytes) -> client::Result<Done> {
        let known = self.revisions.get(&number).copied().unwrap_or(0);
        let value = self.value();
        let txn = Txn::new()
            .when([kv::mod_revision(key.clone()).equals(known)])
            .then([Put::new(key.clone(), value)])
            .otherwise([Get::key(key)]);
        let response = self.client.txn(txn).await?;
        let revision = if response.succeeded {
            response.header.map_or(0, |header| header.revision)
        } else {
            match response.responses.first().and_then(|op| op.response.as_ref()) {
                Some(Response::ResponseRange(range)) => {
                    range.kvs.first().map_or(0, |kv| kv.mod_revision)
                }
                _ => 0,
            }
        };
        self.revisions.insert(number, revision);
        Ok(Done { conflict: !response.succeeded, ..Done::default() })
    }
}

/// The range in which a key is, if keys are spread over so many.
pub(crate) fn range_of(key: u64, ranges: u64) -> Option<u64> {
    key.checked_rem(ranges).map(|nth| FIRST_RANGE + nth)
}

/// Random bytes from which values of up to `value_bytes` are cut.
pub fn value_pool(value_bytes: usize, seed: u64) -> Bytes {
    let mut random = Random::new(seed);
    let mut pool = BytesMut::with_capacity(POOL_BYTES + value_bytes);
    while pool.len() < POOL_BYTES + value_bytes {
        pool.put_u64(random.next_u64());
    }
    pool.truncate(POOL_BYTES + value_bytes);
    pool.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length_and_their_order() {
        let keys = Keys::new("k/", 8, 1000, Distribution::Uniform);
        assert_eq!(keys.key(7), &b"k/000007"[..]);
        assert_eq!(keys.key(123_456_789), &b"k/123456789"[..]);
        assert!(keys.key(99) < keys.key(100));
        assert_eq!(Keys::new("", 0, 1, Distribution::Uniform).key(0), &b"0"[..]);
        assert_eq!(Keys::new("", 0, 1, Distribution::Uniform).key(u64::MAX).len(), 20);
    }

    #[test]
    fn every_distribution_stays_in_the_key_space_and_reaches_it() {
        for distribution in [Distribution::Uniform, Distribution::Zipf, Distribution::Sequential] {
            for count in [1, 2, 3, 50] {
                let keys = Keys::new("", 4, count, distribution);
                let mut random = Random::new(1);
                let seen: std::collections::BTreeSet<u64> =
                    (0..20_000).map(|turn| keys.draw(&mut random, turn)).collect();
                assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn zipf_has_the_frequencies_of_its_law() {
        let keys = Keys::new("", 4, 1000, Distribution::Zipf);
        let mut random = Random::new(7);
        let mut hits = vec![0_u32; 1000];
        for turn in 0..200_000 {
            hits[usize::try_from(keys.draw(&mut random, turn)).unwrap()] += 1;
        }
        let zeta: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-ZIPF_THETA)).sum();
        for (rank, hits) in [(1, hits[0]), (2, hits[1])] {
            let expected = 200_000.0 * f64::from(rank).powf(-ZIPF_THETA) / zeta;
            let share = f64::from(hits) / expected;
            assert!((0.95..1.05).contains(&share), "rank {rank}: {share}");
        }
        let tail: u32 = hits[500..].iter().sum();
        assert!((10_000..30_000).contains(&tail), "{tail}");
    }

    #[test]
    fn random_numbers_are_a_function_of_the_seed() {
        let mut a = Random::new(3);
        let mut b = Random::new(3);
        assert_eq!(a.next_u64(), b.next_u64());
        assert!((0..1000).all(|_| a.below(7) < 7 && (0.0..1.0).contains(&a.unit())));
    }

    #[test]
    fn a_pool_has_room_for_every_cut() {
        for value_bytes in [0, 1, 256, 1 << 20] {
            assert_eq!(value_pool(value_bytes, 1).len(), POOL_BYTES + value_bytes);
        }
    }
}
