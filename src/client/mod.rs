//! Driver. A client of etcd's gRPC API on tonic, shared by `ringboltctl` and by tests.
//!
//! In: endpoints, credentials, timeouts. Out: a [`Client`] with one typed client per service.
//! Call order: `Client::connect`, then any service; every unary call goes through `Client::call`,
//! which bounds its time.
//!
//! Invariants
//! 1. A connection is tried on every endpoint in turn until the deadline; calls go to the first
//!    that answered.
//! 2. Every request names this client's API version, and its token when a user is given.
//! 3. An error shows the server's text and nothing else, so that scripts may compare it.
//!
//! Not here: retries of writes (only the caller knows whether they may run twice), TLS, balancing.
//! The bytes are described by `proto/`.

mod error;

pub use self::error::ClientError;

use crate::pb::etcdserverpb::AuthenticateRequest;
use services::etcdserverpb::auth_client::AuthClient;
use services::etcdserverpb::cluster_client::ClusterClient;
use services::etcdserverpb::kv_client::KvClient;
use services::etcdserverpb::lease_client::LeaseClient;
use services::etcdserverpb::maintenance_client::MaintenanceClient;
use services::etcdserverpb::watch_client::WatchClient;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// The service clients that `build.rs` makes.
pub mod services {
    /// Clients of the services in `rpc.proto`.
    // Generated code follows tonic's style, not ours.
    #[allow(clippy::all, missing_docs)]
    pub mod etcdserverpb {
        include!(concat!(env!("OUT_DIR"), "/client/etcdserverpb.rs"));
    }
    /// Client of the lock service.
    // Generated code follows tonic's style, not ours.
    #[allow(clippy::all, missing_docs)]
    pub mod v3lockpb {
        include!(concat!(env!("OUT_DIR"), "/client/v3lockpb.rs"));
    }
    /// Client of the election service.
    // Generated code follows tonic's style, not ours.
    #[allow(clippy::all, missing_docs)]
    pub mod v3electionpb {
        include!(concat!(env!("OUT_DIR"), "/client/v3electionpb.rs"));
    }
    /// Client of the health service.
    // Generated code follows tonic's style, not ours.
    #[allow(clippy::all, missing_docs)]
    pub mod health {
        include!(concat!(env!("OUT_DIR"), "/client/grpc.health.v1.rs"));
    }
}

/// The API version that requests name.
const API_VERSION: &str = "3.7";
/// Pause between rounds over endpoints that do not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Largest request that is sent when nothing else is said: etcd's client has the same.
const SEND_BYTES_DEFAULT: usize = 2 << 20;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `host:port`, `http://host:port` or `unix:path`.
    pub endpoints: Vec<String>,
    /// Longest time of one attempt to connect.
    pub dial_timeout: Duration,
    /// Longest time of a call, and of all attempts to connect before it; none is no limit.
    pub command_timeout: Option<Duration>,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// User and password.
    pub user: Option<(String, String)>,
    /// A token from elsewhere, instead of a user.
    pub token: Option<String>,
    /// 0 is the default.
    pub request_bytes_max: usize,
    /// 0 is no limit.
    pub answer_bytes_max: usize,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            dial_timeout: Duration::from_secs(2),
            command_timeout: Some(Duration::from_secs(5)),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            user: None,
            token: None,
            request_bytes_max: 0,
            answer_bytes_max: 0,
        }
    }
}

/// Adds the metadata of every request.
#[derive(Clone, Debug)]
pub struct Tags {
    token: Option<MetadataValue<Ascii>>,
    require_leader: bool,
}

impl Interceptor for Tags {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(
            "client-api-version",
            MetadataValue::from_static(API_VERSION),
        );
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        if self.require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        Ok(request)
    }
}

/// The transport under every service.
pub type Tagged = InterceptedService<Channel, Tags>;

/// A connection to one member. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    tags: Tags,
    deadline_after: Option<Duration>,
    request_bytes_max: usize,
    answer_bytes_max: usize,
}

