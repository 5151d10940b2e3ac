//! Users, roles and tokens: there are none yet, and authentication is off.
//!
//! What an etcd without users answers is answered, as far as an empty set of users and roles
//! decides it: that authentication is off, that there are no users and roles, that the one asked
//! for is not there. What would add one is not implemented, and says so rather than to pretend.

use std::rc::Rc;

use etcd::Error;
use proto::etcdserverpb as pb;

use crate::backend::Backend;
use crate::grpc::Status;
use crate::route::Context;

fn header<B: Backend>(context: &Context<B>) -> Option<pb::ResponseHeader> {
    context.door.header(context.door.backend.view().revision())
}

fn cannot(what: &str) -> Status {
    Status::unimplemented(format!("quorate: {what}: users and roles are not supported yet"))
}

pub(crate) fn enable(_: pb::AuthEnableRequest) -> Status {
    Error::RootUserNotExist.into()
}

/// It is off already.
pub(crate) async fn disable<B: Backend>(
    context: Rc<Context<B>>,
    _: pb::AuthDisableRequest,
) -> Result<pb::AuthDisableResponse, Status> {
    Ok(pb::AuthDisableResponse { header: header(&context) })
}

pub(crate) fn authenticate(_: pb::AuthenticateRequest) -> Status {
    Error::AuthNotEnabled.into()
}

pub(crate) fn user_add(request: pb::AuthUserAddRequest) -> Status {
    if request.name.is_empty() { Error::UserEmpty.into() } else { cannot("user add") }
}

pub(crate) fn user_get(_: pb::AuthUserGetRequest) -> Status {
    Error::UserNotFound.into()
}

pub(crate) async fn user_list<B: Backend>(
    context: Rc<Context<B>>,
    _: pb::AuthUserListRequest,
) -> Result<pb::AuthUserListResponse, Status> {
    Ok(pb::AuthUserListResponse { header: header(&context), users: Vec::new() })
}

pub(crate) fn user_delete(_: pb::AuthUserDeleteRequest) -> Status {
    Error::UserNotFound.into()
}

pub(crate) fn user_change_password(_: pb::AuthUserChangePasswordRequest) -> Status {
    Error::UserNotFound.into()
}

pub(crate) fn user_grant_role(_: pb::AuthUserGrantRoleRequest) -> Status {
    Error::UserNotFound.into()
}

pub(crate) fn user_revoke_role(_: pb::AuthUserRevokeRoleRequest) -> Status {
    Error::UserNotFound.into()
}

pub(crate) fn role_add(request: pb::AuthRoleAddRequest) -> Status {
    if request.name.is_empty() { Error::RoleEmpty.into() } else { cannot("role add") }
}

pub(crate) fn role_get(_: pb::AuthRoleGetRequest) -> Status {
    Error::RoleNotFound.into()
}

pub(crate) async fn role_list<B: Backend>(
    context: Rc<Context<B>>,
    _: pb::AuthRoleListRequest,
) -> Result<pb::AuthRoleListResponse, Status> {
    Ok(pb::AuthRoleListResponse { header: header(&context), roles: Vec::new() })
}

pub(crate) fn role_delete(_: pb::AuthRoleDeleteRequest) -> Status {
    Error::RoleNotFound.into()
}

pub(crate) fn role_grant_permission(_: pb::AuthRoleGrantPermissionRequest) -> Status {
    Error::RoleNotFound.into()
}

pub(crate) fn role_revoke_permission(_: pb::AuthRoleRevokePermissionRequest) -> Status {
    Error::RoleNotFound.into()
}
