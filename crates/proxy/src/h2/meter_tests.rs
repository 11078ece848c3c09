//! The exact thresholds of the guard, and that pieces do not matter to it.

use super::frames::{PADDED, PREFACE};
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Sends the same frame until it trips, at most `most` times: how many passed, and what tripped.
fn passes(meter: &Meter, bytes: &[u8], now_ms: u64, most: usize) -> (usize, Option<&'static str>) {
    for count in 0..most {
        if let Err(Tripped(name)) = meter.read(bytes, now_ms) {
            return (count, Some(name));
        }
    }
    (most, None)
}

#[test]
fn each_budget_holds_exactly() {
    let empty_with_padding = frame(DATA, PADDED, 1, &[9; 10]);
    let cases: [(&str, Vec<u8>, usize, &str); 14] = [
        ("PING", frame(PING, 0, 0, &[0; 8]), 100, "http2_pings"),
        ("PING acknowledged", frame(PING, 1, 0, &[0; 8]), 100, "http2_pings"),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]), 50, "http2_settings"),
        ("64 settings", frame(SETTINGS, 0, 0, &[0; 384]), 50, "http2_settings"),
        ("65 settings", frame(SETTINGS, 0, 0, &[0; 390]), 0, "http2_settings_length"),
        ("CONTINUATION without END_HEADERS", frame(CONTINUATION, 0, 1, &[]), 8, "http2_continuations"),
        ("empty DATA", frame(DATA, 0, 1, &[]), 2, "http2_empty_data"),
        ("padding alone", empty_with_padding, 2, "http2_empty_data"),
        ("DATA of a byte", frame(DATA, 0, 1, b"x"), 10_000, "http2_tiny_data"),
        ("PRIORITY", frame(2, 0, 1, &[0; 5]), 100, "http2_ignored_frames"),
        ("PRIORITY_UPDATE", frame(0x10, 0, 0, &[0; 5]), 100, "http2_ignored_frames"),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 2_000, "http2_window_updates"),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), 100, "http2_resets"),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0; 8]), 10, "http2_goaways"),
    ];
    for (what, bytes, allowed, name) in cases {
        let meter = Meter::new(7, &DOWNSTREAM);
        assert_eq!(passes(&meter, &bytes, 7, 30_000), (allowed, Some(name)), "{what}");
        assert_eq!(meter.tripped(), Some(Tripped(name)), "{what}");
        assert_eq!(meter.read(&[], 1_000_000), Err(Tripped(name)), "{what}: stays tripped");
    }
}

#[test]
fn what_is_useful_has_no_limit() {
    let cases = [
        ("gRPC messages without content", frame(DATA, 0, 1, &[0; 5])),
        ("DATA that ends its stream", frame(DATA, END_STREAM, 1, &[])),
        ("large DATA", frame(DATA, 0, 1, &[0; 9_000])),
        ("blocks of fields", frame(HEADERS, 5, 1, &[0x82; 40])),
    ];
    for (what, bytes) in cases {
        let meter = Meter::new(0, &DOWNSTREAM);
        assert_eq!(passes(&meter, &bytes, 0, 30_000), (30_000, None), "{what}");
    }
}

#[test]
fn time_refills_up_to_the_burst() {
    let meter = Meter::new(1_000, &DOWNSTREAM);
    let ping = frame(PING, 0, 0, &[0; 8]);
    assert_eq!(passes(&meter, &ping, 1_000, 100), (100, None));
    assert_eq!(passes(&meter, &ping, 1_010, 1), (1, None), "10 ms give one back");
    assert_eq!(passes(&meter, &ping, 1_019, 1).1, Some("http2_pings"), "9 ms do not");
    let meter = Meter::new(1_000, &DOWNSTREAM);
    assert_eq!(passes(&meter, &ping, 1_000, 100), (100, None));
    assert_eq!(
        passes(&meter, &ping, 3_600_000, 200),
        (100, Some("http2_pings")),
        "an hour gives no more than the burst"
    );
}

#[test]
fn a_steady_rate_never_trips() {
    let meter = Meter::new(0, &DOWNSTREAM);
    let (ping, settings) = (frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 1, 0, &[]));
    for second in 1..600 {
        assert_eq!(passes(&meter, &ping, second * 1_000, 100), (100, None));
        assert_eq!(passes(&meter, &settings, second * 1_000, 50), (50, None));
    }
}

