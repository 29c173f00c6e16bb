//! Pure. An ordered map whose clones share nodes: the overlay of what the tree file does not have.
//!
//! A clone costs one reference count. After it, a writer copies the nodes on the path to what it
//! changes, once each; the clone keeps what it saw. Entries are never removed: a deletion is a
//! value that says so, and the whole map goes when its generation is in the file.

use crate::limits::mvcc::MAP_NODE_KEYS_MAX;
use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::Arc;

/// Owned by a generation, cloned into views; `Send + Sync` when `V` is.
#[derive(Clone, Debug)]
pub struct CowMap<V> {
    root: Arc<Node<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf {
        keys: Keys,
        values: Vec<V>,
    },
    /// `children.len() == keys.len() + 1`, and key i is the smallest that may be in child i + 1.
    Branch {
        keys: Keys,
        children: Vec<Arc<Node<V>>>,
    },
}

/// The right half of a node that was full, and the smallest key that may be in it.
type Split<V> = (Bytes, Arc<Node<V>>);

impl<V: Clone> Default for CowMap<V> {
    fn default() -> CowMap<V> {
        CowMap::new()
    }
}

impl<V: Clone> CowMap<V> {
    pub fn new() -> CowMap<V> {
        CowMap {
            root: Arc::new(Node::Leaf {
                keys: Keys::default(),
                values: Vec::new(),
            }),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, key: &[u8]) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf { keys, values } => {
                    return keys.find(key).map(|at| &values[at]);
                }
                Node::Branch { keys, children } => node = &children[keys.child_of(key)],
            }
        }
    }

    /// Sets the value of `key` and gives the one it replaces.
    pub fn insert(&mut self, key: &Bytes, value: V) -> Option<V> {
        let (old, split) = insert(&mut self.root, key, value);
        if let Some((middle, right)) = split {
            let left = self.root.clone();
            self.root = Arc::new(Node::Branch {
                keys: Keys::of(vec![middle]),
                children: vec![left, right],
            });
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Gives up the map, to be freed in steps.
    pub fn into_nodes(self) -> MapNodes<V> {
        MapNodes {
            nodes: vec![self.root],
        }
    }

    /// A cursor that stands on no entry yet.
    pub fn cursor(&self) -> MapCursor<'_, V> {
        MapCursor {
            root: Some(&self.root),
            path: Vec::new(),
            leaf: None,
        }
    }
}

fn insert<V: Clone>(
    node: &mut Arc<Node<V>>,
    key: &Bytes,
    value: V,
) -> (Option<V>, Option<Split<V>>) {
    match Arc::make_mut(node) {
        Node::Leaf { keys, values } => match keys.search(key) {
            Ok(at) => (Some(std::mem::replace(&mut values[at], value)), None),
            Err(at) => {
                grow(values);
                keys.insert(at, key.clone());
                values.insert(at, value);
                if keys.len() <= MAP_NODE_KEYS_MAX {
                    return (None, None);
                }
                let cut = split_at(at, keys.len());
                let (keys, values) = (keys.split_off(cut), values.split_off(cut));
                (
                    None,
                    Some((keys.keys[0].clone(), Arc::new(Node::Leaf { keys, values }))),
                )
            }
        },
        Node::Branch { keys, children } => {
            let at = keys.child_of(key);
            let (old, split) = insert(&mut children[at], key, value);
            let Some((middle, right)) = split else {
                return (old, None);
            };
            keys.insert(at, middle);
            children.insert(at + 1, right);
            if keys.len() <= MAP_NODE_KEYS_MAX {
                return (old, None);
            }
            let cut = split_at(at, keys.len());
            let right_keys = keys.split_off(cut);
            let right_children = children.split_off(cut);
            // The key before the cut moves up: it bounds the right node's first child.
            let middle = keys.pop().expect("a cut is never at 0");
            let right = Node::Branch {
                keys: right_keys,
                children: right_children,
            };
            (old, Some((middle, Arc::new(right))))
        }
    }
}

/// What is left of a map that is being freed. Nodes that a clone shares stay.
#[derive(Debug)]
pub struct MapNodes<V> {
    nodes: Vec<Arc<Node<V>>>,
}

impl<V> MapNodes<V> {
    /// Frees one node. `false` when none is left.
    pub fn free_one(&mut self) -> bool {
        let Some(node) = self.nodes.pop() else {
            return false;
        };
        if let Some(Node::Branch { children, .. }) = Arc::into_inner(node) {
            self.nodes.extend(children);
        }
        true
    }
}

