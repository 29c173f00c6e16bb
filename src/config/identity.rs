//! Pure. Member and cluster ids, computed as etcd computes them, so that the same first command
//! line gives the same ids.

use crate::ids::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member of the first configuration, or (with `added_at`, in seconds since 1970) of
/// one that is added at run time, when the same URLs may have been used before.
pub fn member_id(peer_urls: &[impl AsRef<str>], token: &str, added_at: Option<i64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(token);
    if let Some(seconds) = added_at {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight(hash))
}

/// The id of a cluster that begins with these members.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    ids.iter().for_each(|id| hash.update(id.to_be_bytes()));
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (head, _) = digest
        .split_first_chunk::<8>()
        .expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches ids that differ from etcd's: the check value of the contract.
    #[test]
    fn check_value() {
        let member = member_id(&["https://localhost:20001"], "new", None);
        assert_eq!(member, MemberId(0x00a8f3458387986d));
        assert_eq!(cluster_id(&[member]), ClusterId(0x34c21a2d427db393));
    }

    // Catches an order of URLs or members that changes the ids: nodes would not agree.
    #[test]
    fn order_does_not_matter_and_time_does() {
        let urls = ["http://b:1", "http://a:1"];
        let turned = ["http://a:1", "http://b:1"];
        assert_eq!(member_id(&urls, "t", None), member_id(&turned, "t", None));
        assert_ne!(member_id(&urls, "t", None), member_id(&urls, "t", Some(1)));
        let ids = [MemberId(7), MemberId(3)];
        assert_eq!(cluster_id(&ids), cluster_id(&[ids[1], ids[0]]));
    }
}
