//! Istio `WorkloadGroup`: the template from which WorkloadEntries are registered.
//!
//! Without a control plane that registers instances it has no effect of its own; it is read so that mistakes are found,
//! and so that a workload can be named by it.

use std::sync::Arc;

use super::workload_entry::WorkloadEntrySpec;
use crate::object;
use crate::object::Labels;
use crate::scalar;

object! {
    /// A WorkloadGroup.
    pub resource struct WorkloadGroup {
        /// `spec`.
        pub spec: WorkloadGroupSpec = required "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`.
    pub struct WorkloadGroupSpec {
        /// `metadata` of the instances.
        pub metadata: Option<TemplateMetadata> = optional "metadata",
        /// `template`.
        pub template: WorkloadEntrySpec = required "template",
        /// `probe`.
        pub probe: Option<Probe> = with(super::istio::later) "probe",
    }
}

object! {
    /// `metadata`.
    pub struct TemplateMetadata {
        /// `labels`.
        pub labels: Labels = or_default "labels",
        /// `annotations`.
        pub annotations: Labels = or_default "annotations",
    }
}

object! {
    /// `probe`.
    pub struct Probe {
        /// `httpGet`.
        pub http_get: Option<HttpGet> = optional "httpGet",
        /// `tcpSocket`.
        pub tcp_socket: Option<TcpSocket> = optional "tcpSocket",
        /// `exec`.
        pub exec: Option<Exec> = optional "exec",
        /// `grpc`.
        pub grpc: Option<Grpc> = optional "grpc",
        /// `initialDelaySeconds`.
        pub initial_delay_seconds: Option<u32> = optional "initialDelaySeconds",
        /// `timeoutSeconds`.
        pub timeout_seconds: Option<u32> = optional "timeoutSeconds",
        /// `periodSeconds`.
        pub period_seconds: Option<u32> = optional "periodSeconds",
        /// `successThreshold`.
        pub success_threshold: Option<u32> = optional "successThreshold",
        /// `failureThreshold`.
        pub failure_threshold: Option<u32> = optional "failureThreshold",
    }
}

object! {
    /// `probe.httpGet`.
    pub struct HttpGet {
        /// `path`.
        pub path: Option<Arc<str>> = optional "path",
        /// `port`.
        pub port: u16 = required_with(scalar::port) "port",
        /// `host`.
        pub host: Option<Arc<str>> = optional "host",
        /// `scheme`.
        pub scheme: Option<Arc<str>> = optional "scheme",
        /// `httpHeaders`.
        pub headers: Vec<HttpHeader> = or_default "httpHeaders",
    }
}

object! {
    /// One of `probe.httpGet.httpHeaders`.
    pub struct HttpHeader {
        /// `name`.
        pub name: Option<Arc<str>> = optional "name",
        /// `value`.
        pub value: Option<Arc<str>> = optional "value",
    }
}

object! {
    /// `probe.tcpSocket`.
    pub struct TcpSocket {
        /// `host`.
        pub host: Option<Arc<str>> = optional "host",
        /// `port`.
        pub port: u16 = required_with(scalar::port) "port",
    }
}

object! {
    /// `probe.exec`.
    pub struct Exec {
        /// `command`.
        pub command: Vec<Arc<str>> = or_default "command",
    }
}

object! {
    /// `probe.grpc`.
    pub struct Grpc {
        /// `port`.
        pub port: Option<u16> = with(scalar::port) "port",
        /// `service`.
        pub service: Option<Arc<str>> = optional "service",
    }
}
