//! Every bound and time limit of the data plane, with its unit, default and reason.
//!
//! No default hides in code elsewhere. All of them are on without configuration.

use std::time::Duration;

/// Limits and time limits of one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest request or response head in bytes; more gets 431 (requests) or 502 (responses). 60 KiB, as Envoy, so that
    /// what passed there passes here.
    pub head_bytes_max: usize,
    /// Longest request target in bytes; more gets 414.
    pub target_bytes_max: usize,
    /// From the first byte of a request to the end of its head; then 408. 10 s: heads are one or two packets.
    pub head_timeout: Duration,
    /// From accept to the first byte of the first request. 60 s; 10 s at a gateway, where strangers may be slow on purpose.
    pub first_byte_timeout: Duration,
    /// From accept to the end of a TLS handshake, where a listener may speak TLS. 5 s: two round trips and a signature; who
    /// takes longer has gone, or wants to tie up connections.
    pub handshake_timeout: Duration,
    /// How long a client may be silent where its first bytes decide between HTTP and something else; then its connection
    /// is relayed, as one of a protocol in which the server speaks first. 3 s: no client of HTTP takes so long, and people
    /// bear it once a connection. `protocolDetectionTimeout` of the mesh overrides it.
    pub detect_timeout: Duration,
    /// From accept to the end of a PROXY protocol header, where a listener takes them. 1 s: it is one packet, and the first.
    pub proxy_header_timeout: Duration,
    /// Without a byte in either direction of a connection whose bytes are relayed, tunnels of CONNECT among
    /// them. 1 h, as Envoy.
    pub tcp_idle_timeout: Duration,
    /// Without a byte in either direction of a connection that has become a WebSocket. 5 min, Envoy's stream idle timeout;
    /// clients and servers of WebSocket send pings well within it.
    pub upgrade_idle_timeout: Duration,
    /// Between requests of a kept connection. 1 h, as Envoy: longer than any client's pool should hold it; 60 s at a
    /// gateway, whose clients are many and seldom come back.
    pub idle_timeout: Duration,
    /// Without a byte of the request body; then 408. 30 s.
    pub body_idle_timeout: Duration,
    /// Without a byte from the upstream while an answer is due; then 504, or the connection is cut when the answer has
    /// begun. 5 min, Envoy's stream idle timeout.
    pub upstream_idle_timeout: Duration,
    /// For 16 KiB of a write, or what is left of it. 30 s: a peer that reads nothing, or a byte at a time, holds memory.
    pub write_stall_timeout: Duration,
    /// How long an upstream connection may lie idle. 4 s: shorter than the 5 s after which common servers close, which
    /// is the race behind most 503s on kept connections.
    pub pool_idle_timeout: Duration,
    /// Idle connections kept per endpoint and worker.
    pub pool_idle_max: usize,
    /// Name resolution of hosts that no configuration names; also how long a request waits for the first answer for names
    /// that configuration has. 4 s: two tries of 2 s.
    pub resolve_timeout: Duration,
    /// How long a name server may take to answer a question. 2 s.
    pub dns_timeout: Duration,
    /// How often a question is asked before the lookup has failed. Twice: a packet may be lost.
    pub dns_tries: u32,
    /// An answer of a name server holds at least so long, whatever it says itself. 1 s: names without any time to live
    /// would be asked for without pause.
    pub dns_ttl_min: Duration,
    /// An answer holds at most so long. 1 h: mistakes must end.
    pub dns_ttl_max: Duration,
    /// How long addresses are used after their answer has expired, while there is no new one. 5 min: an outage of the DNS
    /// is none of the services, but addresses that nobody confirms may belong to others one day.
    pub dns_stale_max: Duration,
    /// From a failed lookup to the next; twice as long after each more. 1 s.
    pub dns_retry_min: Duration,
    /// The longest time between lookups that fail. 60 s, as Istio.
    pub dns_retry_max: Duration,
    /// How long the start of the process waits for the first answers. 2 s: one try.
    pub dns_start_timeout: Duration,
    /// Names that are looked up, of all proxies of the process; more have no addresses. 10,000.
    pub dns_names_max: usize,
    /// Addresses of a name that are used; more are left out. 64: enough to spread load over, few enough for everything
    /// that is kept for each endpoint.
    pub dns_addresses_max: usize,
    /// Lookups under way at once; others wait. 32, which are 64 questions: those for IPv4 and IPv6.
    pub dns_lookups_max: usize,
    /// Bytes and time spent on the rest of a request whose answer is already sent, so that the client gets to read it.
    pub linger_bytes_max: usize,
    /// See `linger_bytes_max`. 1 s.
    pub linger_timeout: Duration,
    /// Interim (1xx) answers an upstream may send before the final one; more is a protocol error.
    pub interim_max: u32,
    /// How long a drain leaves idle connections open, so that a request already on its way is answered, with
    /// `connection: close`; also the quiet after which a draining proxy takes it that nobody comes any more. 1 s.
    pub drain_idle: Duration,
    /// Requests still on their way so long after a drain began are cut. 30 s.
    pub drain_timeout: Duration,
    /// How long a draining proxy still accepts while connections keep coming. 5 s: endpoint lists lag behind.
    pub drain_accept: Duration,
    /// Downstream connections of one worker; more are closed at once.
    pub connections_max: usize,
    /// Requests that one worker holds back at once because of an injected delay; more go on without one. 1024: as many as
    /// a test of patience needs, and not all that a worker can bear.
    pub fault_delays_max: usize,
    /// The folder in which the system shows the cgroup of the process. `/sys/fs/cgroup`, as in every container.
    pub cgroup_folder: &'static str,
    /// Memory of the cgroup in use, in percent of its limit and without files that nobody used lately, from which on idle
    /// connections of clients are closed and none is kept alive. 80.
    pub overload_drain_percent: u32,
    /// The same from which on new requests get 503 with flag OM. 90.
    pub overload_shed_percent: u32,
    /// The same from which on new connections are closed at once. 95: what is left is for requests on their way.
    pub overload_refuse_percent: u32,
    /// How far use must fall below the beginning of such a level for the level to end. 3: else each request that ends
    /// would end it, and the next begin it.
    pub overload_gap_percent: u32,
    /// Mirrored requests under way in one worker; more are not sent. 256: a mirror that answers in 100 ms keeps up with
    /// 2500 requests a second.
    pub mirrors_max: usize,
    /// Bytes of one request body that wait for a mirror; when there are more, the mirror is given up. 1 MiB: longer than
    /// a mirror of the same speed ever falls behind.
    pub mirror_bytes_max: usize,
    /// Bytes of all request bodies that wait for mirrors in one worker; what finds no room is not mirrored. 8 MiB.
    pub mirror_bytes_total_max: usize,
    /// Requests at once on one connection of HTTP/2, of a client, and to an endpoint until it names its own number; more are
    /// refused, which clients repeat. 100, as Envoy at the edge and HAProxy.
    pub h2_streams_max: u32,
    /// Bytes of a request that a client of HTTP/2 may send before they are taken. 64 KiB.
    pub h2_stream_window: u32,
    /// The same for all requests of a connection. 1 MiB.
    pub h2_connection_window: u32,
    /// Bytes of an answer that an endpoint may send over HTTP/2 before they are taken. 64 KiB: a client that reads none of a
    /// hundred answers holds so much of each.
    pub h2_upstream_stream_window: u32,
    /// The same for all answers of a connection. 1 MiB; more where more answers than that are under way, so that clients who
    /// do not read theirs hold up nobody else's.
    pub h2_upstream_connection_window: u32,
    /// Bytes of one message that wait to be written to a peer of HTTP/2. 64 KiB.
    pub h2_send_buffer_max: usize,
    /// What small DATA frames that nobody has taken yet may cost, in bytes that they lack to 256. 4 MiB: 16,000 frames, which
    /// one client of gRPC sends in a moment.
    pub h2_small_data_max: usize,
    /// Silence of a peer of HTTP/2 with open requests after which it is asked whether it is there (PING). 10 s.
    pub h2_ping_interval: Duration,
    /// How long it may take to answer. 3 s.
    pub h2_ping_timeout: Duration,
    /// How long a connection of HTTP/2 to an endpoint may lie idle, where its cluster does not say. 90 s: that it is there is
    /// asked anew with each request.
    pub h2_pool_idle_timeout: Duration,
    /// From the end of a mirrored request to the end of its answer, where the route has no timeout. 15 s, Envoy's
    /// timeout of a route that names none.
    pub mirror_timeout: Duration,
}

