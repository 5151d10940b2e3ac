//! grpc.health.v1: whether this member serves.
//!
//! Known services are the empty name (the whole server) and those that the server has. A member
//! serves as long as it runs; etcd reports no other state either, except while it defragments,
//! which does not stop anybody here.

use std::rc::Rc;

use etcd::Code;
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, HealthCheckResponse};

use crate::backend::Backend;
use crate::grpc::Status;
use crate::link::Outlet;
use crate::route::Context;

fn is_known(service: &str) -> bool {
    service.is_empty() || proto::method::ALL.iter().any(|(known, _)| *known == service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

pub(crate) async fn check<B: Backend>(
    _: Rc<Context<B>>,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    if is_known(&request.service) {
        Ok(response(ServingStatus::Serving))
    } else {
        Err(Status::new(Code::NotFound, "unknown service"))
    }
}

/// Sends the state, and then nothing: it does not change until the server stops.
pub(crate) async fn watch<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    request: HealthCheckRequest,
) -> Result<(), Status> {
    let status = match is_known(&request.service) {
        true => ServingStatus::Serving,
        false => ServingStatus::ServiceUnknown,
    };
    outlet.send(context.encode(&response(status))?).await;
    std::future::pending().await
}
