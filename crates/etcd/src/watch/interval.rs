//! Which of many spans contain a key.
//!
//! A treap: a binary search tree by span (start, then end) and a heap by priority, the priority
//! of a node being a hash of its number and a seed, so the tree is as balanced as one built in
//! random order, and the same for the same history. Every node knows the highest end below it;
//! a search for the spans that contain a key leaves out each subtree that ends before the key
//! and each that starts after it: O(log n + found).

use bytes::Bytes;
use mvcc::KeySpan;

pub(super) struct IntervalMap<V> {
    nodes: Vec<Node<V>>,
    free: Vec<usize>,
    root: Option<usize>,
    seed: u64,
    inserted: u64,
}

struct Node<V> {
    span: KeySpan,
    value: Option<V>,
    /// Highest end of this subtree; `None` is above all.
    end_max: Option<Bytes>,
    priority: u64,
    left: Option<usize>,
    right: Option<usize>,
}

/// Whether one end reaches further than the other; `None` is above all.
fn ends_after(a: &Option<Bytes>, b: &Option<Bytes>) -> bool {
    match (a, b) {
        (None, Some(_)) => true,
        (_, None) => false,
        (Some(a), Some(b)) => a > b,
    }
}

fn order(a: &KeySpan, b: &KeySpan) -> std::cmp::Ordering {
    a.start.cmp(&b.start).then_with(|| {
        if a.end == b.end {
            std::cmp::Ordering::Equal
        } else if ends_after(&a.end, &b.end) {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Less
        }
    })
}

impl<V> IntervalMap<V> {
    pub(super) fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: None, seed, inserted: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn get_mut(&mut self, span: &KeySpan) -> Option<&mut V> {
        let mut at = self.root;
        while let Some(index) = at {
            at = match order(span, &self.nodes[index].span) {
                std::cmp::Ordering::Less => self.nodes[index].left,
                std::cmp::Ordering::Greater => self.nodes[index].right,
                std::cmp::Ordering::Equal => return self.nodes[index].value.as_mut(),
            };
        }
        None
    }

    /// # Panics
    /// If the span is there.
    pub(super) fn insert(&mut self, span: KeySpan, value: V) {
        self.inserted += 1;
        let node = Node {
            end_max: span.end.clone(),
            span,
            value: Some(value),
            priority: mix(self.seed ^ self.inserted),
            left: None,
            right: None,
        };
        let new = match self.free.pop() {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.root = Some(self.insert_below(self.root, new));
    }

    fn insert_below(&mut self, root: Option<usize>, new: usize) -> usize {
        let Some(root) = root else { return new };
        if self.nodes[new].priority > self.nodes[root].priority {
            let (left, right) = self.split(Some(root), new);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.update(new);
            return new;
        }
        match order(&self.nodes[new].span, &self.nodes[root].span) {
            std::cmp::Ordering::Less => {
                self.nodes[root].left = Some(self.insert_below(self.nodes[root].left, new));
            }
            std::cmp::Ordering::Greater => {
                self.nodes[root].right = Some(self.insert_below(self.nodes[root].right, new));
            }
            std::cmp::Ordering::Equal => panic!("a span is inserted once"),
        }
        self.update(root);
        root
    }

    /// Takes a subtree apart into what comes before the span of `by` and what comes after.
    fn split(&mut self, root: Option<usize>, by: usize) -> (Option<usize>, Option<usize>) {
        let Some(root) = root else { return (None, None) };
        let side = order(&self.nodes[root].span, &self.nodes[by].span);
        assert!(side.is_ne(), "a span is inserted once");
        if side.is_lt() {
            let (left, right) = self.split(self.nodes[root].right, by);
            self.nodes[root].right = left;
            self.update(root);
            (Some(root), right)
        } else {
            let (left, right) = self.split(self.nodes[root].left, by);
            self.nodes[root].left = right;
            self.update(root);
            (left, Some(root))
        }
    }

    pub(super) fn remove(&mut self, span: &KeySpan) -> Option<V> {
        let (root, removed) = self.remove_below(self.root, span);
        self.root = root;
        let removed = removed?;
        self.free.push(removed);
        self.nodes[removed].value.take()
    }

    /// The subtree without the span, and the node that held it.
    fn remove_below(
        &mut self,
        root: Option<usize>,
        span: &KeySpan,
    ) -> (Option<usize>, Option<usize>) {
        let Some(root) = root else { return (None, None) };
        let removed;
        match order(span, &self.nodes[root].span) {
            std::cmp::Ordering::Less => {
                let left;
                (left, removed) = self.remove_below(self.nodes[root].left, span);
                self.nodes[root].left = left;
            }
            std::cmp::Ordering::Greater => {
                let right;
                (right, removed) = self.remove_below(self.nodes[root].right, span);
                self.nodes[root].right = right;
            }
            std::cmp::Ordering::Equal => {
                let (left, right) = (self.nodes[root].left, self.nodes[root].right);
                return (self.join(left, right), Some(root));
            }
        }
        self.update(root);
        (Some(root), removed)
    }

    fn join(&mut self, left: Option<usize>, right: Option<usize>) -> Option<usize> {
        let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
        if self.nodes[left].priority > self.nodes[right].priority {
            self.nodes[left].right = self.join(self.nodes[left].right, Some(right));
            self.update(left);
            Some(left)
        } else {
            self.nodes[right].left = self.join(Some(left), self.nodes[right].left);
            self.update(right);
            Some(right)
        }
    }

    fn update(&mut self, index: usize) {
        let node = &self.nodes[index];
        let mut end_max = &node.span.end;
        for child in [node.left, node.right].into_iter().flatten() {
            if ends_after(&self.nodes[child].end_max, end_max) {
                end_max = &self.nodes[child].end_max;
            }
        }
        self.nodes[index].end_max = end_max.clone();
    }

    /// Calls `found` for the value of every span that contains `key`, in the order of spans.
    pub(super) fn containing(&self, key: &[u8], found: &mut impl FnMut(&V)) {
        self.containing_below(self.root, key, found);
    }

    fn containing_below(&self, root: Option<usize>, key: &[u8], found: &mut impl FnMut(&V)) {
        let Some(node) = root.map(|root| &self.nodes[root]) else { return };
        if node.end_max.as_ref().is_some_and(|end| end <= key) {
            return;
        }
        self.containing_below(node.left, key, found);
        if node.span.start <= key {
            if node.span.contains(key) {
                node.value.iter().for_each(&mut *found);
            }
            self.containing_below(node.right, key, found);
        }
    }
}

/// The finalizer of SplitMix64.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl<V> IntervalMap<V> {
        fn height(&self, root: Option<usize>) -> usize {
            let Some(node) = root.map(|root| &self.nodes[root]) else { return 0 };
            1 + self.height(node.left).max(self.height(node.right))
        }

