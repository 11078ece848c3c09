//! A folder of YAML for the program under test, and the texts that go into it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that is gone when dropped.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
}

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's label `version`.
    pub version: String,
}

impl World {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: TempDir::with_prefix("outrigger-").expect("a folder for temporary files") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in one step: whoever reads sees the old text or the new one.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (file, draft) = (self.path().join(name), self.path().join(format!(".{name}.draft")));
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &file)).expect("the folder is writable");
        file
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("the file is there");
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A Service with one HTTP port, and for each endpoint a Pod and an EndpointSlice (slices share their ports, and loopback
/// endpoints have one each).
pub fn service_yaml(namespace: &str, name: &str, port: u16, endpoints: &[Endpoint]) -> String {
    speaking_service_yaml(namespace, name, ("http", port), endpoints)
}

/// The same with a port whose name says what is spoken there.
pub fn speaking_service_yaml(
    namespace: &str,
    name: &str,
    (protocol, port): (&str, u16),
    endpoints: &[Endpoint],
) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{app: \
         {name}}}\n  ports: [{{name: {protocol}, port: {port}, targetPort: {protocol}}}]\n"
    );
    for (number, Endpoint { address, pod, version }) in endpoints.iter().enumerate() {
        let (ip, target_port) = (address.ip(), address.port());
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace}, labels: {{app: {name}, \
             version: {version}}}}}\nspec: {{containers: [{{name: {name}, image: scripted, ports: [{{name: {protocol}, \
             containerPort: {target_port}}}]}}]}}\nstatus: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, \
             status: \"True\"}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: \
             {name}-{number}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: \
             IPv4\nports: [{{name: {protocol}, port: {target_port}, protocol: TCP}}]\nendpoints: [{{addresses: [{ip}], \
             conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {pod}, namespace: {namespace}}}}}]\n"
        )
        .expect("writing to a string succeeds");
    }
    yaml
}

/// A VirtualService for one host; `http` is its list of routes, indented by two spaces.
pub fn virtual_service_yaml(namespace: &str, name: &str, host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  hosts: [{host}]\n  http:\n{http}"
    )
}
