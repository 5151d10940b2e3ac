//! The calls of the API, and who may make them.

use proto::method::{auth, cluster, election, health, kv, lease, lock, maintenance, watch};

/// How many messages each side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BothStream,
}

impl Kind {
    /// As metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BothStream => "bidi_stream",
        }
    }
}

macro_rules! calls {
    ($($call:ident = $path:path, $kind:ident;)*) => {
        /// A call of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Call {
            $($call,)*
        }

        impl Call {
            pub(crate) const ALL: &[Call] = &[$(Call::$call,)*];

            /// The call with this path.
            pub(crate) fn of(path: &str) -> Option<Call> {
                match path {
                    $($path => Some(Call::$call),)*
                    _ => None,
                }
            }

            pub(crate) fn path(self) -> &'static str {
                match self {
                    $(Call::$call => $path,)*
                }
            }

            pub(crate) fn kind(self) -> Kind {
                match self {
                    $(Call::$call => Kind::$kind,)*
                }
            }
        }
    };
}

calls! {
    Range = kv::RANGE, Unary;
    Put = kv::PUT, Unary;
    Txn = kv::TXN, Unary;
    DeleteRange = kv::DELETE_RANGE, Unary;
    Compact = kv::COMPACT, Unary;
    RangeStream = kv::RANGE_STREAM, ServerStream;
    Watch = watch::WATCH, BothStream;
    LeaseGrant = lease::GRANT, Unary;
    LeaseRevoke = lease::REVOKE, Unary;
    LeaseKeepAlive = lease::KEEP_ALIVE, BothStream;
    LeaseTimeToLive = lease::TIME_TO_LIVE, Unary;
    LeaseLeases = lease::LEASES, Unary;
    MemberAdd = cluster::ADD, Unary;
    MemberRemove = cluster::REMOVE, Unary;
    MemberUpdate = cluster::UPDATE, Unary;
    MemberList = cluster::LIST, Unary;
    MemberPromote = cluster::PROMOTE, Unary;
    Alarm = maintenance::ALARM, Unary;
    Status = maintenance::STATUS, Unary;
    Defragment = maintenance::DEFRAGMENT, Unary;
    Hash = maintenance::HASH, Unary;
    HashKv = maintenance::HASH_KV, Unary;
    Snapshot = maintenance::SNAPSHOT, ServerStream;
    MoveLeader = maintenance::MOVE_LEADER, Unary;
    Downgrade = maintenance::DOWNGRADE, Unary;
    AuthEnable = auth::ENABLE, Unary;
    AuthDisable = auth::DISABLE, Unary;
    AuthStatus = auth::STATUS, Unary;
    Authenticate = auth::AUTHENTICATE, Unary;
    UserAdd = auth::USER_ADD, Unary;
    UserGet = auth::USER_GET, Unary;
    UserList = auth::USER_LIST, Unary;
    UserDelete = auth::USER_DELETE, Unary;
    UserChangePassword = auth::USER_CHANGE_PASSWORD, Unary;
    UserGrantRole = auth::USER_GRANT_ROLE, Unary;
    UserRevokeRole = auth::USER_REVOKE_ROLE, Unary;
    RoleAdd = auth::ROLE_ADD, Unary;
    RoleGet = auth::ROLE_GET, Unary;
    RoleList = auth::ROLE_LIST, Unary;
    RoleDelete = auth::ROLE_DELETE, Unary;
    RoleGrantPermission = auth::ROLE_GRANT_PERMISSION, Unary;
    RoleRevokePermission = auth::ROLE_REVOKE_PERMISSION, Unary;
    Lock = lock::LOCK, Unary;
    Unlock = lock::UNLOCK, Unary;
    Campaign = election::CAMPAIGN, Unary;
    Proclaim = election::PROCLAIM, Unary;
    Leader = election::LEADER, Unary;
    Observe = election::OBSERVE, ServerStream;
    Resign = election::RESIGN, Unary;
    HealthCheck = health::CHECK, Unary;
    HealthWatch = health::WATCH, ServerStream;
}

impl Call {
    /// The names of the service and of the method.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        self.path()[1..].split_once('/').unwrap_or((self.path(), ""))
    }

    /// A learner answers these; of Range only what is serializable.
    pub(crate) fn is_for_learners(self) -> bool {
        matches!(
            self,
            Call::Range | Call::Status | Call::Snapshot | Call::HealthCheck | Call::HealthWatch
        )
    }

    /// These can be asked of one range alone.
    pub(crate) fn is_for_one_range(self) -> bool {
        matches!(
            self,
            Call::Range
                | Call::Put
                | Call::Txn
                | Call::DeleteRange
                | Call::Compact
                | Call::LeaseGrant
                | Call::LeaseRevoke
                | Call::LeaseTimeToLive
                | Call::LeaseLeases
        )
    }

    /// These may wait for other clients, for as long as they like.
    pub(crate) fn may_wait(self) -> bool {
        matches!(self, Call::Lock | Call::Campaign) || self.kind() != Kind::Unary
    }
}

/// What grpc-go says of a path that names no call.
pub(crate) fn unknown(path: &str) -> String {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        return format!("malformed method name: \"{path}\"");
    };
    if proto::method::ALL.iter().any(|(known, _)| *known == service) {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_api_is_a_call() {
        let named = proto::method::ALL
            .iter()
            .flat_map(|(service, methods)| methods.iter().map(move |m| format!("/{service}/{m}")));
        let mut count = 0;
        for path in named {
            let call = Call::of(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(call.path(), path);
            count += 1;
        }
        assert_eq!(count, Call::ALL.len());
        for (index, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, index);
        }
    }

    #[test]
    fn unknown_paths_are_named() {
        assert_eq!(unknown("/a.B/C"), "unknown service a.B");
        assert_eq!(
            unknown("/etcdserverpb.KV/Frob"),
            "unknown method Frob for service etcdserverpb.KV"
        );
        assert_eq!(unknown("/health"), "malformed method name: \"/health\"");
    }
}
