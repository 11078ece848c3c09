//! Where an echo server listens and who it says it is: `ADDR[,service=…,namespace=…,pod=…,container=…,version=…]`.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::Serialize;

use crate::cli::parse_address;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listen {
    /// Where; port 0 until it is bound.
    pub(crate) address: SocketAddr,
    /// Who.
    #[serde(flatten)]
    pub(crate) identity: Identity,
    /// The port it says it has, where a sidecar stands in front of it: the container's.
    #[serde(skip)]
    pub(crate) container_port: Option<u16>,
    /// What it speaks.
    #[serde(skip)]
    pub(crate) speaks: Speaks,
}

/// What an echo server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1, answered with JSON.
    #[default]
    Http,
    /// Bytes, sent back as they come.
    Bytes,
}

/// Who an echo server says it is. What is not known is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    /// Service, `echo` by default.
    pub(crate) service: String,
    /// Namespace, `default` by default.
    pub(crate) namespace: String,
    /// Pod; by default service, version and port joined by `-`, so that listeners can be told apart.
    pub(crate) pod: String,
    /// Container, `echo` by default.
    pub(crate) container: String,
    /// Version, empty by default.
    pub(crate) version: String,
}

impl Listen {
    /// The port it says it has.
    pub(super) fn told_port(&self) -> u16 {
        self.container_port.unwrap_or(self.address.port())
    }

    /// Names the pod after what is known, where it has no name.
    pub(crate) fn with_default_pod(mut self) -> Self {
        if self.identity.pod.is_empty() {
            let Identity { service, version, .. } = &self.identity;
            let port = self.address.port();
            self.identity.pod =
                if version.is_empty() { format!("{service}-{port}") } else { format!("{service}-{version}-{port}") };
        }
        self
    }
}

impl Default for Identity {
    fn default() -> Self {
        let echo = || "echo".to_owned();
        Self {
            service: echo(),
            namespace: "default".to_owned(),
            pod: String::new(),
            container: echo(),
            version: String::new(),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let address = parse_address(parts.next().unwrap_or_default())?;
        let mut identity = Identity::default();
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("expected name=value after the address, found {part:?}"))?;
            let field = match name {
                "service" => &mut identity.service,
                "namespace" => &mut identity.namespace,
                "pod" => &mut identity.pod,
                "container" => &mut identity.container,
                "version" => &mut identity.version,
                _ => {
                    return Err(format!(
                        "unknown name {name:?}; known are service, namespace, pod, container, version"
                    ));
                }
            };
            value.clone_into(field);
        }
        Ok(Self { address, identity, container_port: None, speaks: Speaks::Http })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address_and_who_it_is() {
        let listen: Listen = "127.0.0.1:9080,service=reviews,namespace=shop,version=v2".parse().expect("a listener");
        assert_eq!(listen.address, "127.0.0.1:9080".parse().expect("an address"));
        let Identity { service, namespace, pod, container, version } = listen.with_default_pod().identity;
        assert_eq!([service, namespace, pod, container, version], ["reviews", "shop", "reviews-v2-9080", "echo", "v2"]);
        let plain: Listen = ":7".parse().expect("a listener");
        assert_eq!(plain.with_default_pod().identity.pod, "echo-7");
        let named: Listen = "7,pod=p-0".parse().expect("a listener");
        assert_eq!(named.with_default_pod().identity.pod, "p-0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<Listen>().expect_err(text);
        assert!(error("127.0.0.1:9080,pods=x").contains("unknown name \"pods\""));
        assert!(error("127.0.0.1:9080,x").contains("expected name=value"));
        assert!(error("nonsense").contains("expected IP:PORT"));
    }
}
