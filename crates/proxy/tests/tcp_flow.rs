//! What flows through a connection: long streams and odd ones, byte for byte, and what they cost in memory.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::World;
use common::gateway::{chain, gateway, start, to_tcp};
use common::pattern::{Pattern, receive, send};
use common::sockets::{connect, counted, handing, read_some, serve};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{PATIENCE, eventually};

fn to_server(server: SocketAddr) -> model::Snapshot {
    gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], &[("db", &[server])])
}

fn plain(server: SocketAddr) -> World {
    start(Settings::default(), to_server(server))
}

/// Pipes that are open in this process.
fn pipes() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_pipe =
        |target: io::Result<std::path::PathBuf>| target.is_ok_and(|t| t.to_string_lossy().starts_with("pipe:"));
    descriptors.filter(|descriptor| is_pipe(std::fs::read_link(descriptor.path()))).count()
}

#[test]
fn pieces_of_all_sizes_pass_and_each_side_finishes_by_itself() {
    let server = serve(|socket| {
        let back = socket.try_clone()?;
        let count = receive(socket, 1 << 16);
        // Only now that the client has finished.
        send(back, count, 1 << 16);
        Ok(())
    });
    let world = plain(server);
    for (piece, bytes) in
        [(1, 20_000), (1000, 1_000_000), (16_384, 5_000_000), (65_536, 20_000_000), (3_000_000, 9_000_001)]
    {
        let client = connect(world.address());
        let sender = client.try_clone().unwrap();
        let sending = thread::spawn(move || send(sender, bytes, piece));
        assert_eq!(receive(client, 10_000), bytes, "in pieces of {piece}");
        sending.join().unwrap();
    }
}

#[test]
fn what_flows_and_ebbs_and_flows_again_stays_in_order() {
    let (server, handed) = handing();
    let world = plain(server);
    let client = connect(world.address());
    let upstream = handed.recv_timeout(PATIENCE).unwrap();
    let receiving = thread::spawn(move || receive(upstream, 50_000));
    let (mut pattern, mut sent) = (Pattern::new(), 0);
    let mut socket = client.try_clone().unwrap();
    for round in 0..40 {
        for piece in [400_000, 1 + round % 7, 900, 20_000, 5] {
            let mut block = vec![0; piece];
            pattern.fill(&mut block);
            socket.write_all(&block).unwrap();
            sent += piece as u64;
            if piece < 1000 {
                // All of it has passed: the relay waits.
                counted(&world, "istio_tcp_received_bytes_total", "db", sent as f64);
            }
        }
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receiving.join().unwrap(), sent);
}

#[test]
fn urgent_data_stops_no_stream() {
    let (server, handed) = handing();
    let world = plain(server);
    let mut client = connect(world.address());
    let upstream = handed.recv_timeout(PATIENCE).unwrap();
    let receiving = thread::spawn(move || receive(upstream, 50_000));
    let (mut pattern, mut block) = (Pattern::new(), vec![0; 300_000]);
    for _ in 0..20 {
        pattern.fill(&mut block);
        client.write_all(&block).unwrap();
        // Not part of the stream: a reader who does not ask for it does not see it.
        socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
        // Nothing else comes that could wake somebody who stopped at it. (Of two on their way at once, TCP takes the
        // first for a part of the stream.)
        counted(&world, "istio_tcp_received_bytes_total", "db", pattern.at as f64);
    }
    pattern.fill(&mut block[..10]);
    client.write_all(&block[..10]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receiving.join().unwrap(), pattern.at);
}

