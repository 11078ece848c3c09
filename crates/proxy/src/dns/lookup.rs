//! One lookup of one name: the hosts file, then name servers; IPv4 and IPv6.
//!
//! A name is asked for as it stands, and only where that does not exist with the search domains of `/etc/resolv.conf` behind
//! it; one without a dot the other way round. IPv4 addresses come first. IPv6 ones count where this machine has a route to
//! them, or where the name has no others.

use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};

use super::NameServers;
use super::known::{Answer, Failure};
use crate::settings::Settings;

/// Asks the name servers of the system, or others.
pub(super) struct Lookups {
    servers: NameServers,
    settings: Settings,
    files: Files,
    /// The last asker, and the state of the files it was made from.
    asker: Option<([Stamp; 2], Arc<Asker>)>,
    complained: bool,
}

/// Where the system keeps its settings.
#[derive(Clone, Debug)]
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

/// What changes with the content of a file.
type Stamp = Option<(SystemTime, u64)>;

/// Ready to ask.
pub(super) struct Asker {
    /// `None`: the settings of the system make no sense to the resolver.
    resolver: Option<TokioResolver>,
    hosts: Hosts,
    search: Vec<Name>,
    /// From first question to last answer.
    time_limit: Duration,
    reaches_ipv6: bool,
}

/// Addresses of one family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

/// How long an entry of the hosts file holds; to look again costs nothing.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// How long IPv6 addresses are waited for once there are others: some servers never answer to questions for them.
const SECOND_FAMILY_PATIENCE: Duration = Duration::from_millis(500);
/// Aliases that are followed; more are taken for a loop.
const ALIASES_MAX: usize = 8;
/// Tries of a lookup: a chain of aliases may need a question for each of them, but not for ever.
const QUESTIONS_MAX: u32 = 4;

impl Lookups {
    /// Nothing is read before it is needed.
    pub(super) fn new(servers: NameServers, settings: Settings) -> Self {
        Self { servers, settings, files: Files::default(), asker: None, complained: false }
    }

    /// Whom to ask now. Files that changed are read again.
    pub(super) fn asker(&mut self) -> Arc<Asker> {
        let stamps = match self.servers {
            NameServers::System => [&self.files.resolv_conf, &self.files.hosts].map(|path| stamp(path)),
            NameServers::At(_) => [None; 2],
        };
        let reaches_ipv6 = reaches_ipv6();
        if let Some((known, asker)) = &self.asker
            && *known == stamps
            && asker.reaches_ipv6 == reaches_ipv6
        {
            return asker.clone();
        }
        let (config, options, hosts) = match &self.servers {
            NameServers::At(servers) => (config_of(servers), ResolverOpts::default(), Hosts::default()),
            NameServers::System => {
                let read = std::fs::read(&self.files.resolv_conf).map_err(NetError::from);
                let parsed = read.and_then(system_conf::parse_resolv_conf);
                let (config, options) = parsed.unwrap_or_else(|error| self.fall_back(&error));
                (config, options, hosts_of(&self.files.hosts))
            }
        };
        let asker = Arc::new(Asker::new(config, options, hosts, reaches_ipv6, &self.settings));
        self.asker = Some((stamps, asker.clone()));
        asker
    }

    /// What the C library does without name servers: asks this machine.
    fn fall_back(&mut self, error: &NetError) -> (ResolverConfig, ResolverOpts) {
        if !std::mem::replace(&mut self.complained, true) {
            let server = FALLBACK_SERVER;
            let file = self.files.resolv_conf.display();
            tracing::warn!(%error, %server, "{file} names no server that could be asked; asking this machine");
        }
        (config_of(&[FALLBACK_SERVER]), ResolverOpts::default())
    }
}

/// See resolv.conf(5).
const FALLBACK_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53);

fn stamp(path: &Path) -> Stamp {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// The hosts file; one that cannot be read is empty.
fn hosts_of(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(file) = File::open(path)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!(%error, "{} can only be read in part", path.display());
    }
    hosts
}

fn config_of(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        let at_port = |connection: &mut ConnectionConfig| connection.port = address.port();
        server.connections.iter_mut().for_each(at_port);
        server
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

/// Whether this machine has a route to IPv6 addresses out there. Nothing is sent: the kernel looks at its table.
fn reaches_ipv6() -> bool {
    // An address for documentation (RFC 3849): only a default route leads there.
    let somewhere = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 53));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect(somewhere)).is_ok()
}