#[test]
fn what_we_send_earns_answers() {
    let data = frame(DATA, 0, 1, &[0; 1_024]);
    let cases = [
        (frame(PING, 0, 0, &[0; 8]), data.clone(), 200, 300),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 4, 0]), data, 200, 6_000),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]), frame(DATA, 0, 1, &[0; 9]), 200, 2_400),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), frame(DATA, 0, 1, b"x"), 200, 2_400),
        (frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(HEADERS, 5, 1, &[0x88]), 200, 300),
        (frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(HEADERS, 4, 1, &[0x88]), 200, 100),
    ];
    for (number, (theirs, ours, count, allowed)) in cases.into_iter().enumerate() {
        let meter = Meter::new(0, &DOWNSTREAM);
        let _ = meter.wrote(&ours.repeat(count));
        assert_eq!(passes(&meter, &theirs, 0, 30_000).0, allowed, "case {number}");
    }
    let meter = Meter::new(0, &DOWNSTREAM);
    let _ = meter.wrote(&frame(DATA, 0, 1, &[0; 5]).repeat(50_000));
    assert_eq!(passes(&meter, &frame(PING, 0, 0, &[0; 8]), 0, 30_000).0, 1_000, "savings are bounded");
}

#[test]
fn streams_earn_priorities_once_each() {
    let (open, priority) = (|id| frame(HEADERS, 5, id, &[0x82]), frame(2, 0, 1, &[0; 5]));
    let meter = Meter::new(0, &DOWNSTREAM);
    for id in [1, 3, 3, 3, 1, 5] {
        assert_eq!(meter.read(&open(id), 0), Ok(()));
    }
    assert_eq!(passes(&meter, &priority, 0, 1_000).0, 100 + 3 * 5);
}

#[test]
fn empty_frames_are_forgiven_by_content() {
    let meter = Meter::new(0, &DOWNSTREAM);
    let (empty, crumb, content) = (frame(DATA, 0, 1, &[]), frame(DATA, 0, 1, b"x"), frame(DATA, 0, 1, b"hello"));
    for _ in 0..50 {
        assert_eq!(meter.read(&[&empty[..], &empty, &content].concat(), 0), Ok(()));
    }
    assert_eq!(meter.read(&[&empty[..], &crumb, &empty, &crumb].concat(), 0), Ok(()));
    assert_eq!(meter.read(&empty, 0), Err(Tripped("http2_empty_data")));
}

#[test]
fn a_block_of_fields_is_bounded_with_what_continues_it() {
    let meter = Meter::new(0, &DOWNSTREAM);
    let (first, more) = (frame(HEADERS, 0, 1, &[0; 16_384]), frame(CONTINUATION, 0, 1, &[0; 16_384]));
    assert_eq!(meter.read(&first, 0), Ok(()));
    // 120 KiB are seven and a half frames.
    assert_eq!(passes(&meter, &more, 0, 100), (6, Some("http2_header_block")));
    let meter = Meter::new(0, &DOWNSTREAM);
    for id in 0..100 {
        assert_eq!(meter.read(&frame(HEADERS, 0, 2 * id + 1, &[0; 16_384]), 0), Ok(()));
        assert_eq!(passes(&meter, &frame(CONTINUATION, 0, 2 * id + 1, &[0; 100]), 0, 8), (8, None), "each block anew");
    }
}

/// Opens and resets streams at a steady rate; the second at which that trips.
fn second_of_trip(per_second: u32, reset_of_ten: u32, seconds: u64) -> Option<(u64, &'static str)> {
    let meter = Meter::new(0, &DOWNSTREAM);
    let mut id = 1;
    for second in 1..seconds {
        for number in 0..per_second {
            let mut bytes = frame(HEADERS, 5, id, &[0x82]);
            if number % 10 < reset_of_ten {
                bytes.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
            } else {
                let _ = meter.wrote(&frame(HEADERS, 5, id, &[0x88]));
            }
            if let Err(Tripped(name)) = meter.read(&bytes, second * 1_000) {
                return Some((second, name));
            }
            id += 2;
        }
    }
    None
}