#[test]
fn a_window_that_closes_and_opens_loses_nothing_and_a_quiet_flow_holds_no_pipe() {
    let (server, handed) = handing();
    let world = plain(server);
    let client = connect(world.address());
    let upstream = handed.recv_timeout(PATIENCE).unwrap();
    socket2::SockRef::from(&upstream).set_recv_buffer_size(64 * 1024).unwrap();
    const BYTES: u64 = 32 * 1024 * 1024;
    let sending = thread::spawn({
        let client = client.try_clone().unwrap();
        move || send(client, BYTES, 64 * 1024)
    });
    // Nobody reads: the sockets fill up, and then nothing moves.
    let mut last = -1.0;
    eventually("a stop", || {
        let now = world.sum("istio_tcp_received_bytes_total", "db");
        outrigger_testkit::pass_time(Duration::from_millis(100));
        (std::mem::replace(&mut last, now) == now && now > 0.0).then_some(())
    });
    assert!(last < BYTES as f64, "the sockets took all of it");
    let mut upstream_reader = upstream.try_clone().unwrap();
    let mut pattern = Pattern::new();
    // A byte at a time, then at once.
    for _ in 0..100_000 {
        let mut byte = [0];
        upstream_reader.read_exact(&mut byte).unwrap();
        pattern.check(&byte);
    }
    let mut block = vec![0; 1 << 20];
    while pattern.at < BYTES {
        let count = upstream_reader.read(&mut block).unwrap();
        assert!(count > 0, "an end at {}", pattern.at);
        pattern.check(&block[..count]);
    }
    assert_eq!(upstream_reader.read(&mut block).unwrap(), 0);
    sending.join().unwrap();
    drop((upstream, upstream_reader, client));
    counted(&world, "istio_tcp_connections_closed_total", "db", 1.0);

    // Flows that stop for a while leave no more than the pipes that are kept for the next.
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut client = connect(world.address());
            let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
            let reading = thread::spawn(move || {
                upstream.read_exact(&mut vec![0; 2_000_000]).unwrap();
                upstream
            });
            client.write_all(&vec![b'x'; 2_000_000]).unwrap();
            (client, reading.join().unwrap())
        })
        .collect();
    eventually("idle connections without pipes", || (pipes() <= 2 * 2 * 8 + 8).then_some(()));
    assert!(pipes() > 0, "nothing was spliced");
    drop(clients);
}

#[test]
fn a_flow_that_breaks_off_is_reset_on_the_other_side() {
    for client_breaks in [true, false] {
        let (server, handed) = handing();
        let world = plain(server);
        let client = connect(world.address());
        let upstream = handed.recv_timeout(PATIENCE).unwrap();
        let (mut writer, mut reader) = if client_breaks { (client, upstream) } else { (upstream, client) };
        writer.write_all(&vec![b'x'; 3_000_000]).err();
        socket2::SockRef::from(&writer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(writer);
        let ended = loop {
            match reader.read(&mut [0; 100_000]) {
                Ok(0) => panic!("a part passes for the whole"),
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(ended, io::ErrorKind::ConnectionReset);
        counted(&world, "istio_tcp_connections_closed_total", if client_breaks { "DC" } else { "UC" }, 1.0);
    }
}

#[test]
fn a_cluster_says_how_long_its_connections_may_be_silent() {
    let (server, handed) = handing();
    let mut snapshot = to_server(server);
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).pool.tcp_idle_timeout = Some(Duration::from_millis(300));
    }
    let world = start(Settings::default(), snapshot);
    let mut client = connect(world.address());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    upstream.write_all(b"x").unwrap();
    assert_eq!(read_some(&mut client), b"x");
    assert_eq!(client.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    counted(&world, "istio_tcp_connections_closed_total", "SI", 1.0);

    // Zero is no limit.
    let mut snapshot = to_server(server);
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).pool.tcp_idle_timeout = Some(Duration::ZERO);
    }
    let world = start(Settings { tcp_idle_timeout: Duration::from_millis(300), ..Settings::default() }, snapshot);
    let mut client = connect(world.address());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    outrigger_testkit::pass_time(Duration::from_millis(800));
    upstream.write_all(b"y").unwrap();
    assert_eq!(read_some(&mut client), b"y");
}