impl Asker {
    fn new(
        config: ResolverConfig,
        mut options: ResolverOpts,
        hosts: Hosts,
        reaches_ipv6: bool,
        settings: &Settings,
    ) -> Self {
        let tries = settings.dns_tries.max(1);
        let search = config.search().to_vec();
        options.timeout = settings.dns_timeout;
        // Tries after the first.
        options.attempts = (tries - 1) as usize;
        // Names are kept elsewhere, for as long as they are needed.
        options.cache_size = 0;
        // Looked at here, because it is no answer of an hour's life.
        options.use_hosts_file = ResolveHosts::Never;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build();
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no name can be looked up");
        }
        let time_limit = settings.dns_timeout * tries * QUESTIONS_MAX;
        Self { resolver: resolver.ok(), hosts, search, time_limit, reaches_ipv6 }
    }

    /// Looks a name up.
    pub(super) async fn look_up(&self, host: &str) -> Result<Answer, Failure> {
        let lookup = tokio::time::timeout(self.time_limit, self.any_of(host));
        let mut answer = lookup.await.unwrap_or(Err(Failure::Timeout))?;
        answer.addresses.iter_mut().for_each(|ip| *ip = ip.to_canonical());
        answer.addresses.retain(can_be_connected);
        if answer.addresses.is_empty() { Err(Failure::Unusable) } else { Ok(answer) }
    }

    /// The answer for the first name of those meant that exists.
    async fn any_of(&self, host: &str) -> Result<Answer, Failure> {
        let mut last = Failure::NoName;
        for name in self.meant_by(host)? {
            last = match self.addresses(&name).await {
                Err(failure @ (Failure::NoName | Failure::NoAddress)) => failure,
                over => return over,
            };
        }
        Err(last)
    }

    /// The full names that a name may stand for, in the order in which they are asked for.
    fn meant_by(&self, host: &str) -> Result<Vec<Name>, Failure> {
        let name = Name::from_ascii(host).map_err(|_| Failure::NoName)?;
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = searched.collect();
        let mut plain = name.clone();
        plain.set_fqdn(true);
        let first = name.num_labels() > 1 || self.is_in_hosts(&plain);
        names.insert(if first { 0 } else { names.len() }, plain);
        Ok(names)
    }

    fn is_in_hosts(&self, name: &Name) -> bool {
        [RecordType::A, RecordType::AAAA].into_iter().any(|kind| self.in_hosts(name, kind).is_some())
    }

    fn in_hosts(&self, name: &Name, kind: RecordType) -> Option<Vec<IpAddr>> {
        let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
        Some(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
    }

    /// The addresses of a full name.
    async fn addresses(&self, name: &Name) -> Result<Answer, Failure> {
        if self.is_in_hosts(name) {
            let [v4, v6] = [RecordType::A, RecordType::AAAA].map(|kind| {
                let addresses = self.in_hosts(name, kind).filter(|addresses| !addresses.is_empty());
                addresses.map(|addresses| Found { addresses, ttl: HOSTS_TTL }).ok_or(Failure::NoAddress)
            });
            return join(v4, v6, self.reaches_ipv6);
        }
        let mut v4 = pin!(self.family(name, RecordType::A));
        if !self.reaches_ipv6 {
            return match v4.await {
                Err(Failure::NoAddress) => {
                    join(Err(Failure::NoAddress), self.family(name, RecordType::AAAA).await, false)
                }
                v4 => join(v4, Err(Failure::NoAddress), false),
            };
        }
        let mut v6 = pin!(self.family(name, RecordType::AAAA));
        let (v4, v6) = tokio::select! {
            v4 = &mut v4 => {
                let patience = if v4.is_ok() { SECOND_FAMILY_PATIENCE } else { self.time_limit };
                (v4, tokio::time::timeout(patience, v6).await.unwrap_or(Err(Failure::Timeout)))
            }
            v6 = &mut v6 => (v4.await, v6),
        };
        join(v4, v6, true)
    }

    async fn family(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        let resolver = self.resolver.as_ref().ok_or(Failure::Broken)?;
        let lookup = resolver.lookup(name.clone(), kind).await.map_err(|error| Failure::of(&error))?;
        follow(name, lookup.answers())
    }
}

/// Whether a connection may be opened to an address. `0.0.0.0` and `::`, which lists of blocked names give, would lead to
/// this machine.
fn can_be_connected(ip: &IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// Follows aliases from a name to the addresses at their end.
fn follow(start: &Name, records: &[Record]) -> Result<Found, Failure> {
    let mut name = start;
    let mut ttl = u32::MAX;
    for _ in 0..=ALIASES_MAX {
        let own = || records.iter().filter(|record| record.name == *name);
        let mut found = Found::default();
        for record in own() {
            if let Some(ip) = record.data.ip_addr() {
                found.addresses.push(ip);
                ttl = ttl.min(record.ttl);
            }
        }
        if !found.addresses.is_empty() {
            found.ttl = Duration::from_secs(ttl.into());
            return Ok(found);
        }
        let alias = own().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some((&alias.0, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { return Err(Failure::NoAddress) };
        (name, ttl) = (target, ttl.min(alias_ttl));
    }
    Err(Failure::NoAddress)
}

/// Makes one answer of both families.
fn join(v4: Result<Found, Failure>, v6: Result<Found, Failure>, reaches_ipv6: bool) -> Result<Answer, Failure> {
    let none = |failure: &Failure| matches!(failure, Failure::NoName | Failure::NoAddress);
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            // A server of this machine mostly listens on 127.0.0.1 alone.
            let counts = |ip: &&IpAddr| reaches_ipv6 && !ip.is_loopback();
            v4.addresses.extend(v6.addresses.iter().filter(counts));
            Ok(Answer { addresses: v4.addresses, ttl: v4.ttl.min(v6.ttl), is_partial: false })
        }
        (Ok(found), Err(other)) | (Err(other), Ok(found)) => {
            Ok(Answer { addresses: found.addresses, ttl: found.ttl, is_partial: !none(&other) })
        }
        // What failed says more than what is not there.
        (Err(v4), Err(v6)) => Err(if none(&v4) && !none(&v6) { v6 } else { v4 }),
    }
}

impl Failure {
    fn of(error: &NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::NoName,
                ResponseCode::NoError => Self::NoAddress,
                _ => Self::Refused,
            },
            NetError::Dns(DnsError::ResponseCode(ResponseCode::NXDomain)) => Self::NoName,
            NetError::Dns(_) => Self::Refused,
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests;
