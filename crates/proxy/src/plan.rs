//! From a request head to a decision: match the route, apply the request filters, choose the destination, and write the
//! head that will be sent on.
//!
//! All of it happens at once on the bytes of the head, without waiting, under one policy; nothing borrowed from the head
//! outlives it.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{Action, Direction, Discovery, Forward, Route, Unmatched, Workload};

use crate::answer::Answer;
use crate::balance::{Key, hash_key};
use crate::before::Applied;
use crate::failure::Reason;
use crate::flag::Flags;
use crate::forward::{Destination, Forwarding};
use crate::h1::body::Framing;
use crate::h1::head::{RequestHead, Version, split_port};
use crate::h2::request::grpc_timeout;
use crate::headers::{Edits, Nominated, append_list, is_framed_anew, is_hop_by_hop, is_identity, write_field};
use crate::overload;
use crate::policy::Policy;
use crate::proxy_protocol::Ends;
use crate::record::EndpointStats;
use crate::request::RequestView;
use crate::request_id::request_id;
use crate::route::{CompiledRoute, Table, cors, redirect, rewrite};
use crate::site::Site;
use crate::target::{HOST_BYTES_MAX, host_of, lower_case, normal_path, pod_of, split_target};
use crate::tunnel;
use crate::upgrade;
use crate::worker::{Current, Worker};

/// What an exchange is, as its head says.
pub(crate) struct Exchange {
    /// The one policy that serves it.
    pub(crate) current: Rc<Current>,
    /// Its listener and chain there.
    pub(crate) place: Place,
    /// The ends of its connection, as the client sees them.
    pub(crate) ends: Rc<Ends>,
    /// When its first byte was seen.
    pub(crate) started: Instant,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) is_head: bool,
    /// RFC 9110 §9.2.2: doing it twice is as doing it once.
    pub(crate) is_idempotent: bool,
    pub(crate) is_grpc: bool,
    /// How long a call may take, as its client says.
    pub(crate) grpc_timeout: Option<Duration>,
    /// Whether the client takes trailers (`te: trailers`), which gRPC insists on.
    pub(crate) takes_trailers: bool,
    pub(crate) expects_continue: bool,
    /// Whether the client wants to go on as WebSocket.
    pub(crate) asks_upgrade: bool,
    /// Whether it asks for a tunnel.
    pub(crate) is_connect: bool,
    /// Whether the client may send another request after this.
    pub(crate) keep_alive: Cell<bool>,
    pub(crate) bytes_received: Cell<u64>,
    pub(crate) bytes_sent: Cell<u64>,
    /// Flags that it has whatever comes of it.
    pub(crate) flags: Cell<Flags>,
    /// What came of limits and faults of its route, where it has some.
    pub(crate) applied: OnceCell<Box<Applied>>,
}

/// A listener of a policy and a chain of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    site: usize,
    chain: usize,
}

/// Who is at the other end of a client's connection, and where it came in.
#[derive(Debug)]
pub(crate) struct Client {
    /// The name of the listener.
    pub(crate) listener: Arc<str>,
    /// The server name it asked for, lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// Whether it speaks TLS to us.
    pub(crate) is_tls: bool,
    /// The workload behind its address, where that is known and of interest: on the way in.
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) address: IpAddr,
    /// The address as `X-Forwarded-For` names it, written once for all requests of the connection.
    pub(crate) address_text: Box<str>,
    /// The ends of its connection, for whom we connect to on its behalf.
    pub(crate) ends: Rc<Ends>,
    /// Whether its connection was to go elsewhere: see [`Self::original`].
    pub(crate) is_redirected: bool,
    /// Drawn when the connection was opened: cookies issued on it are made of it.
    pub(crate) nonce: u64,
}

/// What to do with it.
pub(crate) enum Plan {
    /// Send it on.
    Forward(Box<Forwarding>),
    /// Answer it.
    Answer(Answer),
    /// Refuse it.
    Fail(Refused),
}

/// A request that is not sent on.
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// The object at fault, where there is one.
    pub(crate) cause: String,
    /// Where it would have gone, for the metrics.
    pub(crate) destination: Rc<EndpointStats>,
}

impl Client {
    /// Its place in a policy; `None` when the policy has no such listener, or no chain for it.
    pub(crate) fn place(&self, policy: &Policy) -> Option<Place> {
        let (found, site) = policy.site(&self.listener)?;
        Some(Place { site, chain: found.chain(self.server_name.as_deref())? })
    }
}

impl Exchange {
    /// The listener it came in on.
    pub(crate) fn site(&self) -> &Site {
        &self.current.policy.sites[self.place.site]
    }

    /// Its routes; none where its listener relays bytes.
    pub(crate) fn routes(&self) -> Option<&Table> {
        self.site().chains[self.place.chain].routes.as_ref()
    }
}