macro_rules! services {
    ($($(#[$doc:meta])* $method:ident -> $service:ident;)*) => {
        $($(#[$doc])*
        pub fn $method(&self) -> $service<Tagged> {
            $service::with_interceptor(self.channel.clone(), self.tags.clone())
                .max_encoding_message_size(self.request_bytes_max)
                .max_decoding_message_size(self.answer_bytes_max)
        })*
    };
}

impl Client {
    /// Connects to the first endpoint that answers, and logs in when a user is given.
    pub async fn connect(options: &ConnectOptions) -> Result<Client, ClientError> {
        let deadline = options.command_timeout.map(|time| Instant::now() + time);
        let endpoints = options
            .endpoints
            .iter()
            .map(|text| endpoint(text, options))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let mut last = None;
        let connected = bounded(deadline, first_connection(&endpoints, &mut last)).await;
        let channel = match (connected, last) {
            (Err(ClientError::Deadline), Some(reason)) => {
                return Err(ClientError::Unreachable { reason });
            }
            (connected, _) => connected?,
        };
        let some = |bytes, default| if bytes == 0 { default } else { bytes };
        let mut client = Client {
            channel,
            tags: Tags {
                token: None,
                require_leader: false,
            },
            deadline_after: options.command_timeout,
            request_bytes_max: some(options.request_bytes_max, SEND_BYTES_DEFAULT),
            answer_bytes_max: some(options.answer_bytes_max, i32::MAX as usize),
        };
        let token = match (&options.token, &options.user) {
            (Some(token), _) => Some(token.clone()),
            (None, Some((name, password))) => client.log_in(name, password).await?,
            (None, None) => None,
        };
        if let Some(token) = token {
            client.tags.token = Some(token.parse().map_err(|_| ClientError::Token)?);
        }
        Ok(client)
    }

    /// The token of a user; none when the cluster does not use authentication.
    async fn log_in(&self, name: &str, password: &str) -> Result<Option<String>, ClientError> {
        let mut auth = self.auth();
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        match self.call(auth.authenticate(request)).await {
            Ok(answer) => Ok(Some(answer.token)),
            Err(ClientError::Status(status))
                if status.message() == "etcdserver: authentication is not enabled" =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for a unary call's answer, at most for the command timeout.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        let deadline = self.deadline_after.map(|time| Instant::now() + time);
        let answer = bounded(deadline, call).await?;
        Ok(answer.map_err(ClientError::from)?.into_inner())
    }

    /// A client whose streams end when the member loses its leader.
    pub fn require_leader(mut self) -> Client {
        self.tags.require_leader = true;
        self
    }

    services! {
        /// Keys and values.
        kv -> KvClient;
        /// Changes as they happen.
        watch -> WatchClient;
        /// Leases.
        lease -> LeaseClient;
        /// Membership.
        cluster -> ClusterClient;
        /// Status, alarms, snapshots.
        maintenance -> MaintenanceClient;
        /// Users and roles.
        auth -> AuthClient;
    }
}

/// Connects to the first endpoint that answers, and tries for ever. `last` is why the last try did
/// not succeed.
async fn first_connection(endpoints: &[Endpoint], last: &mut Option<String>) -> Channel {
    loop {
        for endpoint in endpoints {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(error) => *last = Some(format!("{}: {}", endpoint.uri(), root(&error))),
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// What lies at the bottom of an error: the others only say that a layer above it failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn endpoint(text: &str, options: &ConnectOptions) -> Result<Endpoint, ClientError> {
    let text = text.trim();
    let wrong = || ClientError::Endpoint(text.to_owned());
    let url = match text.split_once("://") {
        Some(("http", _)) => text.to_owned(),
        Some(("unix", path)) => format!("unix:{path}"),
        Some(("https" | "unixs", _)) => return Err(ClientError::TlsEndpoint(text.to_owned())),
        Some(_) => return Err(wrong()),
        None if text.starts_with("unix:") => text.to_owned(),
        None if text.is_empty() => return Err(wrong()),
        None => format!("http://{text}"),
    };
    Ok(Endpoint::from_shared(url)
        .map_err(|_| wrong())?
        .connect_timeout(options.dial_timeout)
        .http2_keep_alive_interval(options.keepalive_time.max(Duration::from_secs(10)))
        .keep_alive_timeout(options.keepalive_timeout)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20))
}

async fn bounded<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, ClientError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work)
            .await
            .map_err(|_| ClientError::Deadline),
        None => Ok(work.await),
    }
}
