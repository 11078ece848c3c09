//! The JSON that tells what reached the echo server, in the field names of Gateway API's echo-basic.

use std::collections::BTreeMap;

use serde::Serialize;

use super::head::{Field, Head, Received};
use super::listen::Listen;

/// The body of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    /// Target as it arrived, with its query.
    path: &'a str,
    /// `:authority`, else `Host`.
    host: String,
    method: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0`.
    proto: &'static str,
    /// Lower-case name to values, in the order they came.
    headers: BTreeMap<&'a str, Vec<String>>,
    /// Port as text, as in echo-basic.
    #[serde(rename = "httpPort")]
    http_port: String,
    namespace: &'a str,
    /// Always empty; echo-basic's field.
    ingress: &'static str,
    service: &'a str,
    pod: &'a str,
    container: &'a str,
    version: &'a str,
    /// Who the sidecar in front says the client is (the last URI of `x-forwarded-client-cert`), else empty.
    client_principal: String,
    /// Length of the request body, without its framing.
    #[serde(rename = "bodyBytes")]
    body_bytes: u64,
    /// Fields after the body, as `headers`; left out where there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trailers: BTreeMap<&'a str, Vec<String>>,
}

impl<'a> Answer<'a> {
    /// Tells what arrived and who took it.
    pub(super) fn new(head: &'a Head, received: &'a Received, listen: &'a Listen) -> Self {
        let headers = by_name(&head.fields);
        let host = || headers.get("host").and_then(|values| values.first()).cloned();
        let who = &listen.identity;
        Self {
            path: &head.target,
            host: head.authority.clone().or_else(host).unwrap_or_default(),
            method: &head.method,
            proto: head.version.name(),
            client_principal: headers.get("x-forwarded-client-cert").map(|all| principal(all)).unwrap_or_default(),
            headers,
            http_port: listen.told_port().to_string(),
            namespace: &who.namespace,
            ingress: "",
            service: &who.service,
            pod: &who.pod,
            container: &who.container,
            version: &who.version,
            body_bytes: received.body_bytes,
            trailers: by_name(&received.trailers),
        }
    }

    /// As JSON, ended by a newline.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("text and numbers always are JSON");
        bytes.push(b'\n');
        bytes
    }
}

fn by_name(fields: &[Field]) -> BTreeMap<&str, Vec<String>> {
    let mut names = BTreeMap::<_, Vec<String>>::new();
    for (name, value) in fields {
        names.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value).into_owned());
    }
    names
}

/// The `URI` of the nearest hop in `x-forwarded-client-cert`: elements are joined by commas, the nearest comes last.
fn principal(values: &[String]) -> String {
    let nearest = values.last().and_then(|value| value.rsplit(',').next()).unwrap_or_default();
    let uri = nearest.split(';').find_map(|pair| pair.trim().strip_prefix("URI="));
    uri.map(|uri| uri.trim_matches('"').to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_hop_is_the_client() {
        let of = |value: &str| principal(&[value.to_owned()]);
        assert_eq!(of("By=spiffe://a;URI=spiffe://b,By=spiffe://c;Hash=1;URI=spiffe://d"), "spiffe://d");
        assert_eq!(of("By=spiffe://a;Subject=\"\";URI=\"spiffe://b\""), "spiffe://b");
        assert_eq!(of("Hash=1"), "");
    }
}
