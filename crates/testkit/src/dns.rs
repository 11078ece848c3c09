//! A name server on loopback, over UDP and TCP at one port: it answers as a closure says.
//!
//! Its own few lines of RFC 1035, so that nothing here shares code with the resolver that it judges.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A question as it reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, lower case, without a dot at its end.
    pub name: String,
    /// What of it is asked for.
    pub kind: Kind,
    /// Whether it came over TCP.
    pub over_tcp: bool,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Something else, by its number.
    Other(u16),
}

/// What the server does with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records. An answer longer than 512 bytes is cut over UDP and marked as such.
    Records(Vec<Record>),
    /// As [`Self::Records`], after a packet that answers another question.
    AfterSpoof(Vec<Record>),
    /// An error: 2 for SERVFAIL, 3 for NXDOMAIN, 5 for REFUSED.
    Code(u8),
    /// Nothing.
    Silence,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: String,
    /// Time to live in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address of either family.
    Address(IpAddr),
    /// An alias.
    Alias(String),
}

/// A running name server. Dropping it ends it.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&Question) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Question>>,
    stopped: AtomicBool,
}

impl Answer {
    /// The addresses of both families that fit the question; none of the other.
    pub fn addresses(question: &Question, ttl: u32, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
        let fits = |ip: &IpAddr| ip.is_ipv4() == (question.kind == Kind::A);
        let record = |ip| Record { name: question.name.clone(), ttl, data: Data::Address(ip) };
        Self::Records(addresses.filter(fits).map(record).collect())
    }

    /// An alias for the name in question.
    pub fn alias(question: &Question, ttl: u32, target: &str) -> Self {
        Self::Records(vec![Record { name: question.name.clone(), ttl, data: Data::Alias(target.to_owned()) }])
    }

    /// The name does not exist.
    pub const NO_NAME: Self = Self::Code(3);
    /// The server is not well.
    pub const BROKEN: Self = Self::Code(2);
}

impl NameServer {
    /// Starts on 127.0.0.1; `script` answers each question.
    pub fn start(script: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("a bound socket has an address");
        let shared =
            Arc::new(Shared { script: Box::new(script), asked: Mutex::default(), stopped: AtomicBool::new(false) });
        let (datagrams, connections) = (shared.clone(), shared.clone());
        thread::spawn(move || datagrams.answer_datagrams(&udp));
        thread::spawn(move || connections.accept(&tcp));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Question> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a name was asked for, whatever of it.
    pub fn times(&self, name: &str) -> usize {
        self.asked().iter().filter(|question| question.name == name).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Both threads wake up and see the flag.
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Both at one port.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("it is bound")) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

/// The most that goes into a datagram without extensions.
const DATAGRAM_BYTES_MAX: usize = 512;
/// The bit of a header that says that an answer was cut.
const CUT: u8 = 0b10;

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            if self.is_stopped() {
                return;
            }
            for mut message in self.answers(&buffer[..count], false) {
                if message.len() > DATAGRAM_BYTES_MAX {
                    // The header and the question remain.
                    message.truncate(count);
                    message[2] |= CUT;
                    message[6..12].fill(0);
                }
                // Who asked may be gone.
                let _ = socket.send_to(&message, from);
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.is_stopped() {
                return;
            }
            let shared = self.clone();
            if let Ok(stream) = stream {
                // Who asked may be gone.
                thread::spawn(move || drop(shared.answer_connection(stream)));
            }
        }
    }

    fn answer_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(crate::PATIENCE))?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message)?;
            for answer in self.answers(&message, true) {
                let length = u16::try_from(answer.len()).expect("an answer fits a message");
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
            }
        }
    }

    /// The messages that go back for one that came.
    fn answers(&self, message: &[u8], over_tcp: bool) -> Vec<Vec<u8>> {
        let Some((question, end)) = parse(message, over_tcp) else { return Vec::new() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
        let reply = |code: u8, records: &[Record]| write(&message[..end], &question.name, code, records);
        match (self.script)(&question) {
            Answer::Silence => Vec::new(),
            Answer::Code(code) => vec![reply(code, &[])],
            Answer::Records(records) => vec![reply(0, &records)],
            Answer::AfterSpoof(records) => {
                let lie = Data::Address(Ipv4Addr::new(192, 0, 2, 66).into());
                let mut spoofed = reply(0, &[Record { name: question.name.clone(), ttl: 3600, data: lie }]);
                spoofed[0] ^= 0xff;
                vec![spoofed, reply(0, &records)]
            }
        }
    }
}

/// The first question of a message, and where it ends.
fn parse(message: &[u8], over_tcp: bool) -> Option<(Question, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = match u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]) {
        1 => Kind::A,
        28 => Kind::Aaaa,
        other => Kind::Other(other),
    };
    Some((Question { name: labels.join("."), kind, over_tcp }, at + 4))
}

/// An answer to the question that `asked` is, its header and the question itself, about this name.
fn write(asked: &[u8], name: &str, code: u8, records: &[Record]) -> Vec<u8> {
    let mut message = asked.to_vec();
    // A response, by a server that asks others.
    message[2] = 0b1000_0001;
    message[3] = 0b1000_0000 | code;
    message[4..12].fill(0);
    message[5] = 1;
    let count = u16::try_from(records.len()).expect("a message has room for so many");
    message[6..8].copy_from_slice(&count.to_be_bytes());
    for record in records {
        if record.name == name {
            // The name that stands behind the header, or four thousand records would be too many for a message.
            message.extend([0xc0, 12]);
        } else {
            write_name(&record.name, &mut message);
        }
        let (kind, data): (u16, Vec<u8>) = match &record.data {
            Data::Address(IpAddr::V4(ip)) => (1, ip.octets().to_vec()),
            Data::Address(IpAddr::V6(ip)) => (28, ip.octets().to_vec()),
            Data::Alias(target) => {
                let mut name = Vec::new();
                write_name(target, &mut name);
                (5, name)
            }
        };
        message.extend(kind.to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(record.ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).expect("a name is short").to_be_bytes());
        message.extend(data);
    }
    message
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a label is short"));
        out.extend(label.as_bytes());
    }
    out.push(0);
}
