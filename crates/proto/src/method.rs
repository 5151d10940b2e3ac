//! The calls, by the paths they have in gRPC: `/package.Service/Method`.

macro_rules! methods {
    ($($(#[$doc:meta])* $module:ident = $service:literal { $($name:ident = $method:literal,)* })*) => {
        $(
            $(#[$doc])*
            pub mod $module {
                /// The full name of the service.
                pub const SERVICE: &str = $service;
                $(
                    #[doc = concat!("The path of ", $method, ".")]
                    pub const $name: &str = concat!("/", $service, "/", $method);
                )*
            }
        )*

        /// Every service with its methods.
        pub const ALL: &[(&str, &[&str])] = &[$(($service, &[$($method),*]),)*];
    };
}

methods! {
    /// The key-value store.
    kv = "etcdserverpb.KV" {
        RANGE = "Range", RANGE_STREAM = "RangeStream", PUT = "Put", DELETE_RANGE = "DeleteRange",
        TXN = "Txn", COMPACT = "Compact",
    }
    /// Watches.
    watch = "etcdserverpb.Watch" { WATCH = "Watch", }
    /// Leases.
    lease = "etcdserverpb.Lease" {
        GRANT = "LeaseGrant", REVOKE = "LeaseRevoke", KEEP_ALIVE = "LeaseKeepAlive",
        TIME_TO_LIVE = "LeaseTimeToLive", LEASES = "LeaseLeases",
    }
    /// Members.
    cluster = "etcdserverpb.Cluster" {
        ADD = "MemberAdd", REMOVE = "MemberRemove", UPDATE = "MemberUpdate", LIST = "MemberList",
        PROMOTE = "MemberPromote",
    }
    /// Maintenance.
    maintenance = "etcdserverpb.Maintenance" {
        ALARM = "Alarm", STATUS = "Status", DEFRAGMENT = "Defragment", HASH = "Hash",
        HASH_KV = "HashKV", SNAPSHOT = "Snapshot", MOVE_LEADER = "MoveLeader",
        DOWNGRADE = "Downgrade",
    }
    /// Users, roles, tokens.
    auth = "etcdserverpb.Auth" {
        ENABLE = "AuthEnable", DISABLE = "AuthDisable", STATUS = "AuthStatus",
        AUTHENTICATE = "Authenticate", USER_ADD = "UserAdd", USER_GET = "UserGet",
        USER_LIST = "UserList", USER_DELETE = "UserDelete",
        USER_CHANGE_PASSWORD = "UserChangePassword", USER_GRANT_ROLE = "UserGrantRole",
        USER_REVOKE_ROLE = "UserRevokeRole", ROLE_ADD = "RoleAdd", ROLE_GET = "RoleGet",
        ROLE_LIST = "RoleList", ROLE_DELETE = "RoleDelete",
        ROLE_GRANT_PERMISSION = "RoleGrantPermission",
        ROLE_REVOKE_PERMISSION = "RoleRevokePermission",
    }
    /// Locks.
    lock = "v3lockpb.Lock" { LOCK = "Lock", UNLOCK = "Unlock", }
    /// Elections.
    election = "v3electionpb.Election" {
        CAMPAIGN = "Campaign", PROCLAIM = "Proclaim", LEADER = "Leader", OBSERVE = "Observe",
        RESIGN = "Resign",
    }
    /// Health.
    health = "grpc.health.v1.Health" { CHECK = "Check", WATCH = "Watch", }
}
