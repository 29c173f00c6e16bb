//! Pure. The request metadata that ringbolt honours.

use crate::http2::Head;
use bytes::Bytes;

/// First values of the fields that mean something to us. Shared by all requests of a connection
/// that carry the same fields, so it may be large and is never copied.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Metadata {
    /// `token`, else `authorization`, as sent.
    pub token: Option<Bytes>,
    /// `authorization`, as sent.
    pub authorization: Option<Bytes>,
    /// `hasleader: true`.
    pub has_leader: bool,
    pub client_api_version: Option<Bytes>,
    /// `ringbolt-keyspace`.
    pub keyspace: Option<Bytes>,
    pub user_agent: Option<Bytes>,
    /// `:authority`.
    pub authority: Bytes,
}

impl Metadata {
    pub fn from_head(head: &Head) -> Metadata {
        let mut metadata = Metadata {
            authority: Bytes::copy_from_slice(head.authority()),
            ..Metadata::default()
        };
        let mut token = None;
        let mut has_leader = None;
        for (name, value) in head.fields() {
            let field = match name {
                b"token" => &mut token,
                b"authorization" => &mut metadata.authorization,
                b"client-api-version" => &mut metadata.client_api_version,
                b"ringbolt-keyspace" => &mut metadata.keyspace,
                b"user-agent" => &mut metadata.user_agent,
                b"hasleader" => {
                    has_leader.get_or_insert(value == b"true");
                    continue;
                }
                _ => continue,
            };
            // The first value counts, as in etcd.
            field.get_or_insert_with(|| Bytes::copy_from_slice(value));
        }
        metadata.has_leader = has_leader.unwrap_or(false);
        metadata.token = token.or_else(|| metadata.authorization.clone());
        metadata
    }
}
