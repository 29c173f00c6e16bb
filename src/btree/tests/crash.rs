//! Pure. A disk with a volatile cache: plans cut after every step, unsynced sectors lost at will.

use super::Random;
use crate::btree::memory::FrozenPages;
use crate::btree::{BucketId, OpenError, Options, Plan, Step, Tree, format};
use std::collections::BTreeMap;
use std::sync::Arc;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
const SECTOR: usize = 512;
const BUCKET: BucketId = BucketId(5);

/// What is on stable storage, and the steps that are not yet.
#[derive(Default)]
struct Disk {
    stable: Vec<u8>,
    cached: Vec<Step>,
}

impl Disk {
    fn step(&mut self, step: &Step) {
        if *step == Step::Sync {
            let cached = std::mem::take(&mut self.cached);
            cached
                .iter()
                .for_each(|step| apply(&mut self.stable, step, |_| true));
        } else {
            self.cached.push(step.clone());
        }
    }

    /// The image after a crash. `keep` decides on each cached step and sector.
    fn crash(&self, mut keep: impl FnMut(usize, usize) -> bool) -> Vec<u8> {
        let mut image = self.stable.clone();
        for (index, step) in self.cached.iter().enumerate() {
            apply(&mut image, step, |sector| keep(index, sector));
        }
        image
    }
}

fn apply(image: &mut Vec<u8>, step: &Step, mut keep: impl FnMut(usize) -> bool) {
    match step {
        Step::SetSize(size) if keep(0) => image.resize(*size as usize, 0),
        Step::Write { offset, bytes } => {
            for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                let at = *offset as usize + sector * SECTOR;
                // Beyond a size that was lost there is no file.
                if keep(sector)
                    && let Some(to) = image.get_mut(at..at + bytes.len())
                {
                    to.copy_from_slice(bytes);
                }
            }
        }
        Step::SetSize(_) | Step::Sync => {}
    }
}

fn contents(image: Vec<u8>) -> Result<Model, OpenError> {
    let size = image.len() as u64;
    let tree = Tree::open(Arc::new(FrozenPages::new(image)), size)?;
    tree.check()?;
    let txn = tree.read();
    let mut cursor = txn.bucket(BUCKET).cursor();
    let mut model = Model::new();
    while cursor.next()? {
        let (key, value) = cursor.current()?.unwrap();
        model.insert(key.to_vec(), value.to_vec());
    }
    Ok(model)
}

fn crash_everywhere(stable: &[u8], plan: &Plan, old: &Model, new: &Model, random: &mut Random) {
    let mut disk = Disk {
        stable: stable.to_vec(),
        cached: Vec::new(),
    };
    let meta_step = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Write { .. }));
    let last_sync = plan.steps.iter().rposition(|step| *step == Step::Sync);
    for (index, step) in plan.steps.iter().enumerate() {
        disk.step(step);
        let verdict = |image: Vec<u8>| {
            let found = contents(image).expect("a crash leaves a sound file");
            let may_be_old = index < last_sync.unwrap();
            let may_be_new = index >= meta_step.unwrap();
            let expected = (may_be_old && found == *old) || (may_be_new && found == *new);
            assert!(expected, "cut after step {index} of {}", plan.steps.len());
        };
        let cached = disk.cached.len();
        if cached <= 5 {
            for kept in 0..1_u32 << cached {
                verdict(disk.crash(|step, _| kept & (1 << step) != 0));
            }
        }
        for _ in 0..4 {
            // Whole steps lost, and torn ones: each of their sectors for itself.
            let (lost, torn) = (random.next(), random.next());
            verdict(disk.crash(|step, sector| {
                let bit = 1 << (step % 64);
                lost & bit != 0 || (torn & bit != 0 && (random.next() >> (sector % 8)) & 1 != 0)
            }));
        }
        verdict(disk.crash(|_, _| false));
        verdict(disk.crash(|_, _| true));
    }
}