        /// Search order, heap order, and the ends.
        fn check(&self, root: Option<usize>) -> Option<&Option<Bytes>> {
            let node = root.map(|root| &self.nodes[root])?;
            let mut end_max = &node.span.end;
            for (child, side) in [(node.left, true), (node.right, false)] {
                let Some(below) = child.map(|child| &self.nodes[child]) else { continue };
                assert_eq!(order(&below.span, &node.span).is_lt(), side);
                assert!(below.priority <= node.priority);
                let end = self.check(child).expect("there");
                end_max = if ends_after(end, end_max) { end } else { end_max };
            }
            assert_eq!(*end_max, node.end_max);
            Some(end_max)
        }
    }

    fn span(random: &mut u64) -> KeySpan {
        let mut byte = |limit: u64| {
            *random = mix(*random);
            u8::try_from(*random % limit).expect("small")
        };
        let start = vec![byte(12); usize::from(byte(2)) + 1];
        let mut end = start.clone();
        *end.last_mut().expect("not empty") += byte(6);
        end.push(0);
        KeySpan { start: start.into(), end: (byte(5) > 0).then_some(end.into()) }
    }

    #[test]
    fn finds_what_a_scan_finds() {
        for seed in 0..200 {
            let mut random = seed;
            let mut map = IntervalMap::new(seed);
            let mut model: BTreeMap<(Bytes, Option<Bytes>), u32> = BTreeMap::new();
            for step in 0..200 {
                let span = span(&mut random);
                let key = (span.start.clone(), span.end.clone());
                random = mix(random);
                if random % 3 == 0 {
                    assert_eq!(map.remove(&span), model.remove(&key), "seed {seed}");
                } else if let Some(value) = model.get_mut(&key) {
                    assert_eq!(map.get_mut(&span), Some(value), "seed {seed}");
                } else {
                    assert_eq!(map.get_mut(&span), None);
                    map.insert(span, step);
                    model.insert(key, step);
                }
                map.check(map.root);
                assert_eq!(map.is_empty(), model.is_empty());
            }
            for key in (0..14u8).flat_map(|byte| [vec![byte], vec![byte, byte], vec![byte, 0]]) {
                let mut found = Vec::new();
                map.containing(&key, &mut |value| found.push(*value));
                let mut expected: Vec<_> = model
                    .iter()
                    .filter(|((start, end), _)| {
                        KeySpan { start: start.clone(), end: end.clone() }.contains(&key)
                    })
                    .map(|(_, value)| *value)
                    .collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "seed {seed} key {key:?}");
            }
        }
    }

    #[test]
    fn spans_in_order_do_not_make_a_list() {
        let mut map = IntervalMap::new(7);
        for at in 0..20_000u32 {
            map.insert(KeySpan::one(&at.to_be_bytes()), at);
        }
        let height = map.height(map.root);
        assert!(height < 60, "{height} for 20,000 spans");
    }
}
