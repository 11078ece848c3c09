//! A pod for one test: a network namespace of its own with addresses, rules that redirect what a workload's connections
//! carry to its sidecar, and the sidecar.
//!
//! The test binary runs itself again within the namespace, so that the test's own sockets are those of the application in
//! the pod. The sidecar has user and group 1337, which the rules exempt, as Istio's do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use outrigger_testkit::{Client, PATIENCE, Process, metrics};
use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
/// Set in the process that runs within the namespace.
const WITHIN: &str = "NETNS_TEST_WITHIN";

/// Programs without which no test here can run, and the Debian package each is in.
const NEEDED: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("ip6tables", "iptables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("bash", "bash"),
];

/// What every pod has: its own addresses, those of other pods and of a machine outside the mesh, all on loopback; and routes
/// to everywhere, so that a connection gets as far as the rules.
const ADDRESSES: &str = "
    ip link set lo up
    for address in 10.1.0.2 10.1.0.3 192.0.2.7; do ip address add $address/32 dev lo; done
    for address in fd00:1::2 fd00:1::3 2001:db8::7; do ip -6 address add $address/128 dev lo; done
    ip route add default dev lo
    ip -6 route add default dev lo";

/// What leaves is redirected, but for the sidecar's own connections and for what stays on loopback.
const LEAVING: &str = "
    for tables in iptables ip6tables; do
        $tables -t nat -A OUTPUT -m owner --uid-owner 1337 -j RETURN
        $tables -t nat -A OUTPUT -m owner --gid-owner 1337 -j RETURN
    done
    iptables -t nat -A OUTPUT -d 127.0.0.0/8 -j RETURN
    ip6tables -t nat -A OUTPUT -d ::1/128 -j RETURN
    for tables in iptables ip6tables; do $tables -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001; done";

