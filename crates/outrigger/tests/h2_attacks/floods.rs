//! H2-01 to H2-14: much of what costs little to send.

use outrigger_testkit::h2::{Block, code, data, flag, frame, headers, kind, ping, reset, settings, window_update};

use crate::case::Outcome::{Closed, GoAway, Ignored, Reset, Status};
use crate::case::{Cases, Outcome, get, request};

/// The connection is ended. What the client has not read by then may be lost on it.
const ENDED: &[Outcome] = &[Closed, GoAway(code::ENHANCE_YOUR_CALM)];

/// As [`ENDED`], where every frame is an error as well.
const ENDED_FOR_ERRORS: &[Outcome] = &[
    Closed,
    GoAway(code::ENHANCE_YOUR_CALM),
    GoAway(code::PROTOCOL_ERROR),
    GoAway(code::FRAME_SIZE_ERROR),
    GoAway(code::STREAM_CLOSED),
    GoAway(code::FLOW_CONTROL_ERROR),
];

/// Too many fields: refused by the stream, or by the connection.
const TOO_MANY_FIELDS: &[Outcome] = &[
    Status(431),
    Reset(code::ENHANCE_YOUR_CALM),
    Reset(code::PROTOCOL_ERROR),
    GoAway(code::ENHANCE_YOUR_CALM),
    GoAway(code::COMPRESSION_ERROR),
    Closed,
];

/// All of them.
pub(crate) fn add_to(cases: &mut Cases) {
    resets(cases);
    resets_by_us(cases);
    blocks(cases);
    control(cases);
    bodies(cases);
}

/// The client's streams, from 1.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

fn resets(cases: &mut Cases) {
    let add = |cases: &mut Cases, variant: &str, ends: bool| {
        cases
            .add("H2-01", variant, ENDED, |tag| {
                let pair = |id| [headers(id, ends, &get(tag)), reset(id, code::CANCEL)].concat();
                streams(3_000).flat_map(pair).collect()
            })
            .watching(0)
            .forwarded(100);
    };
    add(cases, "rapid reset", true);
    add(cases, "rapid reset before the end of the request", false);
    cases
        .add("H2-01", "a hundred opened, then reset, again and again", ENDED, |tag| {
            let all: Vec<u32> = streams(3_000).collect();
            let round = |ids: &[u32]| -> Vec<u8> {
                let opened = ids.iter().flat_map(|id| headers(*id, true, &get(tag)));
                opened.chain(ids.iter().flat_map(|id| reset(*id, code::CANCEL))).collect()
            };
            all.chunks(100).flat_map(round).collect()
        })
        .watching(0)
        .forwarded(300);
}

/// H2-03: what makes us reset streams ("MadeYouReset").
fn resets_by_us(cases: &mut Cases) {
    let mut add = |variant, ends: bool, provoke: fn(u32) -> Vec<u8>| {
        cases
            .add("H2-03", variant, ENDED_FOR_ERRORS, |tag| {
                streams(500).flat_map(|id| [headers(id, ends, &get(tag)), provoke(id)].concat()).collect()
            })
            .watching(0)
            .forwarded(150);
    };
    add("WINDOW_UPDATE of 0", false, |id| window_update(id, 0));
    add("PRIORITY of 4 bytes", false, |id| frame(kind::PRIORITY, flag::NONE, id, [0; 4]));
    add("PRIORITY on itself", false, |id| {
        frame(kind::PRIORITY, flag::NONE, id, [&id.to_be_bytes()[..], &[0]].concat())
    });
    add("a window beyond 2^31", false, |id| window_update(id, 0x7fff_ffff));
    add("HEADERS after the end", true, |id| headers(id, true, &Block::new().indexed(2, 1)));
    add("DATA after the end", true, |id| data(id, true, "x"));
    cases
        .add("H2-03", "malformed requests", ENDED_FOR_ERRORS, |tag| {
            streams(500).flat_map(|id| headers(id, true, &get(tag).field("connection", "close"))).collect()
        })
        .watching(0);
    cases
        .add("H2-28", "a thousand streams at once", ENDED, |tag| {
            streams(1_000).flat_map(|id| headers(id, false, &request("POST", tag))).collect()
        })
        .watching(0)
        .forwarded(200);
}

/// HEADERS and the CONTINUATION frames that a block needs.
fn split(stream: u32, block: &[u8]) -> Vec<u8> {
    let chunks: Vec<&[u8]> = block.chunks(16_384).collect();
    let flags = |at: usize| if at + 1 == chunks.len() { flag::END_HEADERS } else { flag::NONE };
    let frames = chunks.iter().enumerate().map(|(at, chunk)| match at {
        0 => frame(kind::HEADERS, flags(at) | flag::END_STREAM, stream, chunk),
        _ => frame(kind::CONTINUATION, flags(at), stream, chunk),
    });
    frames.collect::<Vec<_>>().concat()
}

