//! Long streams in flat memory; alone in its process, because that is what is measured.

mod common;

use std::thread;

use common::gateway::{chain, gateway, start, to_tcp};
use common::pattern::{receive, send};
use common::sockets::{connect, counted, handing};
use outrigger_proxy::Settings;
use outrigger_testkit::{PATIENCE, eventually};

/// Memory of this process that is resident.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_long_stream_passes_both_ways_byte_for_byte_in_flat_memory() {
    const BYTES: u64 = 64 * 1024 * 1024;
    let (server, handed) = handing();
    let world = start(Settings::default(), gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], &[("db", &[server])]));
    let client = connect(world.address());
    let upstream = handed.recv_timeout(PATIENCE).unwrap();
    let before = resident_bytes();
    let threads =
        [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)].map(|(from, to)| {
            (thread::spawn(move || send(from, BYTES, 100_000)), thread::spawn(move || receive(to, 70_000)))
        });
    // It is counted while it passes, not at its end.
    for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
        eventually(metric, || (world.sum(metric, "db") > 0.0).then_some(()));
        assert_eq!(world.sum("istio_tcp_connections_closed_total", "db"), 0.0);
    }
    for (sending, receiving) in threads {
        sending.join().unwrap();
        assert_eq!(receiving.join().unwrap(), BYTES);
    }
    counted(&world, "istio_tcp_connections_closed_total", "-", 1.0);
    assert_eq!(world.sum("istio_tcp_received_bytes_total", "db"), BYTES as f64);
    assert_eq!(world.sum("istio_tcp_sent_bytes_total", "db"), BYTES as f64);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more for two streams");
}