/// Makes room for one more. A copied vector is exactly full; doubling would overshoot a node.
fn grow<T>(items: &mut Vec<T>) {
    if items.capacity() == items.len() {
        let room = (items.len() / 2 + 4).min(MAP_NODE_KEYS_MAX + 1 - items.len());
        items.reserve_exact(room);
    }
}

/// Where to cut a node of `len` keys after an insertion at `at`: in the middle, but at the end when
/// keys come in ascending order, so that nodes are left full.
fn split_at(at: usize, len: usize) -> usize {
    if at + 1 == len { len - 1 } else { len / 2 }
}

/// The ascending keys of a node. A search through them alone would touch two cache lines far away
/// per comparison; so their common prefix and the eight bytes behind it lie within the node, and
/// keys themselves are looked at only where these are equal.
#[derive(Clone, Debug)]
struct Keys {
    prefix: [u8; PREFIX_BYTES_MAX],
    /// Bytes of `prefix` that all keys begin with.
    prefix_size: u8,
    /// Of as many keys as there are; big endian and padded with zeros, so that unequal heads are
    /// in the keys' order.
    heads: [u64; MAP_NODE_KEYS_MAX + 1],
    keys: Vec<Bytes>,
}

/// Beyond, heads of keys with a longer common prefix are equal, and keys are compared whole.
const PREFIX_BYTES_MAX: usize = 63;

impl Default for Keys {
    fn default() -> Keys {
        Keys::of(Vec::new())
    }
}

impl Keys {
    fn of(keys: Vec<Bytes>) -> Keys {
        let (prefix, heads) = ([0; PREFIX_BYTES_MAX], [0; MAP_NODE_KEYS_MAX + 1]);
        let mut keys = Keys {
            prefix,
            prefix_size: 0,
            heads,
            keys,
        };
        keys.measure();
        keys
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[..usize::from(self.prefix_size)]
    }

    fn heads(&self) -> &[u64] {
        &self.heads[..self.keys.len()]
    }

    /// Computes prefix and heads anew. The first and the last key tell the prefix of all.
    fn measure(&mut self) {
        let (Some(first), Some(last)) = (self.keys.first(), self.keys.last()) else {
            self.prefix_size = 0;
            return;
        };
        let size = common_size(first, last).min(PREFIX_BYTES_MAX);
        self.prefix[..size].copy_from_slice(&first[..size]);
        self.prefix_size = size as u8;
        for (place, key) in self.heads.iter_mut().zip(&self.keys) {
            *place = head(key, size);
        }
    }

    fn head(&self, key: &[u8]) -> u64 {
        head(key, usize::from(self.prefix_size))
    }

