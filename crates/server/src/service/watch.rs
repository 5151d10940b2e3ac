//! Watch.Watch.

use std::rc::Rc;

use crate::backend::Backend;
use crate::grpc::{Messages, Outlet, Status};
use crate::route::Context;

pub(crate) async fn run<B: Backend>(
    _context: Rc<Context<B>>,
    _outlet: Outlet,
    _messages: Messages,
) -> Result<(), Status> {
    Err(Status::unimplemented("watch"))
}