/// Runs a test within a namespace of its own. Where that cannot be, it says so, and fails in CI.
pub(crate) fn within(test: &str, body: impl FnOnce()) {
    if std::env::var_os(WITHIN).is_some() {
        return body();
    }
    if let Some(reason) = obstacle() {
        assert!(std::env::var_os("CI").is_none(), "{test} must run in CI: {reason}");
        eprintln!("{test} was not run: {reason}");
        return;
    }
    let own = std::env::current_exe().expect("a test knows its binary");
    let args = ["--net", "--"].map(std::ffi::OsString::from).into_iter().chain([own.into_os_string()]);
    let output = Command::new("unshare")
        .args(args)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(WITHIN, "1")
        .output()
        .expect("unshare starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "within the namespace:\n{said}");
}

/// Why no test here can run.
fn obstacle() -> Option<String> {
    let has = |program: &str| Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let missing = NEEDED.iter().find(|(program, _)| !has(program).is_ok_and(|found| found.status.success()));
    if let Some((program, package)) = missing {
        return Some(format!("there is no `{program}` here; `apt-get install {package}` brings it"));
    }
    let tried = Command::new("unshare").args(["--net", "iptables", "-t", "nat", "-S"]).output().ok()?;
    let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    (!tried.status.success()).then(|| format!("namespaces and their rules need root ({said})"))
}

/// Runs lines of shell; all must succeed.
pub(crate) fn shell(lines: &str) {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", lines]).output().expect("bash starts");
    assert!(output.status.success(), "{lines}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The pod with its sidecar; what runs in it ends with it.
pub(crate) struct Pod {
    sidecar: Process,
    folder: PathBuf,
}

impl Pod {
    /// Sets the namespace up and starts the sidecar of `shop/app` on an input.
    pub(crate) fn start(yaml: &str) -> Self {
        shell(ADDRESSES);
        shell(LEAVING);
        let folder = std::env::temp_dir().join(format!("outrigger-netns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the input");
        std::fs::write(folder.join("mesh.yaml"), yaml).expect("the input is written");
        // A binary below a folder that only root may enter keeps root's user; its group is exempt, too.
        let exempt: &[&str] = &["--reuid=1337", "--regid=1337", "--clear-groups"];
        let may = Command::new("setpriv").args(exempt).args([OUTRIGGER, "--version"]).output();
        let exempt = if may.is_ok_and(|output| output.status.success()) { exempt } else { &exempt[1..] };
        let input = folder.display().to_string();
        let run = [OUTRIGGER, "run", &input, "--workload", "shop/app", "-o", "json", "--concurrency", "2"];
        let sidecar = Process::start("setpriv", exempt.iter().chain(&run));
        Self { sidecar, folder }
    }

    /// The value of a metric, summed over the series with these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let request = b"GET /stats/prometheus HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n";
        let mut client = Client::connect(self.sidecar.address("metrics")).expect("metrics are served");
        let text = client.exchange(request).expect("metrics").text();
        metrics::sum(&metrics::parse(&text), name, labels) as u64
    }

    /// The line that the sidecar said when it was ready.
    pub(crate) fn ready(&self) -> &Value {
        self.sidecar.ready()
    }

    /// The sidecar has not panicked.
    pub(crate) fn assert_well(&mut self) {
        self.sidecar.assert_well();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An echo server, as another pod or a machine outside: `ADDRESS,pod=NAME` each.
pub(crate) fn echo(listen: &[&str]) -> Process {
    let listen = listen.iter().flat_map(|listen| ["--listen", listen]);
    Process::start(OUTRIGGER, ["echo", "-o", "json"].into_iter().chain(listen))
}

/// A server that says `greeting` at once, and then what it hears.
pub(crate) fn talker(address: &str, greeting: &'static str) {
    let listener = TcpListener::bind(address).expect("the address is free");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut bytes = [0; 1024];
                let _ = stream.write_all(greeting.as_bytes());
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// Sends bytes as the application, sends no more, and returns all that comes back.
pub(crate) fn talk(address: &str, bytes: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Sends a request as the application; the status, and the pod that answered.
pub(crate) fn get(address: &str, host: &str) -> (u16, String) {
    let address: SocketAddr = address.parse().expect("an address");
    let request = format!("GET /at HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut client = Client::connect(address).expect("a connection");
    let answer = client.exchange(request.as_bytes()).expect("an answer");
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, told["pod"].as_str().unwrap_or_default().to_owned())
}

/// Another machine, with a wire to the pod: the pod is 10.2.0.1 and fd00:2::1, the machine 10.2.0.2 and fd00:2::2. It ends
/// when this is dropped.
pub(crate) struct Machine(Child);

impl Machine {
    /// Connects it. What arrives from it is redirected to the sidecar.
    pub(crate) fn connect() -> Self {
        // It lives until its input ends, and says that it does.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut up = [0; 3];
        child.stdout.as_mut().expect("piped").read_exact(&mut up).expect("it is up");
        let machine = Self(child);
        let id = machine.0.id();
        shell(&format!(
            "ip link add wire0 type veth peer name wire1 netns {id}
             ip address add 10.2.0.1/24 dev wire0; ip -6 address add fd00:2::1/64 dev wire0 nodad
             ip link set wire0 up
             nsenter -t {id} -n sh -euc 'ip address add 10.2.0.2/24 dev wire1
                 ip -6 address add fd00:2::2/64 dev wire1 nodad; ip link set wire1 up; ip link set lo up'
             for tables in iptables ip6tables; do
                 $tables -t nat -A PREROUTING -i wire0 -p tcp -j REDIRECT --to-ports 15006
             done"
        ));
        machine
    }

    /// Sends bytes from there; all that comes back.
    pub(crate) fn talk(&self, host: &str, port: u16, bytes: &str) -> String {
        self.run(&format!("exec 3<>/dev/tcp/{host}/{port}; printf '{bytes}' >&3; cat <&3"))
    }

    /// Runs a script there; what it says.
    pub(crate) fn run(&self, script: &str) -> String {
        let id = self.0.id().to_string();
        let seconds = PATIENCE.as_secs().to_string();
        let args = ["-t", &id, "-n", "timeout", &seconds, "bash", "-c", script];
        let output = Command::new("nsenter").args(args).output().expect("nsenter starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
