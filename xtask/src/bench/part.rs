//! The parts of the comparison: what each measures, on which proxies, with which load.

use clap::ValueEnum;

use crate::bench::Name;

/// What `--only` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// CPU per HTTP/1.1 request.
    Http1,
    /// CPU per HTTP/2 request, with HTTP/2 to the backend.
    H2,
    /// CPU per gRPC call: unary, small messages.
    Grpc,
    /// CPU of a TCP relay: per small request and per gigabyte.
    Tcp,
    /// Resident memory of an idle connection, HTTP/1.1 and HTTP/2.
    Idle,
}

/// One table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// HTTP/1.1 to HTTP/1.1.
    Http1,
    /// HTTP/2 to HTTP/2.
    H2,
    /// gRPC, HTTP/2 to HTTP/2.
    Grpc,
    /// Small HTTP/1.1 requests through a relay that knows nothing of HTTP.
    TcpRequests,
    /// Large downloads through the same.
    TcpBytes,
    /// Idle HTTP/1.1 connections.
    IdleHttp1,
    /// Idle HTTP/2 connections.
    IdleH2,
}

/// Streams on each HTTP/2 connection of the load.
pub(crate) const STREAMS: u32 = 16;
/// HTTP/2 connections of the load. Few, as between services, and the requests under way are twice those of HTTP/1.1.
pub(crate) const H2_CONNECTIONS: u32 = 8;
/// Downloads that run at once through a relay.
pub(crate) const DOWNLOADS_AT_ONCE: u32 = 4;
/// Size of one download.
pub(crate) const DOWNLOAD_BYTES: u64 = 256 * 1024 * 1024;
/// Downloads in a round.
pub(crate) const DOWNLOADS: u32 = 16;

impl Group {
    /// The parts it stands for.
    pub(crate) const fn parts(self) -> &'static [Part] {
        match self {
            Self::Http1 => &[Part::Http1],
            Self::H2 => &[Part::H2],
            Self::Grpc => &[Part::Grpc],
            Self::Tcp => &[Part::TcpRequests, Part::TcpBytes],
            Self::Idle => &[Part::IdleHttp1, Part::IdleH2],
        }
    }
}

impl Part {
    /// Its name in the report and in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
            Self::TcpRequests => "tcp-requests",
            Self::TcpBytes => "tcp-bytes",
            Self::IdleHttp1 => "idle-http1",
            Self::IdleH2 => "idle-h2",
        }
    }

    /// Whether a proxy takes part. nginx speaks no HTTP/2 to its backends, its relay is a package of its own, and its
    /// connections have their memory from the start.
    pub(crate) fn takes(self, name: Name) -> bool {
        match name {
            Name::Direct => !self.is_idle(),
            Name::Nginx => self == Self::Http1,
            Name::HaproxySplice => self.is_relay(),
            Name::Haproxy | Name::Envoy | Name::Outrigger => true,
        }
    }

    /// Whether the proxies relay bytes here and know nothing of HTTP.
    pub(crate) const fn is_relay(self) -> bool {
        matches!(self, Self::TcpRequests | Self::TcpBytes)
    }

    /// Whether the proxies speak HTTP/2 here, on both sides.
    pub(crate) const fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::Grpc | Self::IdleH2)
    }

    /// Whether connections do nothing here.
    pub(crate) const fn is_idle(self) -> bool {
        matches!(self, Self::IdleHttp1 | Self::IdleH2)
    }

    /// What is compared: a heading, and the name in JSON.
    pub(crate) const fn cost(self) -> (&'static str, &'static str) {
        match self {
            Self::Http1 | Self::H2 | Self::Grpc | Self::TcpRequests => ("CPU µs/request", "cpu_us_per_request"),
            Self::TcpBytes => ("CPU ms/GB", "cpu_ms_per_gigabyte"),
            Self::IdleHttp1 | Self::IdleH2 => ("KiB/connection", "resident_kib_per_connection"),
        }
    }

    /// How fast it went: a heading, and the name in JSON.
    pub(crate) const fn rate(self) -> (&'static str, &'static str) {
        match self {
            Self::TcpBytes => ("MB/s", "megabytes_per_second"),
            Self::IdleHttp1 | Self::IdleH2 => ("opened/s", "opened_per_second"),
            Self::Http1 | Self::H2 | Self::Grpc | Self::TcpRequests => ("requests/s", "requests_per_second"),
        }
    }

    /// The load in a few words. `connections` is what the user asked for, where that matters.
    pub(crate) fn load(self, connections: u32, idle: u32) -> String {
        let h2 = format!("{H2_CONNECTIONS} connections with {STREAMS} streams each");
        match self {
            Self::Http1 => format!("HTTP/1.1, {connections} keep-alive connections"),
            Self::H2 => format!("HTTP/2 on both sides, {h2}"),
            Self::Grpc => format!("gRPC, unary calls with 5 bytes each way, {h2}"),
            Self::TcpRequests => format!("TCP relay, small HTTP/1.1 requests on {connections} connections"),
            Self::TcpBytes => {
                let mib = DOWNLOAD_BYTES / 1024 / 1024;
                format!("TCP relay, {DOWNLOADS} downloads of {mib} MiB a round, {DOWNLOADS_AT_ONCE} at once")
            }
            Self::IdleHttp1 => format!("{idle} idle HTTP/1.1 connections, each after one request"),
            Self::IdleH2 => format!("{idle} idle HTTP/2 connections, each after one request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_compared_with_haproxy_and_envoy() {
        for part in Group::value_variants().iter().flat_map(|group| group.parts()) {
            assert!([Name::Haproxy, Name::Envoy, Name::Outrigger].into_iter().all(|name| part.takes(name)), "{part:?}");
            assert!(
                !part.takes(Name::Direct) || !part.is_idle(),
                "{part:?}: without a proxy there is no memory of one"
            );
        }
    }
}