/// H2-04 to H2-07: blocks of fields that never end, or are far longer than their bytes.
fn blocks(cases: &mut Cases) {
    for (variant, size, times) in
        [("of 100 bytes", 100, 3_000), ("empty", 0, 10_000), ("of a byte", 1, 10_000), ("full", 16_384, 100)]
    {
        cases
            .add("H2-04", format!("CONTINUATION frames {variant}"), ENDED_FOR_ERRORS, |tag| {
                // Fields that are cut at the frames' borders and go on for as long as the frames do.
                let field = Block::new().field("a", vec![b'a'; 95]);
                let fields: Vec<u8> = field.bytes().iter().copied().cycle().take(size).collect();
                let more = frame(kind::CONTINUATION, flag::NONE, 1, fields);
                [frame(kind::HEADERS, flag::END_STREAM, 1, get(tag).bytes()), more.repeat(times)].concat()
            })
            .watching(0);
    }
    cases.add("H2-05", "a long value, 16000 times", TOO_MANY_FIELDS, |tag| {
        split(1, get(tag).incremental("a", vec![b'a'; 4_000]).indexed(62, 16_000).bytes())
    });
    for (name, value, times) in
        [("a", "", 101), ("a", "", 4_000), ("a", "", 16_000), ("cookie", "a=b", 101), ("cookie", "", 16_000)]
    {
        cases.add("H2-06", format!("{name} {times} times"), TOO_MANY_FIELDS, |tag| {
            split(1, get(tag).incremental(name, value).indexed(62, times).bytes())
        });
        cases
            .add("H2-06", format!("{name} {times} times on 100 streams, no window"), TOO_MANY_FIELDS, |tag| {
                let bomb = |id| split(id, get(tag).incremental(name, value).indexed(62, times).bytes());
                let bombs: Vec<u8> = streams(100).flat_map(bomb).collect();
                [settings(&[(4, 0)]), bombs, settings(&[(4, 65_535)])].concat()
            })
            .watching(199);
    }
    cases.add("H2-07", "24600 names", TOO_MANY_FIELDS, |tag| {
        let names = (0..24_600).map(|number| format!("n{number}"));
        split(1, names.fold(get(tag), |block, name| block.field(name, "")).bytes())
    });
    cases.add("H2-07", "500 names", TOO_MANY_FIELDS, |tag| {
        let names = (0..500).map(|number| format!("n{number}"));
        split(1, names.fold(get(tag), |block, name| block.field(name, "")).bytes())
    });
}

fn control(cases: &mut Cases) {
    let mut add = |id, variant, outcomes, bytes: Vec<u8>| {
        cases.add(id, variant, outcomes, |_| bytes).watching(0);
    };
    add("H2-08", "PING", ENDED, ping([1; 8]).repeat(20_000));
    add("H2-08", "PING, acknowledged", ENDED, frame(kind::PING, flag::ACK, 0, [1; 8]).repeat(20_000));
    add("H2-09", "SETTINGS", ENDED, settings(&[(4, 65_535)]).repeat(10_000));
    add("H2-09", "empty SETTINGS", ENDED, settings(&[]).repeat(10_000));
    add("H2-09", "2700 settings", ENDED, settings(&[(0x99, 1); 2_700]));
    let priority = |id: u32| frame(kind::PRIORITY, flag::NONE, id, [0, 0, 0, 0, 9]);
    add("H2-11", "PRIORITY", ENDED, (1..20_000).flat_map(priority).collect());
    add(
        "H2-11",
        "PRIORITY_UPDATE",
        ENDED,
        frame(kind::PRIORITY_UPDATE, flag::NONE, 0, b"\0\0\0\x01u=1").repeat(10_000),
    );
    add("H2-11", "unknown frames", ENDED, frame(0xee, flag::NONE, 0, []).repeat(10_000));
    add("H2-12", "WINDOW_UPDATE of 1", ENDED, window_update(0, 1).repeat(10_000));
    add("H2-12", "GOAWAY", ENDED, outrigger_testkit::h2::goaway(0, 0).repeat(1_000));
    // What honest clients do in a burst.
    add("H2-08", "100 PINGs are nothing, two of them to know that", &[Ignored], ping([1; 8]).repeat(98));
    add("H2-12", "1000 WINDOW_UPDATEs are nothing", &[Ignored], window_update(0, 1).repeat(1_000));
}

/// H2-10: DATA that carries next to nothing.
fn bodies(cases: &mut Cases) {
    let mut add = |variant, outcomes, more: Vec<u8>| {
        cases
            .add("H2-10", variant, outcomes, |tag| [headers(1, false, &request("POST", tag)), more].concat())
            .forwarded(1);
    };
    add("empty DATA", ENDED, data(1, false, "").repeat(20_000));
    add("DATA of padding", ENDED, frame(kind::DATA, flag::PADDED, 1, [9; 10]).repeat(6_000));
    add("DATA of a byte", ENDED, data(1, false, "x").repeat(20_000));
    // A gRPC stream of messages of 20 bytes, as long as the window lasts.
    let messages = data(1, false, [0; 25]).repeat(2_000);
    add("DATA of 25 bytes is a message", &[Status(200)], [messages, data(1, true, "")].concat());
}
