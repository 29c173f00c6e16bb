//! Pure. Tests of the tree as a whole.

mod crash;
mod damage;
mod dump;
mod execute;
mod model;
mod relocate;

/// A small generator, so that a seed is all of a run.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Keys of a small space, so that they meet again: short ones, shared prefixes, and for large
    /// `sizes` long ones that differ only near their end.
    pub fn key(&mut self, sizes: u64) -> Vec<u8> {
        let id = self.below(700);
        match self.below(if sizes > 50 { 5 } else { 4 }) {
            0 => id.to_le_bytes()[..1 + self.below(3) as usize].to_vec(),
            1 => format!("/registry/pods/namespace-{}/pod-{id}", id % 7).into_bytes(),
            2 => id
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes()
                .repeat(4),
            3 => vec![0; id as usize % 5],
            _ => {
                let mut key = vec![b'k'; [100, 1000, 1200, 5000][id as usize % 4]];
                key.extend_from_slice(&(id % 40).to_be_bytes());
                key
            }
        }
    }

    pub fn value(&mut self, sizes: u64) -> Vec<u8> {
        let len = match self.below(12) {
            0..6 => self.below(40),
            6..9 => self.below(sizes * 60),
            9 | 10 => self.below(sizes * 200),
            _ => self.below(sizes * 1000),
        };
        let first = self.next() as u8;
        (0..len).map(|n| first.wrapping_add(n as u8)).collect()
    }
}