fn run(seed: u64, page_size: u32, commits: usize, operations: u64, sizes: u64) {
    let mut random = Random(seed);
    let mut image = Vec::new();
    for step in &format(&Options { page_size }, 1).steps {
        apply(&mut image, step, |_| true);
    }
    let (mut old, mut new) = (Model::new(), Model::new());
    for _ in 0..commits {
        let pages = Arc::new(FrozenPages::new(image.clone()));
        let mut tree = Tree::open(pages, image.len() as u64).unwrap();
        let mut txn = tree.begin();
        for _ in 0..random.below(operations) {
            let key = random.key(sizes);
            if random.below(3) == 0 {
                let key = new
                    .range(key.clone()..)
                    .next()
                    .map_or(key, |(key, _)| key.clone());
                assert_eq!(
                    txn.delete(BUCKET, &key).unwrap(),
                    new.remove(&key).is_some()
                );
            } else {
                let value = random.value(sizes);
                txn.put(BUCKET, &key, &value).unwrap();
                new.insert(key, value);
            }
        }
        let plan = tree.seal(txn).unwrap();
        crash_everywhere(&image, &plan, &old, &new, &mut random);
        plan.steps
            .iter()
            .for_each(|step| apply(&mut image, step, |_| true));
        old.clone_from(&new);
    }
}

// Would catch: a page of the old root overwritten before the new meta is durable, a missing or
// misplaced barrier, a torn meta taken for a good one, a bitmap that differs from what is reached.
#[test]
fn a_crash_leaves_the_old_root_or_the_new_one() {
    run(1, 512, 25, 30, 6);
    run(2, 512, 12, 150, 6);
    run(3, 4096, 15, 100, 6);
    run(4, 512, 8, 20, 60);
}

// Would catch: a file that formats half and then opens as something else.
#[test]
fn a_crash_while_formatting_leaves_no_tree_or_an_empty_one() {
    let plan = format(&Options { page_size: 512 }, 1);
    let mut disk = Disk::default();
    let mut random = Random(9);
    for step in &plan.steps {
        disk.step(step);
        for _ in 0..50 {
            match contents(disk.crash(|_, _| random.below(2) == 0)) {
                Ok(model) => assert!(model.is_empty()),
                Err(OpenError::NoMeta(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(contents(disk.stable), Ok(Model::new()));
}

// Would catch: damage that passes as data. Every byte of a small file is flipped once; reading
// everything gives an error or exactly what was written.
#[test]
fn a_flipped_bit_is_an_error_or_has_no_effect() {
    let mut image = Vec::new();
    for step in &format(&Options { page_size: 512 }, 1).steps {
        apply(&mut image, step, |_| true);
    }
    let mut model = Model::new();
    for round in 0..3_u64 {
        let pages = Arc::new(FrozenPages::new(image.clone()));
        let mut tree = Tree::open(pages, image.len() as u64).unwrap();
        let mut txn = tree.begin();
        let mut random = Random(round);
        for _ in 0..25 {
            let (key, value) = (random.key(6), random.value(3));
            txn.put(BUCKET, &key, &value).unwrap();
            model.insert(key, value);
        }
        let plan = tree.seal(txn).unwrap();
        plan.steps
            .iter()
            .for_each(|step| apply(&mut image, step, |_| true));
    }
    image.truncate(64 << 10);
    let end = image
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        .next_multiple_of(512);
    image.truncate(end);
    let older = {
        let mut damaged = image.clone();
        let newest = if contents(image.clone()) == Ok(model.clone()) {
            0
        } else {
            1
        };
        assert_eq!(newest, 0, "the undamaged file is sound");
        // The third commit has txid 4: its meta is in slot 0.
        damaged[100] ^= 1;
        contents(damaged)
    };
    for at in 0..image.len() {
        let mut damaged = image.clone();
        damaged[at] ^= 1 << (at % 8);
        match contents(damaged) {
            Ok(found) if found == model => {}
            // A damaged newest meta gives way to the older one, whose pages may be reused already.
            found => assert!(found.is_err() || (at < 4096 && found == older), "byte {at}"),
        }
    }
}

// The same with many seeds, for a soak: `cargo test --release soak -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn soak_a_crash_leaves_the_old_root_or_the_new_one() {
    for seed in 100..160 {
        let page_size = 512 << (seed % 4);
        let (operations, sizes) = [(20, 60), (150, 6), (30, 6)][seed as usize % 3];
        run(seed, page_size, 12, operations, sizes);
    }
}
