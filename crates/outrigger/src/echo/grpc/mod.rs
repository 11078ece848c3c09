//! gRPC of an echo server: the calls that it answers by itself, and one answer to every message of all others.
//!
//! A call to any method gets, for each message as it arrives, one whose bytes are the JSON that plain HTTP gets: a unary
//! call one answer, a stream as many as it sends. The methods of `outrigger.echo.v1.Echo` ([`proto`]) put it into a message
//! that clients can decode, and are described, with all others, by server reflection ([`reflection`]). [`health`] is
//! what a kubelet asks for.
//!
//! Messages are not compressed. No length that a client names is believed before the bytes are there.

mod call;
mod descriptor;
mod health;
mod messages;
mod proto;
mod reflection;
mod schema;

use super::answer::Answer;
use super::head::{Head, Received};
use super::http2::{Exchange, Gone};
use super::instructions::Abort;
use super::limits;
use super::listen::Listen;
use super::reply::Reply;
use call::{Call, Outgoing};
use messages::Messages;
use prost::Message;
use proto::{EchoRequest, EchoResponse};

/// The numbers of gRPC's statuses that are used here.
mod code {
    pub(super) const OK: u16 = 0;
    pub(super) const INVALID_ARGUMENT: u16 = 3;
    pub(super) const NOT_FOUND: u16 = 5;
    pub(super) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(super) const UNIMPLEMENTED: u16 = 12;
    pub(super) const INTERNAL: u16 = 13;
    pub(super) const UNAVAILABLE: u16 = 14;
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    code: u16,
    message: String,
}

/// Why a call goes no further.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody is there to be told.
    Gone,
    /// This is to be told.
    Status(Status),
    /// It is to break off here, as asked.
    Abort,
}

impl Status {
    fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The JSON in an answer of `outrigger.echo.v1.Echo`, if it is one.
pub(crate) fn json_of(message: &[u8]) -> Option<String> {
    EchoResponse::decode(message).ok().map(|answer| answer.json).filter(|json| !json.is_empty())
}

/// Answers one call.
pub(super) async fn serve(mut exchange: Exchange) {
    let plan = match exchange.plan.clone() {
        Ok(plan) => plan,
        Err(problem) => {
            let status = Status::new(code::INVALID_ARGUMENT, problem);
            return Call::new(exchange, Default::default()).0.finish(status);
        }
    };
    if exchange.wait(plan.delay).await.is_err() {
        return;
    }
    if plan.abort == Some(Abort::Before) {
        return exchange.respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }
    if plan.status != 200 {
        let reply = Reply::planned(plan, &exchange.head, &Received::default(), &exchange.listen);
        // A client that is gone needs no answer.
        let _ = exchange.send(reply).await;
        return;
    }
    let asked = plan.grpc_status;
    let (mut call, mut messages) = Call::new(exchange, plan);
    let status = match asked {
        Some(asked) => Status::new(asked, "asked for by x-echo instructions"),
        None => match answer(&mut call, &mut messages).await {
            Ok(()) => Status::new(code::OK, ""),
            Err(End::Status(status)) => status,
            Err(End::Abort) => return call.break_off().await,
            // A stream that is dropped is reset.
            Err(End::Gone) => return,
        },
    };
    call.finish(status);
}

/// Answers all messages of a call.
async fn answer(call: &mut Call, messages: &mut Messages) -> Result<(), End> {
    // Clients send neither query nor fragment.
    let method = call.head.target.clone();
    match &*method {
        "/outrigger.echo.v1.Echo/Unary" | "/outrigger.echo.v1.Echo/Bidi" => {
            while let Some(request) = messages.next_as::<EchoRequest>().await? {
                let answer = call.response(messages, request.payload);
                call.send_echo(answer).await?;
            }
            Ok(())
        }
        "/outrigger.echo.v1.Echo/ServerStream" => server_stream(call, messages).await,
        "/outrigger.echo.v1.Echo/ClientStream" => {
            let mut last = Vec::new();
            while let Some(request) = messages.next_as::<EchoRequest>().await? {
                last = request.payload;
            }
            let answer = call.response(messages, last);
            call.send_echo(answer).await
        }
        "/grpc.health.v1.Health/Check" => health::check(call, messages).await,
        "/grpc.health.v1.Health/Watch" => health::watch(call, messages).await,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => reflection::serve(call, messages).await,
        _ => {
            while messages.next().await? {
                let json = Answer::new(&call.head, messages.received(), &call.listen).to_bytes();
                call.send(Outgoing::new(json, call.plan.body_bytes)).await?;
            }
            Ok(())
        }
    }
}

/// As many answers to one message as it asks for.
async fn server_stream(call: &mut Call, messages: &mut Messages) -> Result<(), End> {
    let none = || Status::new(code::INVALID_ARGUMENT, "a message is missing");
    let request = messages.next_as::<EchoRequest>().await?.ok_or_else(none)?;
    if !(0..=limits::ANSWERS_MAX).contains(&request.count) {
        let problem = format!("count {}: expected 0 to {}", request.count, limits::ANSWERS_MAX);
        return Err(Status::new(code::INVALID_ARGUMENT, problem).into());
    }
    // Protobuf leaves zero out: whoever says nothing gets one.
    let answer = call.response(messages, request.payload);
    for _ in 0..request.count.max(1) {
        call.send_echo(answer.clone()).await?;
    }
    Ok(())
}

impl Call {
    /// The answer of `outrigger.echo.v1.Echo` to what came so far.
    fn response(&self, messages: &Messages, payload: Vec<u8>) -> EchoResponse {
        let json = Answer::new(&self.head, messages.received(), &self.listen).to_bytes();
        EchoResponse {
            pod: self.listen.identity.pod.clone(),
            json: String::from_utf8(json).expect("JSON is UTF-8"),
            payload,
            messages: messages.count(),
        }
    }
}
