//! The codes of diagnostics: stable, each with its level and what it means.
//!
//! `OUTnnnn` are ours, `ISTnnnn` mean what they mean in istioctl. A number is never used for a second meaning.
//! Used wherever a finding is made; [`ALL`] feeds `outrigger explain` and the documentation.

use outrigger_model::{Code, Diagnostic, Level};

use crate::node::Pos;
use crate::object::Metadata;

/// A code with what belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
}

impl CodeInfo {
    /// A finding about an object at a place in its document; `hint` says what to do and may be empty.
    pub fn about(&self, meta: &Metadata, pos: Pos, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code: self.code,
            level: self.level,
            object: Some(meta.object_ref()),
            place: Some(meta.source.place(pos)),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// A finding about no object and no place, or about a place that the caller adds.
    pub fn bare(&self, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code: self.code,
            level: self.level,
            object: None,
            place: None,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal $level:ident;)+) => {
        $(
            $(#[doc = $doc])+
            pub const $name: &CodeInfo =
                &CodeInfo { code: Code($code), level: Level::$level, doc: concat!($($doc),+).trim_ascii() };
        )+
        /// Every code, in the order of this file.
        pub const ALL: &[&CodeInfo] = &[$($name),+];
    };
}

codes! {
    /// A path could not be read.
    UNREADABLE = "OUT0001" Error;
    /// A path is refused: no regular file, or larger than the limits allow.
    REFUSED_FILE = "OUT0002" Error;
    /// A document is no valid YAML or JSON; it stays out and the other documents of the file do not suffer.
    SYNTAX = "OUT0003" Error;
    /// A mapping names a key twice; which of the two is meant cannot be known.
    DUPLICATE_KEY = "OUT0004" Error;
    /// A document exceeds a limit on size, depth or alias expansion.
    DOCUMENT_LIMIT = "OUT0005" Error;
    /// A file is not UTF-8 text, or holds characters that YAML forbids.
    ENCODING = "OUT0006" Error;
    /// A document uses a YAML feature that Kubernetes manifests do not have, such as merge keys or `!!binary`.
    YAML_FEATURE = "OUT0007" Error;
    /// A document is no Kubernetes object: `apiVersion`, `kind` or `metadata.name` is missing.
    NO_OBJECT = "OUT0008" Error;
    /// An object is defined twice; the first definition is in force.
    DUPLICATE_OBJECT = "OUT0009" Error;
    /// Objects of a kind that has no meaning here are passed over.
    KIND_PASSED_OVER = "OUT0010" Info;
    /// The last good version of an object or file stays in force because the present one is invalid.
    LAST_GOOD = "OUT0011" Warning;
    /// A file that is no manifest is passed over.
    FILE_PASSED_OVER = "OUT0012" Info;
    /// A defect of this program met while reading a document; the document stays out.
    INTERNAL = "OUT0013" Error;
    /// A kind is not known, but resembles one that is: it is probably misspelt.
    KIND_MISSPELT = "OUT0014" Warning;
    /// The input holds no file that could be a manifest.
    NOTHING_TO_READ = "OUT0015" Warning;
    /// A field is unknown: it is misspelt, or stands in the wrong place.
    UNKNOWN_FIELD = "OUT0101" Warning;
    /// A field is valid but has no effect here.
    NO_EFFECT = "OUT0102" Warning;
    /// A field or kind is valid and understood, and not enforced yet.
    NOT_ENFORCED = "OUT0103" Warning;
    /// The apiVersion of a known kind is unknown.
    API_VERSION = "OUT0104" Error;
    /// A referenced host, subset, port, service or object does not exist.
    REFERENCE_NOT_FOUND = "IST0101" Error;
    /// A value is of the wrong type or out of range, or a required field is missing.
    SCHEMA = "IST0106" Error;
    /// A host is already claimed by an older object; this one has no effect for it.
    HOST_TAKEN = "OUT0201" Warning;
    /// Two APIs configure the same host and port; the stronger one is in force.
    PRECEDENCE = "OUT0202" Warning;
    /// A port speaks TCP or TLS: the outbound listener routes HTTP only; gateways and `--forward` relay its connections.
    PROTOCOL_LATER = "OUT0203" Info;
    /// An endpoint is a host name where only addresses are taken; the service stays without it. Names belong into
    /// ServiceEntries with `resolution: DNS` and into ExternalName Services.
    NOT_RESOLVED = "OUT0204" Warning;
    /// A subset selects none of the endpoints its service has; requests to it get 503 (flag UH).
    EMPTY_SUBSET = "OUT0205" Warning;
    /// An EndpointSlice or Endpoints object has no port for a port of its Service; that port has no endpoints from it.
    ENDPOINT_PORTS = "OUT0206" Warning;
    /// The workload to act for is nowhere defined.
    UNKNOWN_WORKLOAD = "OUT0207" Error;
    /// A backend of a TrafficSplit lacks a port of the root service and is left out for it.
    SPLIT_PORT = "OUT0208" Warning;
    /// Locality failover is configured without `outlierDetection`, without which there is no failover.
    FAILOVER_WITHOUT_OUTLIER = "OUT0210" Warning;
    /// Endpoints belong to no Service.
    ORPHAN_ENDPOINTS = "OUT0211" Warning;
    /// Several objects of which only one can count, such as two Sidecars for one namespace.
    SUPERSEDED = "OUT0212" Warning;
    /// A rule of an HTTPRoute or GRPCRoute sends to nobody: it has no `backendRefs`, or only some with weight 0. Its requests
    /// get 500, or 503.
    NO_BACKENDS = "OUT0213" Warning;
    /// A reference to an object of another namespace, which no ReferenceGrant there permits.
    NOT_PERMITTED = "OUT0214" Error;
    /// A server of a Gateway is not served: it asks for what is not supported yet, or nothing is routed from it.
    SERVER_LEFT_OUT = "OUT0215" Warning;
    /// Servers of one gateway proxy want a port for protocols that cannot share it; the first stays in force.
    PORT_TAKEN = "OUT0216" Error;
    /// Clients may refuse a certificate: it is expired, not valid yet, not meant for servers, or names no host.
    CERTIFICATE_DOUBT = "OUT0217" Warning;
    /// A GRPCRoute sends to a port that gets HTTP/1.1, which cannot carry gRPC: its calls fail.
    GRPC_OVER_HTTP1 = "OUT0218" Warning;
    /// A Gateway is of a class that another controller serves; it is not served here.
    GATEWAY_OF_OTHERS = "OUT0220" Info;
    /// The fallback of a CircuitBreaker leads back to what it stands in for; there is no fallback.
    FALLBACK_CIRCLE = "OUT0219" Error;
    /// A GatewayClass, Gateway or ListenerSet is not accepted: nothing of it is served.
    GATEWAY_REFUSED = "OUT0221" Error;
    /// A listener of a Gateway or ListenerSet is not served: it conflicts with another, or asks for what is not supported.
    LISTENER_REFUSED = "OUT0222" Error;
    /// A route is not attached to a parent it names, and has no effect there.
    ROUTE_REFUSED = "OUT0223" Error;
    /// An address that a Gateway asks for cannot be used; it is served at another.
    ADDRESS_NOT_USED = "OUT0224" Warning;
    /// A policy asks for retries after answers and resets. Requests that are not idempotent and have no Idempotency-Key are
    /// not repeated once they may have reached the application, unless an annotation says so.
    SAFE_RETRIES_ONLY = "OUT0230" Info;
    /// The `outlierDetection` of a cluster can never eject: one of its endpoints is more than `maxEjectionPercent` of them.
    NEVER_EJECTS = "OUT0231" Warning;
    /// A part of the input is not simulated: ports of UDP or SCTP, proxies that were injected, pods beyond `replicas`.
    NOT_SIMULATED = "OUT0301" Info;
    /// A Service sends to a port that no container declares; it is simulated on the pod's first container.
    UNDECLARED_PORT = "OUT0302" Info;
    /// Two containers of a pod declare the same port; they share one network, so only the first can have it.
    PORT_TWICE = "OUT0303" Warning;
    /// A container declares a port that the sidecar itself uses; it is not simulated.
    SIDECAR_PORT = "OUT0304" Warning;
    /// A readiness probe asks a port that nothing in the pod serves: the pod is never ready.
    PROBE_PORT = "OUT0305" Warning;
    /// A pod is not ready: its status or a readiness gate says so. It gets no traffic.
    POD_NOT_READY = "OUT0306" Warning;
    /// EndpointSlices or Endpoints give way to the simulated pods that their Service selects.
    ENDPOINTS_REPLACED = "OUT0307" Info;
    /// A Service selects no pod, or only pods that are not ready: requests to it get 503 (flag UH).
    NO_PODS = "OUT0308" Warning;
    /// More pods are asked for than are simulated.
    TOO_MANY_PODS = "OUT0309" Warning;
    /// A `targetPort` names a port that no container of the selected pods has.
    TARGET_PORT = "OUT0310" Warning;
    /// A port of a simulated pod or of a gateway cannot be had on this machine; a free one stands in for it.
    PORT_MOVED = "OUT0311" Warning;
    /// A simulated pod or a gateway could not be started.
    NOT_STARTED = "OUT0312" Error;
    /// A destination names no port although its host has several.
    PORT_REQUIRED = "IST0112" Warning;
    /// A rule can never be reached: earlier rules take all of its requests.
    UNREACHABLE_RULE = "IST0130" Warning;
    /// A match is already covered by an earlier one and has no effect.
    INEFFECTIVE_MATCH = "IST0131" Info;
    /// None of the hosts of a VirtualService is among those of a Gateway it is bound to.
    NOT_IN_GATEWAY = "IST0132" Warning;
    /// Two servers with TLS have the same port and host on one gateway proxy; the older Gateway stays in force.
    CONFLICTING_GATEWAYS = "IST0145" Error;
    /// The certificate, key or authorities that a Gateway names cannot be used.
    BAD_CREDENTIAL = "IST0161" Error;
    /// The host of a DestinationRule matches no service.
    UNKNOWN_RULE_HOST = "IST0174" Warning;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::ALL;

    /// Numbers that meant something once: OUT0209, rules bound to gateways before there were any.
    const RETIRED: [&str; 1] = ["OUT0209"];

    #[test]
    fn codes_are_unique_and_documented() {
        let mut seen: HashSet<&str> = RETIRED.into();
        for info in ALL {
            let code = info.code.0;
            assert!(seen.insert(code), "{code} stands twice");
            let number = code.strip_prefix("OUT").or(code.strip_prefix("IST")).unwrap_or_default();
            assert!(number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()), "{code}");
            assert!(info.doc.ends_with('.') && info.doc.len() > 20, "{code}: {:?}", info.doc);
        }
    }
}
