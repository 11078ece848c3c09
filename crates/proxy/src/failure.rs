//! Every reason for which the proxy itself answers, or gives an exchange up, in one table.
//!
//! The reason decides status, Envoy response flag, response-code details, the RFC 9209 error token, whose fault it was
//! and the sentence that the client reads. Names and texts follow Envoy, because people search for them.

use crate::flag::Flag;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The client's.
    Downstream,
    /// The instance's.
    Upstream,
    /// Configuration's, or ours.
    Proxy,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The request breaks HTTP; with the rule.
    BadRequest(&'static str),
    /// The target is too long.
    TargetLong,
    /// The head is too large.
    HeadLarge,
    /// A transfer coding we do not read.
    TransferCoding,
    /// An HTTP version we do not speak.
    Version,
    /// An expectation we do not know.
    Expectation,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body breaks HTTP; with the rule.
    BadBody(&'static str),
    /// The client went away.
    ClientGone,
    /// CONNECT where there is no forward proxy.
    ConnectMethod,
    /// No virtual host for the host.
    NoHost,
    /// No route in the virtual host.
    NoRoute,
    /// The host is unknown and unknown hosts are refused.
    BlackHole,
    /// The route's cluster does not exist; Istio and SMI answer 503.
    NoCluster,
    /// As [`Self::NoCluster`], where Gateway API asks for 500.
    NoClusterGateway,
    /// The cluster has no endpoint to pick.
    NoEndpoint,
    /// The host's name does not resolve.
    Unresolved,
    /// The destination is this proxy itself.
    Loop,
    /// Connecting was refused or failed.
    ConnectFailure,
    /// Connecting took too long.
    ConnectTimeout,
    /// The upstream closed or reset before its answer.
    UpstreamClosed,
    /// The upstream's answer breaks HTTP; with the rule.
    UpstreamProtocol(&'static str),
    /// The upstream sent nothing for too long.
    UpstreamIdle,
    /// The answer was not complete within the route's `timeout`.
    RouteTimeout,
    /// The answer did not begin within the time of one try.
    PerTryTimeout,
    /// The call was not complete within the time that its client gave it (`grpc-timeout`).
    CallTimeout,
    /// The upstream reset the stream of the request.
    UpstreamReset,
    /// The answer, of this status, was given up for another try or for what stands in for it.
    Declined(u16),
    /// A limit of `connectionPool` is reached; with its name.
    Overflow(&'static str),
    /// The circuit is open.
    CircuitOpen,
    /// As many calls as the circuit lets through at one time are under way.
    CircuitFull,
    /// The circuit's own time for a call is over.
    CircuitTimeout,
    /// A fault of the route, with its status.
    Fault(u16),
    /// A fault of the route, with its status of gRPC.
    FaultGrpc(u8),
    /// A rate limit.
    RateLimited,
    /// The request body is longer than the route allows.
    RequestLong,
    /// The answer is longer than the route allows.
    AnswerLong,
    /// There is no memory for one more request.
    Overload,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Status to answer with; 0: no answer is possible.
    pub(crate) status: u16,
    /// Envoy's short response flag.
    pub(crate) flag: Flag,
    /// `response_code_details`.
    pub(crate) details: &'static str,
    /// RFC 9209 `error`.
    pub(crate) error: &'static str,
    /// Whose fault.
    pub(crate) blame: Blame,
    /// What the client reads first: Envoy's words where it has some.
    pub(crate) text: &'static str,
    /// What the operator should look at.
    pub(crate) advice: &'static str,
}

impl Reason {
    /// Whether there was no connection to be had: nobody has seen anything of the request.
    pub(crate) fn is_connect(self) -> bool {
        matches!(self, Self::ConnectFailure | Self::ConnectTimeout)
    }

    /// Its row.
    pub(crate) fn row(self) -> Row {
        let (status, flag, details, error) = self.verdict();
        let (text, advice) = self.words();
        Row { status, flag, details, error, blame: self.blame(), text, advice }
    }

    /// Status, flag, details and RFC 9209 error.
    fn verdict(self) -> (u16, Flag, &'static str, &'static str) {
        match self {
            Self::BadRequest(rule) => (400, Flag::DownstreamProtocolError, rule, "http_request_error"),
            Self::TargetLong => (414, Flag::DownstreamProtocolError, "uri_too_long", "http_request_error"),
            Self::HeadLarge => (431, Flag::DownstreamProtocolError, "request_headers_too_large", "http_request_error"),
            Self::TransferCoding => (501, Flag::DownstreamProtocolError, "transfer_coding", "http_request_error"),
            Self::Version => (505, Flag::DownstreamProtocolError, "http_version", "http_request_error"),
            Self::Expectation => (417, Flag::DownstreamProtocolError, "expectation", "http_request_error"),
            Self::HeadTimeout => (408, Flag::DownstreamProtocolError, "request_header_timeout", "http_request_error"),
            Self::BodyTimeout => (408, Flag::StreamIdleTimeout, "stream_idle_timeout", "http_request_error"),
            Self::BadBody(rule) => (400, Flag::DownstreamProtocolError, rule, "http_request_error"),
            Self::ClientGone => {
                (0, Flag::DownstreamConnectionTermination, "downstream_remote_disconnect", "connection_terminated")
            }
            Self::ConnectMethod => (405, Flag::NoRouteFound, "connect_unsupported", "http_request_denied"),
            Self::NoHost | Self::NoRoute => (404, Flag::NoRouteFound, "route_not_found", "destination_not_found"),
            Self::BlackHole => (502, Flag::NoRouteFound, "direct_response{block_all}", "destination_not_found"),
            Self::NoCluster => (503, Flag::NoClusterFound, "cluster_not_found", "destination_not_found"),
            Self::NoClusterGateway => (500, Flag::NoClusterFound, "cluster_not_found", "destination_not_found"),
            Self::NoEndpoint => (503, Flag::NoHealthyUpstream, "no_healthy_upstream", "destination_unavailable"),
            Self::Unresolved => (503, Flag::DnsResolutionFailed, "dns_resolution_failure", "dns_error"),
            Self::Loop => (508, Flag::NoRouteFound, "loop_detected", "proxy_loop_detected"),
            _ => self.verdict_of_upstream(),
        }
    }

    /// The same for what became of a request that was sent on.
    fn verdict_of_upstream(self) -> (u16, Flag, &'static str, &'static str) {
        match self {
            Self::ConnectFailure => (
                503,
                Flag::UpstreamConnectionFailure,
                "upstream_reset_before_response_started{connection_failure}",
                "connection_refused",
            ),
            Self::ConnectTimeout => (
                503,
                Flag::UpstreamConnectionFailure,
                "upstream_reset_before_response_started{connection_failure}",
                "connection_timeout",
            ),
            Self::UpstreamClosed => (
                503,
                Flag::UpstreamConnectionTermination,
                "upstream_reset_before_response_started{connection_termination}",
                "connection_terminated",
            ),
            Self::UpstreamProtocol(_) => (
                502,
                Flag::UpstreamProtocolError,
                "upstream_reset_before_response_started{protocol_error}",
                "http_protocol_error",
            ),
            Self::UpstreamIdle => (504, Flag::StreamIdleTimeout, "stream_idle_timeout", "http_response_timeout"),
            Self::RouteTimeout => (504, Flag::UpstreamRequestTimeout, "response_timeout", "http_response_timeout"),
            Self::PerTryTimeout => {
                (504, Flag::UpstreamRequestTimeout, "upstream_per_try_timeout", "http_response_timeout")
            }
            Self::CallTimeout => (
                504,
                Flag::UpstreamMaxStreamDurationReached,
                "upstream_max_stream_duration_reached",
                "http_response_timeout",
            ),
            Self::UpstreamReset => (
                503,
                Flag::UpstreamRemoteReset,
                "upstream_reset_before_response_started{remote_reset}",
                "connection_terminated",
            ),
            Self::Declined(status) => (status, Flag::None, "via_upstream", "http_response_incomplete"),
            _ => self.verdict_of_policies(),
        }
    }

    /// The same for what a policy of the operator asks for.
    fn verdict_of_policies(self) -> (u16, Flag, &'static str, &'static str) {
        match self {
            Self::Overflow(_) => (
                503,
                Flag::UpstreamOverflow,
                "upstream_reset_before_response_started{overflow}",
                "connection_limit_reached",
            ),
            Self::CircuitOpen => (503, Flag::UpstreamOverflow, "circuit_open", "destination_unavailable"),
            Self::CircuitFull => (503, Flag::UpstreamOverflow, "circuit_full", "connection_limit_reached"),
            Self::CircuitTimeout => (504, Flag::UpstreamRequestTimeout, "circuit_timeout", "http_response_timeout"),
            Self::Fault(status) => (status, Flag::FaultInjected, "fault_filter_abort", "proxy_configuration_error"),
            Self::FaultGrpc(_) => (200, Flag::FaultInjected, "fault_filter_abort", "proxy_configuration_error"),
            Self::RateLimited => (429, Flag::RateLimited, "local_rate_limited", "http_request_denied"),
            Self::RequestLong => {
                (413, Flag::DownstreamProtocolError, "request_payload_too_large", "http_request_error")
            }
            Self::AnswerLong => {
                (502, Flag::UpstreamProtocolError, "response_payload_too_large", "http_response_body_size")
            }
            Self::Overload => (503, Flag::OverloadManager, "overload_manager", "proxy_internal_error"),
            _ => unreachable!("a reason has a verdict here or above"),
        }
    }

    fn blame(self) -> Blame {
        match self {
            Self::BadRequest(_)
            | Self::TargetLong
            | Self::HeadLarge
            | Self::TransferCoding
            | Self::Version
            | Self::Expectation
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::BadBody(_)
            | Self::ClientGone
            | Self::RateLimited
            | Self::RequestLong
            | Self::ConnectMethod => Blame::Downstream,
            Self::NoHost
            | Self::NoRoute
            | Self::BlackHole
            | Self::NoCluster
            | Self::NoClusterGateway
            | Self::NoEndpoint
            | Self::Unresolved
            | Self::Overflow(_)
            | Self::CircuitOpen
            | Self::CircuitFull
            | Self::Fault(_)
            | Self::FaultGrpc(_)
            | Self::Overload
            | Self::Loop => Blame::Proxy,
            Self::ConnectFailure
            | Self::ConnectTimeout
            | Self::UpstreamClosed
            | Self::UpstreamProtocol(_)
            | Self::UpstreamIdle
            | Self::RouteTimeout
            | Self::PerTryTimeout
            | Self::CallTimeout
            | Self::CircuitTimeout
            | Self::AnswerLong
            | Self::Declined(_)
            | Self::UpstreamReset => Blame::Upstream,
        }
    }

    /// The client's sentence and the operator's.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest(_) => ("bad request", "The request head is not valid HTTP; the details name the rule."),
            Self::TargetLong => ("uri too long", "The request target is longer than 16 KiB."),
            Self::HeadLarge => {
                ("request header fields too large", "The request head has more than 60 KiB or 100 fields.")
            }
            Self::TransferCoding => ("not implemented", "Only the transfer coding `chunked` is read."),
            Self::Version => {
                ("http version not supported", "This port speaks HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge.")
            }
            Self::Expectation => ("expectation failed", "Only `Expect: 100-continue` is known."),
            Self::HeadTimeout => ("request timeout", "The request head did not arrive within 10 s."),
            Self::BodyTimeout => ("stream timeout", "No byte of the request body arrived for 30 s."),
            Self::BadBody(_) => ("bad request", "The chunked body is not valid; the details name the rule."),
            Self::ClientGone => ("", "The client closed the connection before the answer was complete."),
            Self::ConnectMethod => {
                ("method not allowed", "CONNECT is served on the outbound port only: nothing else is a forward proxy.")
            }
            _ => self.words_of_ours(),
        }
    }

    /// The same for what is not the client's fault.
    fn words_of_ours(self) -> (&'static str, &'static str) {
        match self {
            Self::NoHost => (
                "no route for this host",
                "No Service, ServiceEntry, VirtualService or HTTPRoute that this proxy may see has this host and port; check \
                 the spelling, the port, exportTo and Sidecar scope.",
            ),
            Self::NoRoute => (
                "no route matched",
                "The host is known, but no rule for it matches this request; add a rule without match as the last one of \
                 its VirtualService or HTTPRoute.",
            ),
            Self::BlackHole => (
                "unknown destination refused",
                "outboundTrafficPolicy is REGISTRY_ONLY and nothing in the configuration has this host; add a \
                 ServiceEntry for it.",
            ),
            Self::NoCluster | Self::NoClusterGateway => (
                "no cluster for this route",
                "The route names a host or subset that is not defined; the diagnostics at start-up name it.",
            ),
            Self::NoEndpoint => (
                "no healthy upstream",
                "The destination has no ready endpoint; check its EndpointSlices, its pods' readiness and the subset's \
                 labels.",
            ),
            Self::Unresolved => ("dns resolution failure", "The host's name does not resolve here."),
            Self::Loop => ("loop detected", "The destination is an address of this proxy itself."),
            Self::ConnectFailure => (
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
                "The instance refused the connection; check that it listens on the endpoint's address and port.",
            ),
            Self::ConnectTimeout => (
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
                "The instance did not accept the connection in time; a network policy or a full backlog may be why.",
            ),
            Self::UpstreamClosed => (
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                "The instance closed the connection before it answered; look at its log at this time.",
            ),
            Self::UpstreamProtocol(_) => (
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                "The instance's answer is not valid HTTP; does this port speak another protocol?",
            ),
            Self::UpstreamIdle => ("stream timeout", "The instance sent nothing for 5 minutes."),
            Self::RouteTimeout => (
                "upstream request timeout",
                "The answer was not complete within the route's `timeout` (HTTPRoute: `timeouts.request`).",
            ),
            Self::PerTryTimeout => (
                "upstream request timeout",
                "The answer did not begin within the `perTryTimeout` of the route (HTTPRoute: `timeouts.backendRequest`).",
            ),
            Self::CallTimeout => (
                "call deadline exceeded",
                "The call was not complete within its `grpc-timeout`, which the client sets: its deadline.",
            ),
            Self::UpstreamReset => (
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
                "The instance reset the stream of the request; look at its log at this time.",
            ),
            _ => self.words_of_policies(),
        }
    }

    /// The same for what a policy of the operator asks for.
    fn words_of_policies(self) -> (&'static str, &'static str) {
        match self {
            Self::Overflow(_) => (
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                "As many connections or requests are under way as the DestinationRule's `connectionPool` allows; the rule \
                 names the field.",
            ),
            Self::Declined(_) => (
                "upstream answer given up",
                "The instance's answer was given up for another try, which could not be made.",
            ),
            Self::CircuitOpen => (
                "circuit open",
                "The circuit breaker lets no call through for now; `outrigger circuits`, or GET /api/v1/circuits on the \
                 admin port, says why and until when.",
            ),
            Self::CircuitFull => {
                ("circuit full", "As many calls are under way as the circuit breaker's `maxConcurrentRequests` allows.")
            }
            Self::CircuitTimeout => (
                "upstream request timeout",
                "The answer did not begin within the circuit breaker's `timeoutInMilliseconds`.",
            ),
            Self::Fault(_) | Self::FaultGrpc(_) => {
                ("fault filter abort", "The route's `fault.abort` asks for this answer: nothing was sent on.")
            }
            Self::RateLimited => (
                "local_rate_limited",
                "A RateLimit of this route allows no more requests now; `Retry-After` says when.",
            ),
            Self::RequestLong => {
                ("Payload Too Large", "The request body is longer than `bodies.requestBytes` of the route's RateLimit.")
            }
            Self::AnswerLong => {
                ("response too large", "The answer is longer than `bodies.responseBytes` of the route's RateLimit.")
            }
            Self::Overload => (
                "proxy overloaded",
                "The proxy's memory is nearly used up; raise the memory limit of its container or lower the load.",
            ),
            _ => unreachable!("a reason has words here or above"),
        }
    }

    /// The `grpc-status` of a call that ends so: that of gRPC's table for HTTP statuses, as in Envoy, but for deadlines,
    /// which have one of their own.
    pub(crate) fn grpc_status(self) -> u8 {
        match self {
            Self::RouteTimeout | Self::PerTryTimeout | Self::CallTimeout | Self::UpstreamIdle => DEADLINE_EXCEEDED,
            Self::CircuitTimeout => DEADLINE_EXCEEDED,
            Self::ClientGone => CANCELLED,
            Self::FaultGrpc(status) => status,
            _ => grpc_status_of(self.row().status),
        }
    }

    /// The rule that was broken, where there is one.
    pub(crate) fn rule(self) -> Option<&'static str> {
        match self {
            Self::BadRequest(rule) | Self::BadBody(rule) | Self::UpstreamProtocol(rule) | Self::Overflow(rule) => {
                Some(rule)
            }
            _ => None,
        }
    }
}

/// gRPC's status `CANCELLED`.
const CANCELLED: u8 = 1;
/// gRPC's status `DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: u8 = 4;

/// What gRPC makes of a status of HTTP (its `http-grpc-status-mapping`).
pub(crate) fn grpc_status_of(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