#[test]
fn resets_are_judged_by_rate_and_by_share() {
    assert_eq!(second_of_trip(3_000, 10, 60), Some((1, "http2_resets")), "rapid reset");
    assert_eq!(second_of_trip(20, 10, 60), Some((50, "http2_reset_share")), "slow rapid reset");
    assert_eq!(second_of_trip(8, 10, 600), None, "watches that their clients give up");
    assert_eq!(second_of_trip(2_000, 4, 60), None, "hedged requests");
    assert_eq!(second_of_trip(20, 6, 60), Some((51, "http2_reset_share")), "more than half");
}

#[test]
fn our_resets_count_when_they_blame_the_peer() {
    for (code, allowed) in [(0x1, 100), (0x3, 100), (0x5, 100), (0x7, 100), (0x0, 500), (0x2, 500), (0x8, 500)] {
        let meter = Meter::new(0, &DOWNSTREAM);
        let reset = frame(RST_STREAM, 0, 1, &u32::to_be_bytes(code));
        let sent = (0..500).take_while(|_| meter.wrote(&reset).is_ok());
        assert_eq!(sent.count(), allowed, "code {code}");
        let told = meter.read(&[], 0).err();
        assert_eq!(told, (allowed == 100).then_some(Tripped("http2_stream_errors")));
    }
}

#[test]
fn servers_may_reset_and_write_bit_by_bit() {
    let meter = Meter::new(0, &UPSTREAM);
    assert_eq!(passes(&meter, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), 0, 50_000), (50_000, None));
    assert_eq!(passes(&meter, &frame(DATA, 0, 1, b"x"), 0, 60_000), (50_000, Some("http2_tiny_data")));
    let meter = Meter::new(0, &UPSTREAM);
    assert_eq!(passes(&meter, &frame(PING, 0, 0, &[0; 8]), 0, 1_000), (100, Some("http2_pings")));
}

#[test]
fn a_preface_is_no_frame() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let bytes = [PREFACE.as_slice(), &ping.repeat(101)].concat();
    for cut in 0..60 {
        let meter = Meter::new(0, &DOWNSTREAM);
        assert_eq!(meter.read(&bytes[..cut], 0), Ok(()), "{cut}");
        assert_eq!(meter.read(&bytes[cut..bytes.len() - 17], 0), Ok(()), "{cut}: 100 pings");
        assert_eq!(meter.read(&bytes[bytes.len() - 17..], 0), Err(Tripped("http2_pings")), "{cut}: one more");
    }
}

/// A stream of frames of all kinds and lengths, some of them cut short of what they announce.
fn random_frames(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..400) {
        let length = [0, 1, 3, 4, 5, 8, 63, 300][random.usize(0..8)];
        let payload: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        bytes.extend(frame(random.u8(0..12), random.u8(..), random.u32(0..50), &payload));
    }
    bytes
}

#[test]
fn pieces_do_not_matter() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let (theirs, ours) = (random_frames(&mut random), random_frames(&mut random));
        let judge = |random: &mut fastrand::Rng, piece_max: usize| {
            let meter = Meter::new(0, &DOWNSTREAM);
            for (bytes, is_ours) in [(&ours, true), (&theirs, false)] {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(random.usize(1..=piece_max).min(rest.len()));
                    rest = after;
                    match is_ours {
                        true => _ = meter.wrote(piece),
                        false => _ = meter.read(piece, 1),
                    }
                }
            }
            let levels = meter.levels.each_ref().map(Cell::get);
            (meter.tripped(), levels, meter.opened.get(), meter.reset.get(), meter.last_stream.get())
        };
        let whole = judge(&mut random, usize::MAX);
        for piece_max in [1, 2, 7, 13, 100] {
            assert_eq!(judge(&mut random, piece_max), whole, "pieces of at most {piece_max}");
        }
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..random.usize(0..2_000)).map(|_| random.u8(..)).collect();
        let meter = Meter::new(u64::MAX - 5, &DOWNSTREAM);
        let _ = meter.read(&bytes, u64::MAX);
        let _ = meter.read(&bytes, 0);
        let _ = meter.wrote(&bytes);
    }
}