/// Reads everything about the exchange that the decision does not need; `None` when its listener is gone.
pub(crate) fn exchange(worker: &Worker, head: &RequestHead<'_>, client: &Client, started: Instant) -> Option<Exchange> {
    let current = worker.current();
    let place = client.place(&current.policy)?;
    // What follows a CONNECT that fails may be meant for the tunnel.
    let is_connect = head.method == "CONNECT";
    let is_grpc = head.headers.iter().any(|h| {
        h.name.len() == 12
            && h.name.eq_ignore_ascii_case("content-type")
            && h.value.starts_with(b"application/grpc")
            && !h.value.starts_with(b"application/grpc-web")
    });
    Some(Exchange {
        current,
        place,
        ends: client.ends.clone(),
        started,
        version: head.version,
        framing: head.framing,
        is_head: head.method == "HEAD",
        is_idempotent: is_idempotent(head),
        is_grpc,
        grpc_timeout: if is_grpc { grpc_timeout(head.headers) } else { None },
        takes_trailers: is_grpc || (head.version == Version::Http2 && takes_trailers(head)),
        expects_continue: head.expects_continue,
        asks_upgrade: upgrade::is_asked(head),
        is_connect,
        keep_alive: Cell::new(head.keep_alive && !is_connect && !worker.draining.get()),
        bytes_received: Cell::new(head.len as u64),
        bytes_sent: Cell::new(0),
        flags: Cell::default(),
        applied: OnceCell::new(),
    })
}

/// Whether a request may be acted on twice: by its method (RFC 9110 §9.2.2), or because the application knows it again by the
/// key it carries (`Idempotency-Key`).
fn is_idempotent(head: &RequestHead<'_>) -> bool {
    matches!(head.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
        || head.headers.iter().any(|h| {
            (h.name.len() == 15 && h.name.eq_ignore_ascii_case("idempotency-key"))
                || (h.name.len() == 17 && h.name.eq_ignore_ascii_case("x-idempotency-key"))
        })
}

fn takes_trailers(head: &RequestHead<'_>) -> bool {
    head.headers.iter().any(|h| h.name == "te" && h.value == b"trailers")
}

/// Decides what to do with a request.
pub(crate) fn plan(worker: &Worker, exchange: &Exchange, head: &RequestHead<'_>, client: &Client) -> Plan {
    if worker.overload.get() >= overload::Level::Shed {
        return overload::shed(worker);
    }
    if head.method == "CONNECT" {
        return tunnel::plan(worker, exchange, head, client);
    }
    by_route(worker, exchange, head, client)
}

/// Decides by the route that the request meets.
fn by_route(worker: &Worker, exchange: &Exchange, head: &RequestHead<'_>, client: &Client) -> Plan {
    let mut lower = [0; HOST_BYTES_MAX];
    let Some(authority) = lower_case(head.target.authority, &mut lower) else {
        return refuse(worker, Reason::BadRequest("host"));
    };
    let (path, query) = split_target(head.target.path_and_query);
    let Ok(path) = normal_path(path) else {
        return refuse(worker, Reason::BadRequest("path"));
    };
    let request = RequestView {
        method: head.method.as_bytes(),
        scheme: if client.is_tls { "https" } else { "http" },
        authority: authority.as_bytes(),
        path: &path,
        query,
        headers: head.headers,
        peer: client.address,
    };
    let (host, port) = split_port(authority).unwrap_or((authority, None));
    let host = host.strip_suffix('.').unwrap_or(host);
    // A redirected connection tells by itself which port is meant.
    let stated_port = client.original().map(|to| to.port()).or_else(|| port.and_then(|p| p.parse().ok()));
    let Some(routes) = exchange.routes() else { return refuse(worker, Reason::NoHost) };
    let port = exchange.site().listener.port;
    let Some(virtual_host) = routes.host(host.as_bytes(), stated_port, port) else {
        return match routes.unmatched() {
            Unmatched::BlackHole => Plan::Fail(Refused {
                reason: Reason::BlackHole,
                cause: String::new(),
                destination: worker.recorder.black_hole(),
            }),
            // Only a client that takes us for its proxy names a destination; a bare Host is more likely misspelt.
            // A redirected connection does by its address.
            Unmatched::Passthrough if head.target.absolute || client.is_redirected => {
                let name = head.target.authority;
                let host = client.original().map_or_else(|| host_of(name), |to| to.ip().to_string());
                let destination = Destination::Passthrough { host, port: stated_port.unwrap_or(port) };
                let writer = HeadWriter { worker, exchange, head, request: &request, path: &path, client };
                writer.forwarding(destination, None, name)
            }
            Unmatched::Passthrough | Unmatched::NotFound => refuse(worker, Reason::NoHost),
        };
    };
    let Some(route) = virtual_host.find(&request) else {
        let cause = format!("virtual host {}", virtual_host.vhost.name);
        return Plan::Fail(Refused { reason: Reason::NoRoute, cause, destination: worker.recorder.nowhere() });
    };
    if let Some(before) = route.before()
        && let Some(refused) = before.apply(worker, exchange, client, &route.route)
    {
        return refused;
    }
    match &route.route.action {
        Action::Forward(forward) => {
            HeadWriter { worker, exchange, head, request: &request, path: &path, client }.forward(route, forward)
        }
        Action::Redirect(action) => {
            // A gateway knows the port it stands for; inside the mesh that is the one the client asked for.
            let stated_port = stated_port.filter(|_| exchange.site().listener.direction != Direction::Gateway);
            let local_port = stated_port.unwrap_or(port);
            let location = redirect::location(action, &route.route.matches, &request, local_port);
            Plan::Answer(Answer::of_route(&route.route, action.status, Some(("location", &location)), Arc::default()))
        }
        Action::Respond(action) => {
            let plain = (!action.body.is_empty()).then_some(("content-type", &b"text/plain"[..]));
            Plan::Answer(Answer::of_route(&route.route, action.status, plain, action.body.clone()))
        }
    }
}

/// Refuses a request that leads nowhere.
pub(crate) fn refuse(worker: &Worker, reason: Reason) -> Plan {
    Plan::Fail(Refused { reason, cause: String::new(), destination: worker.recorder.nowhere() })
}

/// The share of a destination that has no cluster.
fn no_cluster(chosen: &outrigger_model::Destination, destination: Rc<EndpointStats>) -> Plan {
    let (reason, cause) = match &chosen.missing {
        Some(missing) if missing.status == 500 => (Reason::NoClusterGateway, missing.reason.to_string()),
        Some(missing) => (Reason::NoCluster, missing.reason.to_string()),
        None => (Reason::NoCluster, chosen.cluster.to_string()),
    };
    Plan::Fail(Refused { reason, cause, destination })
}

/// Writes the head that is sent on.
struct HeadWriter<'h> {
    worker: &'h Worker,
    exchange: &'h Exchange,
    head: &'h RequestHead<'h>,
    request: &'h RequestView<'h>,
    path: &'h [u8],
    client: &'h Client,
}

