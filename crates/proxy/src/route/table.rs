//! The compiled route table of one listener: from a host name and port to a virtual host.
//!
//! Exact names are one hash look-up. Wildcards are looked up by each distinct length of their texts, longest first, so
//! that the cost depends on the shapes of the configured names and not on how many there are.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{DomainPort, HostPattern, RouteTable, Unmatched, VirtualHost};

use super::Host;
use crate::rate_limit::RateLimits;

/// A compiled route table; workers share it in an `Arc`.
#[derive(Debug)]
pub(crate) struct Table {
    unmatched: Unmatched,
    hosts: Vec<Arc<Host>>,
    /// Those whose routes may ask for something before a request is sent on.
    asking: Vec<Arc<Host>>,
    exact: HashMap<Arc<str>, Ports, foldhash::fast::RandomState>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Ports,
}

impl Table {
    /// Compiles `routes`.
    ///
    /// Virtual hosts that `previous` has compiled already are shared with it. In changed ones, a route whose name,
    /// destinations and weights stayed the same goes on with its weighted sequence where it was.
    pub(crate) fn compile(routes: &Arc<RouteTable>, previous: Option<&Self>) -> Self {
        let known: HashMap<*const VirtualHost, &Arc<Host>> =
            previous.iter().flat_map(|table| &table.hosts).map(|host| (Arc::as_ptr(&host.vhost), host)).collect();
        let named: HashMap<&str, &Arc<Host>> =
            previous.iter().flat_map(|table| &table.hosts).map(|host| (&*host.vhost.name, host)).collect();
        let mut table = Self {
            unmatched: routes.unmatched,
            hosts: Vec::with_capacity(routes.virtual_hosts.len()),
            asking: Vec::new(),
            exact: HashMap::default(),
            suffixes: Wildcards::default(),
            prefixes: Wildcards::default(),
            any: Ports::default(),
        };
        for vhost in &routes.virtual_hosts {
            let host = match known.get(&Arc::as_ptr(vhost)) {
                Some(host) => Arc::clone(host),
                None => Arc::new(Host::compile(vhost, named.get(&*vhost.name).map(|host| &***host))),
            };
            if host.asks_before() {
                table.asking.push(host.clone());
            }
            table.insert(host);
        }
        table.suffixes.seal();
        table.prefixes.seal();
        table
    }

    /// Makes ready what routes ask for before a request is sent on; what they let through before stays.
    pub(crate) fn prepare(&self, limits: &RateLimits) {
        self.asking.iter().for_each(|host| host.prepare(limits));
    }

    /// What happens to a host that no virtual host claims.
    pub(crate) fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// The virtual host that answers for `host` (lower case, without port and trailing dot).
    ///
    /// `stated_port` is the port in the request's authority, `default_port` the one meant when there is none. Envoy's
    /// order of preference holds: exact name, longest suffix, longest prefix, any; a name whose ports do not fit
    /// leaves the request to the next.
    pub(crate) fn host(&self, host: &[u8], stated_port: Option<u16>, default_port: u16) -> Option<&Arc<Host>> {
        let port = RequestPort { stated: stated_port.is_some(), effective: stated_port.unwrap_or(default_port) };
        // What is no text is no name, and only a table that takes any host takes it.
        let host = std::str::from_utf8(host).unwrap_or_default();
        let at = self
            .exact
            .get(host)
            .and_then(|ports| ports.find(port))
            .or_else(|| self.suffixes.find(host, port, |length| host.get(host.len() - length..)))
            .or_else(|| self.prefixes.find(host, port, |length| host.get(..length)))
            .or_else(|| self.any.find(port))?;
        self.hosts.get(at as usize)
    }

    fn insert(&mut self, host: Arc<Host>) {
        let at = self.hosts.len() as u32;
        for domain in &host.vhost.domains {
            let ports = match &domain.host {
                HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
                HostPattern::Suffix(text) => self.suffixes.texts.entry(text.clone()).or_default(),
                HostPattern::Prefix(text) => self.prefixes.texts.entry(text.clone()).or_default(),
                HostPattern::Any => &mut self.any,
            };
            ports.claim(domain.port, at);
        }
        self.hosts.push(host);
    }
}

/// Suffixes or prefixes.
#[derive(Debug, Default)]
struct Wildcards {
    texts: HashMap<Arc<str>, Ports, foldhash::fast::RandomState>,
    /// The distinct lengths of `texts`, longest first.
    lengths: Vec<usize>,
}

