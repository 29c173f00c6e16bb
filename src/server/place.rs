//! Pure. Which core serves a new connection.

use crate::ids::CoreId;
use crate::limits::server::CONNECTIONS_AT_OWNER;

/// The owner of the keyspace while it has few connections: a hop between cores costs a lone client
/// more than the disk does. Beyond that whoever has fewest, the owner last among equals, because it
/// has the group to run as well.
pub fn place(counts: &[usize], owner: CoreId) -> CoreId {
    let at_owner = counts[usize::from(owner.0)];
    if at_owner < CONNECTIONS_AT_OWNER {
        return owner;
    }
    let ranked = counts.iter().enumerate().map(|(core, count)| {
        let core = CoreId(core as u16);
        (*count, core == owner, core)
    });
    ranked.min().map_or(owner, |(_, _, core)| core)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a lone client sent over a hop, and a crowd left on one core.
    #[test]
    fn few_stay_at_the_owner_and_many_spread() {
        let owner = CoreId(0);
        let mut counts = [0usize; 4];
        for _ in 0..CONNECTIONS_AT_OWNER {
            let core = place(&counts, owner);
            assert_eq!(core, owner);
            counts[usize::from(core.0)] += 1;
        }
        for _ in 0..100 {
            let core = place(&counts, owner);
            counts[usize::from(core.0)] += 1;
        }
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 1),
            "{counts:?}"
        );
        assert_eq!(place(&[100], owner), owner);
    }
}