impl HeadWriter<'_> {
    fn forward(&self, route: &CompiledRoute, forward: &Forward) -> Plan {
        let cors_fields = match route.route.cors.as_ref().map(|policy| cors::decide(policy, self.request)) {
            Some(cors::Decision::Preflight(fields)) => {
                let mut lines = Vec::new();
                fields.iter().for_each(|(name, value)| write_field(name, value, &mut lines));
                return Plan::Answer(Answer::configured(200, lines, Arc::default()));
            }
            Some(cors::Decision::Actual(fields)) => fields,
            None => Vec::new(),
        };
        let index = route.choose();
        let chosen = &forward.destinations[index];
        let target = self.exchange.current.target(self.worker, route, index);
        if let Some(counter) = &target.requests_total {
            counter.inc();
        }
        let cluster = match &target.cluster {
            Ok(cluster) => cluster,
            Err(destination) => return no_cluster(chosen, destination.clone()),
        };
        let rewritten = forward.rewrite.authority.as_ref().or(chosen.authority.as_ref());
        let name = rewritten.map_or(self.head.target.authority, |v| v.as_str());
        let destination = match cluster.live.model.discovery {
            Discovery::Static | Discovery::Dns | Discovery::DnsRoundRobin => Destination::Cluster(cluster.clone()),
            Discovery::PodName => Destination::Pod { cluster: cluster.clone(), pod: pod_of(name) },
            Discovery::OriginalDestination => {
                let (_, port) = split_port(name).unwrap_or((name, None));
                let port = port.and_then(|p| p.parse().ok()).unwrap_or(cluster.live.model.service.port);
                let redirected = self.client.original().map(|to| (to.ip().to_string(), to.port()));
                let (host, port) = redirected.unwrap_or_else(|| (host_of(name), port));
                Destination::Original { cluster: cluster.clone(), host, port }
            }
        };
        let mut plan = self.forwarding(destination, Some((route, forward, index)), name);
        if let Plan::Forward(forwarding) = &mut plan {
            forwarding.cors = cors_fields;
            forwarding.target = Some(target.clone());
            self.choose_key(forwarding);
        }
        plan
    }

    /// The hash that ties the request to an endpoint, and the cookie that will tie the next ones.
    fn choose_key(&self, forwarding: &mut Forwarding) {
        let Destination::Cluster(cluster) = &forwarding.destination else { return };
        use outrigger_model::BalancePolicy::{Maglev, RingHash};
        let (RingHash { key, .. } | Maglev { key, .. }) = &cluster.live.model.balance.policy else { return };
        match hash_key(key, self.request, self.client.nonce) {
            Key::Hash(hash) => forwarding.key = Some(hash),
            Key::Issue { hash, set_cookie } => {
                forwarding.key = Some(hash);
                forwarding.set_cookie = Some(set_cookie);
            }
            Key::None => {}
        }
    }

    fn forwarding(
        &self,
        destination: Destination,
        route: Option<(&CompiledRoute, &Forward, usize)>,
        authority: &str,
    ) -> Plan {
        let mut out = self.worker.buffers.take_head();
        out.extend_from_slice(self.head.method.as_bytes());
        out.push(b' ');
        let rewritten = match route {
            Some((route, forward, _)) => {
                match rewrite::write_target(&mut out, &route.route.matches, &forward.rewrite.path, self.request) {
                    Ok(rewritten) => rewritten,
                    Err(_) => return refuse(self.worker, Reason::TargetLong),
                }
            }
            None => false,
        };
        if !rewritten {
            out.extend_from_slice(self.path);
            if let Some(query) = self.request.query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        write_field("host", authority.as_bytes(), &mut out);
        let attempt_at = self.fields(
            route.map(|(route, forward, index)| (&*route.route, &forward.destinations[index])),
            rewritten,
            &mut out,
        );
        out.extend_from_slice(b"\r\n");
        Plan::Forward(Box::new(Forwarding {
            destination,
            target: None,
            head: out,
            attempt_at,
            held_body: Default::default(),
            mirrored: Default::default(),
            key: None,
            set_cookie: None,
            cors: Vec::new(),
        }))
    }

    /// Copies the fields that pass, and adds what a proxy adds; returns where the number of the try stands, if it does.
    fn fields(
        &self,
        route: Option<(&Route, &outrigger_model::Destination)>,
        rewritten: bool,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let none = outrigger_model::HeaderEdits::default();
        let edits = match route {
            Some((route, destination)) => Edits::new(&destination.request_headers, &route.request_headers),
            None => Edits::new(&none, &none),
        };
        let nominated = Nominated::of(self.head.headers);
        let site = self.exchange.site();
        let strangers = site.clients_are_strangers;
        // On the way in from a sidecar or gateway of the mesh, what a proxy says of the request is believed.
        let vouched = matches!(site.listener.direction, Direction::Inbound(_)) && self.client.workload.is_some();
        let (mut has_id, mut has_proto) = (false, false);
        let mut forwarded_for: Cow<'_, [u8]> = Cow::Borrowed(b"");
        for header in self.head.headers {
            let name = header.name;
            if is_framed_anew(name) || is_hop_by_hop(name) || (!vouched && is_identity(name)) {
                continue;
            }
            if edits.replaces(name) || nominated.contains(name) {
                continue;
            }
            match name.len() {
                6 if name.eq_ignore_ascii_case("expect") && !self.head.expects_continue => continue,
                12 if name.eq_ignore_ascii_case("x-request-id") && !header.value.is_empty() => has_id = true,
                15 if strangers && name.eq_ignore_ascii_case("x-forwarded-for") => {
                    forwarded_for = append_list(forwarded_for, header.value);
                    continue;
                }
                17 if name.eq_ignore_ascii_case("x-forwarded-proto") => {
                    if strangers {
                        continue;
                    }
                    has_proto = true;
                }
                _ => {}
            }
            write_field(name, header.value, out);
        }
        if strangers && !edits.replaces("x-forwarded-for") {
            self.write_forwarded_for(&forwarded_for, out);
        }
        if !has_proto && !edits.replaces("x-forwarded-proto") {
            write_field("x-forwarded-proto", self.request.scheme.as_bytes(), out);
        }
        if !has_id && !edits.replaces("x-request-id") {
            write_field("x-request-id", &request_id(&mut self.worker.rng.borrow_mut()), out);
        }
        let mut attempt_at = None;
        if !vouched {
            write_field("x-envoy-attempt-count", b"1", out);
            attempt_at = Some(out.len() - b"1\r\n".len());
        }
        if rewritten {
            write_field("x-envoy-original-path", self.head.target.path_and_query.as_bytes(), out);
        }
        edits.write(out);
        if self.exchange.asks_upgrade {
            upgrade::write_fields(out);
        }
        write_framing(self.head.framing, out);
        attempt_at
    }

    fn write_forwarded_for(&self, before: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"x-forwarded-for: ");
        if !before.is_empty() {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.client.address_text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the field that frames a message.
pub(crate) fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(bytes) => write_field("content-length", itoa::Buffer::new().format(bytes).as_bytes(), out),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}