    /// The place of a key that is here. An unequal prefix needs no look: the key would differ.
    #[inline]
    fn find(&self, key: &[u8]) -> Option<usize> {
        let (head, heads) = (self.head(key), self.heads());
        let mut at = heads.partition_point(|have| *have < head);
        while heads.get(at) == Some(&head) {
            if self.keys[at] == key {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// The place of `key`, or where it would be.
    #[inline]
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let at = self.partition(key, Ordering::Less);
        let equal = self
            .heads()
            .get(at)
            .is_some_and(|have| *have == self.head(key))
            && self.keys[at] == key;
        if equal { Ok(at) } else { Err(at) }
    }

    /// In a branch: the child that `key` belongs to.
    #[inline]
    fn child_of(&self, key: &[u8]) -> usize {
        self.partition(key, Ordering::Equal)
    }

    /// How many keys compare to `key` as `most` or less.
    #[inline]
    fn partition(&self, key: &[u8], most: Ordering) -> usize {
        let prefix = self.prefix();
        match prefix.cmp(&key[..prefix.len().min(key.len())]) {
            Ordering::Less => return self.keys.len(),
            Ordering::Greater => return 0,
            Ordering::Equal => {}
        }
        let (head, heads) = (self.head(key), self.heads());
        let mut at = heads.partition_point(|have| *have < head);
        while heads.get(at) == Some(&head) && self.keys[at].as_ref().cmp(key) <= most {
            at += 1;
        }
        at
    }

    fn insert(&mut self, at: usize, key: Bytes) {
        grow(&mut self.keys);
        let (len, head) = (self.keys.len(), self.head(&key));
        let shares = len > 0 && key.starts_with(self.prefix());
        self.keys.insert(at, key);
        if shares {
            self.heads.copy_within(at..len, at + 1);
            self.heads[at] = head;
        } else {
            self.measure();
        }
    }

    fn split_off(&mut self, at: usize) -> Keys {
        let right = Keys::of(self.keys.split_off(at));
        self.measure();
        right
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.keys.pop()
    }
}

fn common_size(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The eight bytes of `key` from `at`.
#[inline]
fn head(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or(&[]);
    if let Some(bytes) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

/// A position in a map; borrows it.
#[derive(Clone, Debug)]
pub struct MapCursor<'a, V> {
    root: Option<&'a Node<V>>,
    path: Vec<(&'a [Arc<Node<V>>], usize)>,
    leaf: Option<(&'a [Bytes], &'a [V], usize)>,
}

impl<'a, V> MapCursor<'a, V> {
    /// The cursor of a map that is not there.
    pub fn empty() -> MapCursor<'a, V> {
        MapCursor {
            root: None,
            path: Vec::new(),
            leaf: None,
        }
    }

    /// Moves to the first entry at or after `key`.
    pub fn seek(&mut self, key: &[u8]) {
        self.path.clear();
        self.leaf = None;
        let Some(mut node) = self.root else { return };
        loop {
            match node {
                Node::Branch { keys, children } => {
                    let at = keys.child_of(key);
                    self.path.push((children, at));
                    node = &children[at];
                }
                Node::Leaf { keys, values } => {
                    let at = keys.search(key).unwrap_or_else(|at| at);
                    self.leaf = Some((&keys.keys, values, at));
                    if at == keys.len() {
                        self.next_leaf();
                    }
                    return;
                }
            }
        }
    }

    /// Moves to the next entry.
    pub fn advance(&mut self) {
        if let Some((keys, _, at)) = &mut self.leaf {
            *at += 1;
            if *at == keys.len() {
                self.next_leaf();
            }
        }
    }

    #[inline]
    pub fn key(&self) -> Option<&'a Bytes> {
        self.leaf.map(|(keys, _, at)| &keys[at])
    }

    #[inline]
    pub fn value(&self) -> Option<&'a V> {
        self.leaf.map(|(_, values, at)| &values[at])
    }

    /// Leaves are never empty, except that of an empty map.
    fn next_leaf(&mut self) {
        self.leaf = None;
        while let Some((children, at)) = self.path.last_mut() {
            *at += 1;
            if *at == children.len() {
                self.path.pop();
                continue;
            }
            let mut node = &*children[*at];
            while let Node::Branch { children, .. } = node {
                self.path.push((children, 0));
                node = &children[0];
            }
            let Node::Leaf { keys, values } = node else {
                return;
            };
            self.leaf = Some((&keys.keys, values, 0));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn key(number: u64) -> Bytes {
        let bytes = number.to_be_bytes();
        match number % 5 {
            0..3 => Bytes::copy_from_slice(&bytes[(number % 3) as usize..]),
            3 => [&b"/registry/"[..], &bytes, b"/tail"].concat().into(),
            _ => [&b"/registry/"[..], &bytes[..(number % 8) as usize]]
                .concat()
                .into(),
        }
    }

    // Catches: a lost or misplaced entry after splits, and a write that shows in an older clone.
    #[test]
    fn behaves_as_a_map_and_clones_keep_what_they_saw() {
        let mut map = CowMap::new();
        let mut model = BTreeMap::new();
        let mut clones = Vec::new();
        let mut seed = 7u64;
        for step in 0..6000u64 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let key = if step % 3 == 0 {
                key(step << 20)
            } else {
                key((seed >> 33) % 3000)
            };
            assert_eq!(map.insert(&key, step), model.insert(key, step));
            assert_eq!(map.len(), model.len());
            if step % 997 == 0 {
                clones.push((map.clone(), model.clone()));
            }
        }
        clones.push((map, model));
        for (map, model) in &clones {
            let mut cursor = map.cursor();
            assert_eq!(cursor.key(), None);
            cursor.seek(b"");
            for (key, value) in model {
                assert_eq!((cursor.key(), cursor.value()), (Some(key), Some(value)));
                assert_eq!(map.get(key), Some(value));
                cursor.advance();
            }
            assert_eq!(cursor.key(), None);
            for number in 0..3000 {
                let key = key(number);
                cursor.seek(&key);
                let expected = model.range(key.clone()..).next();
                assert_eq!(cursor.key().zip(cursor.value()), expected);
            }
        }
    }

    // Catches: leaves left half empty when keys come in order.
    #[test]
    fn ascending_keys_fill_nodes() {
        let mut map = CowMap::new();
        for number in 0..10_000u64 {
            map.insert(&Bytes::copy_from_slice(&number.to_be_bytes()), ());
        }
        fn leaves<V>(node: &Node<V>) -> usize {
            match node {
                Node::Leaf { .. } => 1,
                Node::Branch { children, .. } => children.iter().map(|c| leaves(c)).sum(),
            }
        }
        assert!(leaves(&map.root) <= 10_000 / MAP_NODE_KEYS_MAX + 2);
    }
}