impl Settings {
    /// The same for a gateway: strangers get less patience.
    pub fn at_the_edge(self) -> Self {
        Self { first_byte_timeout: Duration::from_secs(10), idle_timeout: Duration::from_secs(60), ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head_bytes_max: 60 * 1024,
            target_bytes_max: 16 * 1024,
            head_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(5),
            detect_timeout: Duration::from_secs(3),
            proxy_header_timeout: Duration::from_secs(1),
            tcp_idle_timeout: Duration::from_secs(3600),
            upgrade_idle_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(3600),
            body_idle_timeout: Duration::from_secs(30),
            upstream_idle_timeout: Duration::from_secs(300),
            write_stall_timeout: Duration::from_secs(30),
            pool_idle_timeout: Duration::from_secs(4),
            pool_idle_max: 1024,
            resolve_timeout: Duration::from_secs(4),
            dns_timeout: Duration::from_secs(2),
            dns_tries: 2,
            dns_ttl_min: Duration::from_secs(1),
            dns_ttl_max: Duration::from_secs(3600),
            dns_stale_max: Duration::from_secs(300),
            dns_retry_min: Duration::from_secs(1),
            dns_retry_max: Duration::from_secs(60),
            dns_start_timeout: Duration::from_secs(2),
            dns_names_max: 10_000,
            dns_addresses_max: 64,
            dns_lookups_max: 32,
            linger_bytes_max: 64 * 1024,
            linger_timeout: Duration::from_secs(1),
            interim_max: 16,
            drain_idle: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            drain_accept: Duration::from_secs(5),
            connections_max: 65_536,
            fault_delays_max: 1024,
            cgroup_folder: "/sys/fs/cgroup",
            overload_drain_percent: 80,
            overload_shed_percent: 90,
            overload_refuse_percent: 95,
            overload_gap_percent: 3,
            mirrors_max: 256,
            mirror_bytes_max: 1024 * 1024,
            mirror_bytes_total_max: 8192 * 1024,
            h2_streams_max: 100,
            h2_stream_window: 64 * 1024,
            h2_connection_window: 1024 * 1024,
            h2_upstream_stream_window: 64 * 1024,
            h2_upstream_connection_window: 1024 * 1024,
            h2_send_buffer_max: 64 * 1024,
            h2_small_data_max: 4 * 1024 * 1024,
            h2_ping_interval: Duration::from_secs(10),
            h2_ping_timeout: Duration::from_secs(3),
            h2_pool_idle_timeout: Duration::from_secs(90),
            mirror_timeout: Duration::from_secs(15),
        }
    }
}
