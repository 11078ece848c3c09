//! `trafficPolicy.loadBalancer` of a DestinationRule, and locality settings wherever they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{BalancePolicy, CookieKey, HashKey, Warmup};

use super::istio::{Unmodelled, duration_1ms, header_name};
use crate::codes;
use crate::decode::{Cx, Decode, Fields};
use crate::node::{Node, Pos};
use crate::scalar;
use crate::{choices, object};

/// `loadBalancer`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    /// `simple` or `consistentHash`; LEAST_REQUEST when neither is there.
    pub policy: BalancePolicy,
    /// `warmup`.
    pub warmup: Option<Warmup>,
    /// `localityLbSetting`; replaces the mesh's whole.
    pub locality: Option<LocalitySetting>,
    /// Where the block begins.
    pub pos: Pos,
}

choices! {
    /// `loadBalancer.simple`.
    pub enum Simple {
        /// LEAST_REQUEST.
        Unspecified = "UNSPECIFIED" 0,
        /// The old name of LEAST_REQUEST.
        LeastConn = "LEAST_CONN" 1,
        /// Weighted random choice.
        Random = "RANDOM" 2,
        /// To the address the client asked for.
        Passthrough = "PASSTHROUGH" 3,
        /// In turn.
        RoundRobin = "ROUND_ROBIN" 4,
        /// Power of two choices on active requests.
        LeastRequest = "LEAST_REQUEST" 5,
    }
}

impl Decode for LoadBalancer {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let policy = match fields.one_of(&["simple", "consistentHash"], cx) {
            None => Some(BalancePolicy::LeastRequest),
            Some(("simple", node)) => cx.within("simple", |cx| Simple::decode(node, cx)).map(Simple::policy),
            Some((_, node)) => cx.within("consistentHash", |cx| consistent_hash(node, cx)),
        };
        let warmup = fields.with("warmup", cx, read_warmup);
        let old_warmup = fields.with("warmupDurationSecs", cx, duration_1ms).map(linear_warmup);
        let locality = fields.optional("localityLbSetting", cx);
        let _: Option<Unmodelled> = fields.optional("zoneAwareLbSetting", cx);
        fields.finish(cx);
        let policy = policy?;
        let mut warmup = warmup.or(old_warmup);
        if warmup.is_some() && !matches!(policy, BalancePolicy::RoundRobin | BalancePolicy::LeastRequest) {
            let message = "warmup has an effect with ROUND_ROBIN and LEAST_REQUEST only";
            cx.report(codes::NO_EFFECT, node.pos, message, "remove it, or use one of the two");
            warmup = None;
        }
        Some(Self { policy, warmup, locality, pos: node.pos })
    }
}

impl Simple {
    fn policy(self) -> BalancePolicy {
        match self {
            Self::Unspecified | Self::LeastConn | Self::LeastRequest => BalancePolicy::LeastRequest,
            Self::Random => BalancePolicy::Random,
            Self::Passthrough => BalancePolicy::Passthrough,
            Self::RoundRobin => BalancePolicy::RoundRobin,
        }
    }
}

fn linear_warmup(duration: Duration) -> Warmup {
    Warmup { duration, minimum_ratio: 0.1, aggression: 1.0 }
}

fn read_warmup(node: &Node<'_>, cx: &mut Cx) -> Option<Warmup> {
    let mut fields = Fields::of(node, cx)?;
    let duration = fields.required_with("duration", cx, duration_1ms);
    let minimum = fields.with("minimumPercent", cx, scalar::percent).unwrap_or(10.0);
    let aggression = fields.with("aggression", cx, |node, cx| {
        let value = f64::decode(node, cx)?;
        if value < 1.0 {
            cx.mismatch(node, "a number of at least 1");
            return None;
        }
        Some(value)
    });
    fields.finish(cx);
    Some(Warmup { duration: duration?, minimum_ratio: minimum / 100.0, aggression: aggression.unwrap_or(1.0) })
}

fn consistent_hash(node: &Node<'_>, cx: &mut Cx) -> Option<BalancePolicy> {
    const KEYS: &[&str] = &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
    let mut fields = Fields::of(node, cx)?;
    let key = match fields.one_of(KEYS, cx) {
        Some((name, key)) => cx.within(name, |cx| hash_key(name, key, cx)),
        None => {
            let message = format!("nothing to hash; expected one of {}", crate::decode::list(KEYS));
            cx.report(codes::SCHEMA, node.pos, message, "");
            None
        }
    };
    let old_size = fields.with("minimumRingSize", cx, ring_size);
    let algorithm = match fields.one_of(&["ringHash", "maglev"], cx) {
        Some(("ringHash", node)) => cx.within("ringHash", |cx| {
            let mut fields = Fields::of(node, cx)?;
            let size = fields.with("minimumRingSize", cx, ring_size);
            fields.finish(cx);
            Some(Algorithm::Ring(size.or(old_size)))
        }),
        Some((_, node)) => cx.within("maglev", |cx| {
            let mut fields = Fields::of(node, cx)?;
            let size = fields.with("tableSize", cx, table_size);
            fields.finish(cx);
            Some(Algorithm::Maglev(size))
        }),
        None => Some(Algorithm::Ring(old_size)),
    };
    fields.finish(cx);
    let key = key?;
    Some(match algorithm? {
        Algorithm::Ring(size) => {
            BalancePolicy::RingHash { ring_size_min: size.unwrap_or(BalancePolicy::RING_SIZE_DEFAULT), key }
        }
        Algorithm::Maglev(size) => {
            BalancePolicy::Maglev { table_size: size.unwrap_or(BalancePolicy::MAGLEV_SIZE_DEFAULT), key }
        }
    })
}