impl Wildcards {
    fn seal(&mut self) {
        self.lengths = self.texts.keys().map(|text| text.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    /// The longest text that fits; the star stands for at least one character.
    fn find<'a>(&self, host: &str, port: RequestPort, part: impl Fn(usize) -> Option<&'a str>) -> Option<u32> {
        self.lengths
            .iter()
            .filter(|length| **length < host.len())
            .find_map(|length| self.texts.get(part(*length)?).and_then(|ports| ports.find(port)))
    }
}

/// The port of a request.
#[derive(Clone, Copy)]
struct RequestPort {
    stated: bool,
    effective: u16,
}

/// Which virtual host has which port of one host pattern.
#[derive(Debug, Default)]
struct Ports(Vec<(DomainPort, u32)>);

impl Ports {
    /// The model promises that no domain is claimed twice; should it happen, the first claim holds.
    fn claim(&mut self, port: DomainPort, host: u32) {
        if self.get(port).is_none() {
            // Nearly all have one, and there may be a hundred thousand of them.
            self.0.reserve_exact(1);
            self.0.push((port, host));
        }
    }

    fn get(&self, port: DomainPort) -> Option<u32> {
        self.0.iter().find(|(claimed, _)| *claimed == port).map(|(_, host)| *host)
    }

    fn find(&self, port: RequestPort) -> Option<u32> {
        self.get(DomainPort::Exact(port.effective))
            .or_else(|| if port.stated { None } else { self.get(DomainPort::Unstated) })
            .or_else(|| self.get(DomainPort::Any))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{route, table, virtual_host};
    use super::*;
    use outrigger_model::RouteMatch;

    /// `hosts` are virtual hosts by their domains; `request` is a host with or without port.
    #[track_caller]
    fn check(hosts: &[&str], request: &str, expected: Option<&str>) {
        let table =
            Table::compile(&table(hosts.iter().map(|domains| virtual_host(domains, Vec::new())).collect()), None);
        let (host, port) = match request.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().unwrap())),
            None => (request, None),
        };
        let found = table.host(host.as_bytes(), port, 80).map(|host| &*host.vhost.name);
        assert_eq!(found, expected, "{request} among {hosts:?}");
    }

    #[test]
    fn exact_beats_suffix_beats_prefix_beats_any() {
        let hosts = ["*", "www.*", "*.example.com", "*.www.example.com", "www.example.*", "www.example.com"];
        check(&hosts, "www.example.com", Some("www.example.com"));
        check(&hosts, "api.example.com", Some("*.example.com"));
        check(&hosts, "a.b.example.com", Some("*.example.com"));
        check(&hosts, "a.www.example.com", Some("*.www.example.com"));
        check(&hosts, "www.example.org", Some("www.example.*"));
        check(&hosts, "www.other.org", Some("www.*"));
        check(&hosts, "other.org", Some("*"));
        check(&hosts[1..], "other.org", None);
        check(&[], "other.org", None);
    }

    #[test]
    fn a_star_stands_for_at_least_one_character() {
        check(&["*.example.com"], "example.com", None);
        check(&["*.example.com"], ".example.com", None);
        check(&["*.example.com"], "notexample.com", None);
        check(&["example.*"], "example.", None);
        check(&["example.*"], "example", None);
        check(&["*"], "", Some("*"));
        check(&["*.\u{e9}.example"], "x.\u{e9}.example", Some("*.\u{e9}.example"));
        check(&["*.example", "a.*"], "\u{e9}\u{e9}\u{e9}\u{e9}", None);
    }

    #[test]
    fn a_stated_port_must_be_claimed() {
        check(&["a:9080"], "a:9080", Some("a:9080"));
        check(&["a:9080"], "a:80", None);
        check(&["a:9080"], "a", None);
        check(&["a:80"], "a", Some("a:80"));
        check(&["a:"], "a", Some("a:"));
        check(&["a:"], "a:80", None);
        check(&["a"], "a:1", Some("a"));
        check(&["a", "a:", "a:80"], "a", Some("a:80"));
        check(&["a", "a:", "a:80"], "a:81", Some("a"));
        check(&["a", "a:", "a:81"], "a", Some("a:"));
    }

    #[test]
    fn a_name_whose_ports_do_not_fit_leaves_the_request_to_the_next() {
        let hosts = ["a.example.com:9080", "*.example.com:9081", "a.*:9082", "*"];
        check(&hosts, "a.example.com:9080", Some("a.example.com:9080"));
        check(&hosts, "a.example.com:9081", Some("*.example.com:9081"));
        check(&hosts, "a.example.com:9082", Some("a.*:9082"));
        check(&hosts, "a.example.com:9083", Some("*"));
        check(&["*.example.com:1", "*.b.example.com:2"], "a.b.example.com:1", Some("*.example.com:1"));
    }

    #[test]
    fn a_virtual_host_has_many_domains() {
        check(
            &["reviews reviews.shop reviews.shop.svc 10.0.0.1"],
            "10.0.0.1",
            Some("reviews reviews.shop reviews.shop.svc 10.0.0.1"),
        );
    }

    #[test]
    fn an_unchanged_virtual_host_is_shared_with_the_previous_table() {
        let (a, b) = (virtual_host("a", Vec::new()), virtual_host("b", Vec::new()));
        let first = Table::compile(&table(vec![a.clone(), b]), None);
        let second = Table::compile(&table(vec![virtual_host("b", Vec::new()), a]), Some(&first));
        let host = |table: &Table, name: &str| Arc::clone(table.host(name.as_bytes(), None, 80).unwrap());
        assert!(Arc::ptr_eq(&host(&first, "a"), &host(&second, "a")));
        assert!(!Arc::ptr_eq(&host(&first, "b"), &host(&second, "b")));
    }

    /// Weights of routes called by their letters, and how many choices the route at `at` goes on from.
    #[track_caller]
    fn check_carried(before: &[(&str, &[u32])], after: &[(&str, &[u32])], at: usize, expected: bool) {
        let host = |routes: &[(&str, &[u32])]| {
            virtual_host(
                "a",
                routes.iter().map(|(name, weights)| route(name, RouteMatch::default(), weights)).collect(),
            )
        };
        let first = Table::compile(&table(vec![host(before)]), None);
        let old = first.host(b"a", None, 80).unwrap();
        (0..before.len()).for_each(|at| assert_eq!(old.route(at).choose(), 0, "the heaviest comes first"));
        let second = Table::compile(&table(vec![host(after)]), Some(&first));
        // Of weights 2 and 1, the sequence is 0 1 0.
        let goes_on = second.host(b"a", None, 80).unwrap().route(at).choose() == 1;
        assert_eq!(goes_on, expected, "{before:?} then {after:?}");
    }

    #[test]
    fn a_changed_virtual_host_goes_on_with_its_splits() {
        check_carried(&[("a", &[2, 1])], &[("a", &[2, 1])], 0, true);
        check_carried(&[("a", &[2, 1])], &[("a", &[3, 1])], 0, false);
        check_carried(&[("a", &[2, 1])], &[("b", &[2, 1])], 0, false);
        check_carried(&[("a", &[2, 1])], &[("x", &[1]), ("a", &[2, 1])], 1, true);
        check_carried(&[("a", &[2, 1]), ("a", &[2, 1])], &[("a", &[2, 1]), ("a", &[2, 1])], 1, true);
    }

    #[test]
    fn both_versions_of_a_route_draw_from_one_sequence() {
        let host = || virtual_host("a", vec![route("r", RouteMatch::default(), &[1, 1, 1])]);
        let first = Table::compile(&table(vec![host()]), None);
        let second = Table::compile(&table(vec![host()]), Some(&first));
        let choose = |table: &Table| table.host(b"a", None, 80).unwrap().route(0).choose();
        let mut chosen = [choose(&first), choose(&second), choose(&first)];
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2], "requests of the old policy still count while it drains");
    }

    #[test]
    fn a_host_that_is_no_text_meets_only_a_host_for_all() {
        let of = |domains| Table::compile(&table(vec![virtual_host(domains, Vec::new())]), None);
        assert!(of("a *.b c.*").host(b"\xff.b", None, 80).is_none());
        assert!(of("*").host(b"\xff.b", None, 80).is_some());
    }

    /// The cost of a look-up: how many texts are tried, at most.
    #[test]
    fn ten_thousand_virtual_hosts_cost_no_more_than_their_shapes() {
        let names = (0..10_000).map(|n| format!("s{n}.ns{}.svc.cluster.local *.w{n:05}.example.com", n % 100));
        let routes = table(names.map(|name| virtual_host(&name, Vec::new())).collect());
        let table = Table::compile(&routes, None);
        assert_eq!(table.suffixes.lengths, [".w00000.example.com".len()], "one look-up for all wildcards");
        assert!(table.host(b"s77.ns77.svc.cluster.local", None, 80).is_some());
        assert!(table.host(b"api.w09999.example.com", Some(443), 80).is_some());
        assert!(table.host(b"s77.ns78.svc.cluster.local", None, 80).is_none());
    }
}
