//! Pure. Every method of every service on the client port, numbered.
//!
//! Methods that the server does not implement are here too: a client of such a method gets an
//! answer that names it, and the metrics of every method exist from the start.

/// How many messages go each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodKind {
    Unary,
    ServerStream,
    BidiStream,
}

impl MethodKind {
    /// The value of the metric label `grpc_type`.
    pub const fn label(self) -> &'static str {
        match self {
            MethodKind::Unary => "unary",
            MethodKind::ServerStream => "server_stream",
            MethodKind::BidiStream => "bidi_stream",
        }
    }
}

/// A row of [`METHODS`].
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    pub method: Method,
    /// The `:path` of a request: `/service/name`.
    pub path: &'static str,
    /// The service with its package, as in the metric label `grpc_service`.
    pub service: &'static str,
    pub name: &'static str,
    pub kind: MethodKind,
}

macro_rules! methods {
    ($($variant:ident = $service:literal $name:literal $kind:ident;)*) => {
        /// A method of the API. The number is an index into [`METHODS`], stable within a build.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Method {
            $($variant,)*
        }

        /// All methods, in the order of their numbers.
        pub const METHODS: &[MethodInfo] = &[
            $(MethodInfo {
                method: Method::$variant,
                path: concat!("/", $service, "/", $name),
                service: $service,
                name: $name,
                kind: MethodKind::$kind,
            },)*
        ];
    };
}

methods! {
    Range = "etcdserverpb.KV" "Range" Unary;
    RangeStream = "etcdserverpb.KV" "RangeStream" ServerStream;
    Put = "etcdserverpb.KV" "Put" Unary;
    DeleteRange = "etcdserverpb.KV" "DeleteRange" Unary;
    Txn = "etcdserverpb.KV" "Txn" Unary;
    Compact = "etcdserverpb.KV" "Compact" Unary;
    Watch = "etcdserverpb.Watch" "Watch" BidiStream;
    LeaseGrant = "etcdserverpb.Lease" "LeaseGrant" Unary;
    LeaseRevoke = "etcdserverpb.Lease" "LeaseRevoke" Unary;
    LeaseKeepAlive = "etcdserverpb.Lease" "LeaseKeepAlive" BidiStream;
    LeaseTimeToLive = "etcdserverpb.Lease" "LeaseTimeToLive" Unary;
    LeaseLeases = "etcdserverpb.Lease" "LeaseLeases" Unary;
    MemberAdd = "etcdserverpb.Cluster" "MemberAdd" Unary;
    MemberRemove = "etcdserverpb.Cluster" "MemberRemove" Unary;
    MemberUpdate = "etcdserverpb.Cluster" "MemberUpdate" Unary;
    MemberList = "etcdserverpb.Cluster" "MemberList" Unary;
    MemberPromote = "etcdserverpb.Cluster" "MemberPromote" Unary;
    Alarm = "etcdserverpb.Maintenance" "Alarm" Unary;
    Status = "etcdserverpb.Maintenance" "Status" Unary;
    Defragment = "etcdserverpb.Maintenance" "Defragment" Unary;
    Hash = "etcdserverpb.Maintenance" "Hash" Unary;
    HashKV = "etcdserverpb.Maintenance" "HashKV" Unary;
    Snapshot = "etcdserverpb.Maintenance" "Snapshot" ServerStream;
    MoveLeader = "etcdserverpb.Maintenance" "MoveLeader" Unary;
    Downgrade = "etcdserverpb.Maintenance" "Downgrade" Unary;
    AuthEnable = "etcdserverpb.Auth" "AuthEnable" Unary;
    AuthDisable = "etcdserverpb.Auth" "AuthDisable" Unary;
    AuthStatus = "etcdserverpb.Auth" "AuthStatus" Unary;
    Authenticate = "etcdserverpb.Auth" "Authenticate" Unary;
    AuthUserAdd = "etcdserverpb.Auth" "UserAdd" Unary;
    AuthUserGet = "etcdserverpb.Auth" "UserGet" Unary;
    AuthUserList = "etcdserverpb.Auth" "UserList" Unary;
    AuthUserDelete = "etcdserverpb.Auth" "UserDelete" Unary;
    AuthUserChangePassword = "etcdserverpb.Auth" "UserChangePassword" Unary;
    AuthUserGrantRole = "etcdserverpb.Auth" "UserGrantRole" Unary;
    AuthUserRevokeRole = "etcdserverpb.Auth" "UserRevokeRole" Unary;
    AuthRoleAdd = "etcdserverpb.Auth" "RoleAdd" Unary;
    AuthRoleGet = "etcdserverpb.Auth" "RoleGet" Unary;
    AuthRoleList = "etcdserverpb.Auth" "RoleList" Unary;
    AuthRoleDelete = "etcdserverpb.Auth" "RoleDelete" Unary;
    AuthRoleGrantPermission = "etcdserverpb.Auth" "RoleGrantPermission" Unary;
    AuthRoleRevokePermission = "etcdserverpb.Auth" "RoleRevokePermission" Unary;
    Lock = "v3lockpb.Lock" "Lock" Unary;
    Unlock = "v3lockpb.Lock" "Unlock" Unary;
    ElectionCampaign = "v3electionpb.Election" "Campaign" Unary;
    ElectionProclaim = "v3electionpb.Election" "Proclaim" Unary;
    ElectionLeader = "v3electionpb.Election" "Leader" Unary;
    ElectionObserve = "v3electionpb.Election" "Observe" ServerStream;
    ElectionResign = "v3electionpb.Election" "Resign" Unary;
    HealthCheck = "grpc.health.v1.Health" "Check" Unary;
    HealthList = "grpc.health.v1.Health" "List" Unary;
    HealthWatch = "grpc.health.v1.Health" "Watch" ServerStream;
}

impl Method {
    /// How many methods there are.
    pub const COUNT: usize = METHODS.len();

    pub const fn id(self) -> u16 {
        self as u16
    }

    pub const fn from_id(id: u16) -> Option<Method> {
        if (id as usize) < METHODS.len() {
            Some(METHODS[id as usize].method)
        } else {
            None
        }
    }

    /// The method of a request path. For set-up and tests: a server matches paths through a table
    /// of its own.
    pub fn from_path(path: &str) -> Option<Method> {
        METHODS
            .iter()
            .find(|info| info.path == path)
            .map(|info| info.method)
    }

    pub const fn info(self) -> &'static MethodInfo {
        &METHODS[self as usize]
    }

    pub const fn path(self) -> &'static str {
        self.info().path
    }

    pub const fn kind(self) -> MethodKind {
        self.info().kind
    }
}
