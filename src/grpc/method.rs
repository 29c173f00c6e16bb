//! Pure. The methods that a listener serves, by path.

use super::status::{Code, Status};

/// A method, numbered by whoever made the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MethodId(pub u16);

/// Paths and their methods. Made once, shared by all connections of a listener.
#[derive(Clone, Default, Debug)]
pub struct MethodTable {
    /// Sorted by service, then method.
    methods: Vec<(&'static str, &'static str, MethodId)>,
}

/// Why a path names no method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown<'a> {
    /// No `/service/method` form.
    Malformed {
        path: &'a [u8],
    },
    Service {
        service: &'a [u8],
    },
    Method {
        service: &'a [u8],
        method: &'a [u8],
    },
}

impl Unknown<'_> {
    /// The answer, in grpc-go's words.
    pub fn status(&self) -> Status {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let message = match *self {
            Unknown::Malformed { path } => format!("malformed method name: {:?}", text(path)),
            Unknown::Service { service } => format!("unknown service {}", text(service)),
            Unknown::Method { service, method } => {
                format!(
                    "unknown method {} for service {}",
                    text(method),
                    text(service)
                )
            }
        };
        Status::new(Code::Unimplemented, message)
    }
}

impl MethodTable {
    /// From paths like `/etcdserverpb.KV/Put`. A path that does not look so is a mistake of the
    /// caller.
    pub fn new(methods: &[(&'static str, MethodId)]) -> MethodTable {
        let split = |&(path, id): &(&'static str, MethodId)| {
            let path = path.strip_prefix('/').expect("a path begins with a slash");
            let (service, method) = path.rsplit_once('/').expect("a path has two parts");
            (service, method, id)
        };
        let mut methods: Vec<_> = methods.iter().map(split).collect();
        methods.sort_unstable();
        MethodTable { methods }
    }

    pub fn find<'a>(&self, path: &'a [u8]) -> Result<MethodId, Unknown<'a>> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        let slash = name
            .iter()
            .rposition(|&b| b == b'/')
            .ok_or(Unknown::Malformed { path })?;
        let (service, method) = (&name[..slash], &name[slash + 1..]);
        let found = self
            .methods
            .binary_search_by(|(s, m, _)| (s.as_bytes(), m.as_bytes()).cmp(&(service, method)));
        match found {
            Ok(at) => Ok(self.methods[at].2),
            Err(at) => {
                let near = [at.checked_sub(1), Some(at)];
                let mut near = near
                    .into_iter()
                    .flatten()
                    .filter_map(|at| self.methods.get(at));
                if near.any(|(s, _, _)| s.as_bytes() == service) {
                    return Err(Unknown::Method { service, method });
                }
                Err(Unknown::Service { service })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a method of a known service reported as an unknown service, at either end of the
    // table, and words that differ from grpc-go's.
    #[test]
    fn unknown_paths_are_told_apart() {
        let table = MethodTable::new(&[
            ("/pkg.KV/Put", MethodId(1)),
            ("/pkg.KV/Range", MethodId(2)),
            ("/pkg.Watch/Watch", MethodId(3)),
        ]);
        assert_eq!(table.find(b"/pkg.KV/Range"), Ok(MethodId(2)));
        assert_eq!(table.find(b"pkg.Watch/Watch"), Ok(MethodId(3)));
        for (path, message) in [
            ("/pkg.KV/Aaa", "unknown method Aaa for service pkg.KV"),
            ("/pkg.KV/Zzz", "unknown method Zzz for service pkg.KV"),
            ("/pkg.Watch/Zzz", "unknown method Zzz for service pkg.Watch"),
            ("/pkg.Nope/Put", "unknown service pkg.Nope"),
            ("/a/b/c", "unknown service a/b"),
            ("/", "malformed method name: \"/\""),
        ] {
            let status = table.find(path.as_bytes()).unwrap_err().status();
            assert_eq!(status, Status::new(Code::Unimplemented, message), "{path}");
        }
    }
}
