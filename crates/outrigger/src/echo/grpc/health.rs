//! `grpc.health.v1.Health`: every service is well as long as the server runs. It stands in for any, so it knows none.

use std::future::poll_fn;

use super::call::Call;
use super::messages::Messages;
use super::proto::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
use super::{End, Status, code};
use crate::echo::told;

/// Answers once.
pub(super) async fn check(call: &mut Call, messages: &mut Messages) -> Result<(), End> {
    read_request(messages).await?;
    call.send_message(&told_status(ServingStatus::Serving)).await
}

/// Answers now, and once more when the server stops; stays open in between, until the client leaves.
pub(super) async fn watch(call: &mut Call, messages: &mut Messages) -> Result<(), End> {
    read_request(messages).await?;
    call.send_message(&told_status(ServingStatus::Serving)).await?;
    let mut stop = call.stop.clone();
    let stream = call.open()?;
    tokio::select! {
        () = told(&mut stop) => {}
        _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(End::Gone),
    }
    call.send_message(&told_status(ServingStatus::NotServing)).await?;
    Err(Status::new(code::UNAVAILABLE, "the server stops").into())
}

/// Which service is asked for makes no difference, but it must be asked for.
async fn read_request(messages: &mut Messages) -> Result<HealthCheckRequest, End> {
    let missing = || Status::new(code::INVALID_ARGUMENT, "a message is missing");
    Ok(messages.next_as().await?.ok_or_else(missing)?)
}

fn told_status(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
