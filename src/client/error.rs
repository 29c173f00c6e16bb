//! Pure. Why a call of the client failed.

use std::fmt;
use tonic::{Code, Status};

/// A failed call. The text of a server's error is shown as it came.
#[derive(Debug)]
pub enum ClientError {
    NoEndpoints,
    Endpoint(String),
    /// TLS is not part of this client.
    TlsEndpoint(String),
    Token,
    /// The command's time is over.
    Deadline,
    /// It was over before any endpoint could be connected to; why the last try failed.
    Unreachable {
        reason: String,
    },
    Status(Box<Status>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> ClientError {
        match status.code() {
            Code::DeadlineExceeded => ClientError::Deadline,
            _ => ClientError::Status(Box::new(status)),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoEndpoints => f.write_str("etcdclient: no available endpoints"),
            ClientError::Endpoint(text) => write!(f, "invalid endpoint {text:?}"),
            ClientError::TlsEndpoint(text) => {
                write!(
                    f,
                    "endpoint {text:?} needs TLS, which this client does not speak"
                )
            }
            ClientError::Token => f.write_str("the token is not ASCII"),
            ClientError::Deadline => f.write_str("context deadline exceeded"),
            ClientError::Unreachable { reason } => {
                write!(f, "context deadline exceeded ({reason})")
            }
            ClientError::Status(status) => f.write_str(status.message()),
        }
    }
}

impl std::error::Error for ClientError {}
