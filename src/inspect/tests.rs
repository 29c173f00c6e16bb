use super::*;
use crate::btree::BucketId;
use crate::btree::memory::MemoryPages;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let dir = std::env::temp_dir().join(format!("ringbolt-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        TempDir(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tree_bytes() -> Vec<u8> {
    let pages = MemoryPages::new();
    pages.run(&btree::format(&btree::Options::default(), 1));
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("a fresh tree");
    let mut txn = tree.begin();
    for key in 0..500u32 {
        txn.put(BucketId(0), &key.to_be_bytes(), &[7; 100])
            .expect("puts");
    }
    let plan = tree.seal(txn).expect("seals");
    tree.committed(pages.run(&plan));
    pages.to_bytes()
}

// Catches a check that calls a damaged tree sound, or a sound one damaged.
#[test]
fn trees_are_checked_and_dumped() {
    let dir = TempDir::new("inspect-tree");
    let path = dir.0.join("db");
    let bytes = tree_bytes();
    fs::write(&path, &bytes).expect("writes");
    let mut out = Vec::new();
    check(Kind::Tree, &path, &mut out).expect("sound");
    assert!(String::from_utf8_lossy(&out).contains("keys 500\n"));
    out.clear();
    dump(Kind::Tree, &path, &mut out).expect("dumps");
    assert!(String::from_utf8_lossy(&out).contains("check: ok\n"));

    let mut refused = 0;
    for offset in (0..bytes.len()).step_by(997) {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 0x40;
        fs::write(&path, &damaged).expect("writes");
        refused += usize::from(check(Kind::Tree, &path, &mut Vec::new()).is_err());
    }
    assert!(refused > 10, "only {refused} damaged files were refused");
}

// Catches a panic on files that are no tree and no segment.
#[test]
fn foreign_files_are_errors() {
    let dir = TempDir::new("inspect-foreign");
    let path = dir.0.join("0000000000000001.wal");
    for bytes in [
        Vec::new(),
        vec![0; 512],
        vec![0xff; 10_000],
        b"hello".repeat(3000),
    ] {
        fs::write(&path, &bytes).expect("writes");
        assert!(check(Kind::Tree, &path, &mut Vec::new()).is_err());
        let _ = dump(Kind::Tree, &path, &mut Vec::new());
        let _ = check(Kind::Wal, &path, &mut Vec::new());
        let _ = dump(Kind::Wal, &dir.0, &mut Vec::new());
    }
    let missing = dir.0.join("none");
    assert!(matches!(
        check(Kind::Tree, &missing, &mut Vec::new()),
        Err(InspectError::Io { .. })
    ));
    assert!(check(Kind::Wal, &missing, &mut Vec::new()).is_err());
    fs::remove_file(&path).expect("removes");
    assert!(matches!(
        check(Kind::Wal, &dir.0, &mut Vec::new()),
        Err(InspectError::NoSegments(_))
    ));
}