/// The table behind consistent hashing, with its size where one is given.
enum Algorithm {
    Ring(Option<u32>),
    Maglev(Option<u32>),
}

/// 0 counts as absent, as everywhere in this message.
fn ring_size(node: &Node<'_>, cx: &mut Cx) -> Option<u32> {
    scalar::within::<u32>(0..=BalancePolicy::RING_SIZE_MAX.into())(node, cx).filter(|size| *size > 0)
}

fn table_size(node: &Node<'_>, cx: &mut Cx) -> Option<u32> {
    let size = scalar::within::<u32>(0..=BalancePolicy::MAGLEV_SIZE_MAX.into())(node, cx).filter(|size| *size > 0)?;
    if !is_prime(size) {
        cx.mismatch(node, "a prime number (65537 is the default; Maglev's permutations need one)");
        return None;
    }
    Some(size)
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

fn hash_key(name: &str, node: &Node<'_>, cx: &mut Cx) -> Option<HashKey> {
    match name {
        "httpHeaderName" => {
            let text = scalar::non_empty(node, cx)?;
            header_name(&text, node.pos, cx).map(HashKey::Header)
        }
        "httpQueryParameterName" => scalar::non_empty(node, cx).map(HashKey::Query),
        "httpCookie" => cookie(node, cx).map(HashKey::Cookie),
        _ => {
            if bool::decode(node, cx)? {
                return Some(HashKey::SourceIp);
            }
            cx.mismatch(node, "`true`: there is nothing else to hash");
            None
        }
    }
}

object! {
    /// One of `httpCookie.attributes`.
    pub struct CookieAttribute {
        /// `name`.
        pub name: Arc<str> = required_with(scalar::non_empty) "name",
        /// `value`.
        pub value: Option<Arc<str>> = optional "value",
    }
}

fn cookie(node: &Node<'_>, cx: &mut Cx) -> Option<CookieKey> {
    let mut fields = Fields::of(node, cx)?;
    let name = fields.required_with("name", cx, |node, cx| {
        let name = scalar::non_empty(node, cx)?;
        // A cookie name is a token (RFC 6265 §4.1.1), as header names are.
        header_name(&name, node.pos, cx).map(|_| name)
    });
    let path: Option<Arc<str>> = fields.with("path", cx, cookie_text);
    let ttl = fields.optional::<Duration>("ttl", cx);
    let attributes: Vec<CookieAttribute> = fields.or_default_with("attributes", cx, |node, cx| {
        let attributes = Vec::<CookieAttribute>::decode(node, cx)?;
        let bad = |text: &str| text.bytes().any(|b| b < 0x20 || b == 0x7f || b == b';');
        if attributes.iter().any(|a| bad(&a.name) || a.value.as_deref().is_some_and(bad)) {
            cx.mismatch(node, "attributes without `;` and control characters");
            return None;
        }
        Some(attributes)
    });
    fields.finish(cx);
    Some(CookieKey {
        name: name?,
        path: path.unwrap_or_default(),
        ttl,
        attributes: attributes.into_iter().map(|a| (a.name, a.value.unwrap_or_default())).collect(),
    })
}

fn cookie_text(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let text = Arc::<str>::decode(node, cx)?;
    if text.bytes().any(|b| b < 0x20 || b == 0x7f || b == b';') {
        cx.mismatch(node, "a path without `;` and control characters");
        return None;
    }
    Some(text)
}

object! {
    /// `localityLbSetting`.
    pub struct LocalitySetting {
        /// `enabled`; true when absent.
        pub enabled: Option<bool> = optional "enabled",
        /// `distribute`.
        pub distribute: Vec<Distribute> = or_default "distribute",
        /// `failover`.
        pub failover: Vec<Failover> = or_default "failover",
        /// `failoverPriority`: labels, or `label=value`.
        pub failover_priority: Vec<Arc<str>> = or_default "failoverPriority",
    }
    check check_locality
}

object! {
    /// One of `distribute`.
    pub struct Distribute {
        /// `from`: `region/zone/subzone`, `*` allowed.
        pub from: Arc<str> = required_with(scalar::non_empty) "from",
        /// `to`: shares that add up to 100.
        pub to: BTreeMap<Arc<str>, u32> = or_default "to",
    }
}

object! {
    /// One of `failover`.
    pub struct Failover {
        /// `from`: a region.
        pub from: Arc<str> = required_with(scalar::non_empty) "from",
        /// `to`: another region.
        pub to: Arc<str> = required_with(scalar::non_empty) "to",
    }
}

fn check_locality(setting: &LocalitySetting, pos: Pos, cx: &mut Cx) {
    let mut fail = |message: String| cx.report(codes::SCHEMA, pos, message, "");
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if !setting.distribute.is_empty() && fails_over {
        fail("`distribute` and `failover` or `failoverPriority` are both given, expected one of the modes".to_owned());
    }
    for (index, distribute) in setting.distribute.iter().enumerate() {
        let sum: u64 = distribute.to.values().map(|w| u64::from(*w)).sum();
        if sum != 100 {
            fail(format!("distribute[{index}].to: the shares add up to {sum}, expected 100"));
        }
        if setting.distribute[..index].iter().any(|d| d.from == distribute.from) {
            fail(format!("distribute[{index}].from: {:?} is named twice", distribute.from));
        }
    }
    for (index, failover) in setting.failover.iter().enumerate() {
        if failover.from == failover.to {
            fail(format!("failover[{index}]: `from` and `to` are both {:?}, expected two regions", failover.from));
        }
        if failover.from.contains(['*', '/']) || failover.to.contains(['*', '/']) {
            fail(format!("failover[{index}]: expected names of regions, without zone and `*`"));
        }
    }
}
