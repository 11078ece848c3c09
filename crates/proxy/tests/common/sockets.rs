//! Servers and clients of bytes, and counts of what passed between them.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use outrigger_testkit::{PATIENCE, eventually};

use super::World;

/// A server that does this with each connection. It ends with the test's process.
pub fn serve(each: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let each = Arc::new(each);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let each = each.clone();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.set_write_timeout(Some(PATIENCE)).unwrap();
            // What a peer does to a server is seen by the test.
            thread::spawn(move || drop(each(socket)));
        }
    });
    address
}

/// A server that hands its connections to the test.
pub fn handing() -> (SocketAddr, Receiver<TcpStream>) {
    let (hand, handed) = channel();
    let address = serve(move |socket| {
        socket.set_nodelay(true)?;
        hand.send(socket).map_err(io::Error::other)
    });
    (address, handed)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn read_some(socket: &mut TcpStream) -> Vec<u8> {
    let mut block = [0; 1024];
    let count = socket.read(&mut block).unwrap();
    block[..count].to_vec()
}

#[track_caller]
pub fn counted(world: &World, metric: &str, value: &str, expected: f64) {
    let what = format!("{expected} of {metric} with {value}");
    eventually(&what, || (world.sum(metric, value) == expected).then_some(()));
}

pub fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Reads the head of a message byte by byte: what follows it stays in the socket.
pub fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {}", String::from_utf8_lossy(&head)));
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}
