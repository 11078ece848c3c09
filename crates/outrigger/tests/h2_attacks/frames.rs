//! H2-24 to H2-28: frames in the wrong place, of the wrong length, or with values nobody may use.

use outrigger_testkit::h2::{
    Block, code, data, flag, frame, goaway, headers, kind, ping, reset, settings, window_update,
};

use crate::case::Outcome::{Closed, GoAway, Ignored, Reset, Status};
use crate::case::{Cases, Outcome, get, request};

/// An error of the connection for which RFC 9113 names PROTOCOL_ERROR.
const PROTOCOL: &[Outcome] = &[GoAway(code::PROTOCOL_ERROR)];

/// RFC 9113 names STREAM_CLOSED, and lets a server that has forgotten the stream say PROTOCOL_ERROR.
const CLOSED_STREAM: &[Outcome] =
    &[GoAway(code::STREAM_CLOSED), GoAway(code::PROTOCOL_ERROR), Reset(code::STREAM_CLOSED), Status(200)];

/// FRAME_SIZE_ERROR.
const SIZE: &[Outcome] = &[GoAway(code::FRAME_SIZE_ERROR), GoAway(code::PROTOCOL_ERROR)];

/// COMPRESSION_ERROR; `h2` says PROTOCOL_ERROR, which RFC 9113 §5.4 allows: codes are advice.
const COMPRESSION: &[Outcome] = &[GoAway(code::COMPRESSION_ERROR), GoAway(code::PROTOCOL_ERROR)];

/// FLOW_CONTROL_ERROR.
const FLOW: &[Outcome] = &[GoAway(code::FLOW_CONTROL_ERROR), GoAway(code::PROTOCOL_ERROR)];

/// Nothing.
const NOTHING: &[Outcome] = &[Ignored];

/// All of them.
pub(crate) fn add_to(cases: &mut Cases) {
    identifiers(cases);
    places(cases);
    lengths(cases);
    blocks(cases);
    values(cases);
}

fn identifiers(cases: &mut Cases) {
    cases.add("H2-24", "even", PROTOCOL, |tag| headers(2, true, &get(tag)));
    cases.add("H2-24", "0", PROTOCOL, |tag| headers(0, true, &get(tag)));
    cases
        .add("H2-24", "going down", PROTOCOL, |tag| [headers(5, true, &get(tag)), headers(3, true, &get(tag))].concat())
        .forwarded(1);
    cases
        .add("H2-24", "again after a reset", &[GoAway(code::STREAM_CLOSED), GoAway(1), Reset(5), Ignored], |tag| {
            [headers(1, false, &get(tag)), reset(1, code::CANCEL), headers(1, true, &get(tag))].concat()
        })
        .watching(0)
        .forwarded(1);
    cases
        .add("H2-24", "the last one, then more", PROTOCOL, |tag| {
            [headers(0x7fff_ffff, true, &get(tag)), headers(1, true, &get(tag))].concat()
        })
        .forwarded(1);
}

fn places(cases: &mut Cases) {
    let mut add = |variant, outcomes, bytes: Vec<u8>| {
        cases.add("H2-25", variant, outcomes, |_| bytes).watching(0);
    };
    add("DATA on an idle stream", PROTOCOL, data(1, true, "x"));
    add("DATA on the connection", PROTOCOL, data(0, true, "x"));
    add("RST_STREAM on an idle stream", PROTOCOL, reset(1, 0));
    add("RST_STREAM on the connection", PROTOCOL, reset(0, 0));
    add("WINDOW_UPDATE on an idle stream", PROTOCOL, window_update(1, 1));
    add("PING on a stream", PROTOCOL, frame(kind::PING, flag::NONE, 1, [0; 8]));
    add("SETTINGS on a stream", PROTOCOL, frame(kind::SETTINGS, flag::NONE, 1, []));
    add("GOAWAY on a stream", PROTOCOL, frame(kind::GOAWAY, flag::NONE, 1, [0; 8]));
    add("PUSH_PROMISE", PROTOCOL, frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, [0, 0, 0, 2, 0x82]));
    add("CONTINUATION alone", PROTOCOL, frame(kind::CONTINUATION, flag::END_HEADERS, 1, [0x82]));
    add("PRIORITY on the connection", PROTOCOL, frame(kind::PRIORITY, flag::NONE, 0, [0; 5]));
    add("an unknown type", NOTHING, frame(0xbb, 0xff, 1, [0; 100]));
    add("a reserved bit", NOTHING, frame(kind::PING, flag::NONE, 0x8000_0000, [0; 8]));
    add("unknown flags", NOTHING, frame(kind::PING, 0xfe, 0, [0; 8]));
    add("an acknowledged PING nobody sent", NOTHING, frame(kind::PING, flag::ACK, 0, [0; 8]));
    let mut within = |variant, bytes: fn() -> Vec<u8>| {
        cases.add("H2-25", variant, PROTOCOL, |tag| {
            [frame(kind::HEADERS, flag::END_STREAM, 1, get(tag).bytes()), bytes()].concat()
        });
    };
    within("PING within a block of fields", || ping([0; 8]));
    within("an unknown type within a block of fields", || frame(0xbb, 0, 1, []));
    within("CONTINUATION of another stream", || frame(kind::CONTINUATION, flag::END_HEADERS, 3, []));
    within("HEADERS within a block of fields", || frame(kind::HEADERS, flag::END_HEADERS, 1, []));
    cases
        .add("H2-25", "DATA after the end", CLOSED_STREAM, |tag| {
            [headers(1, true, &get(tag)), data(1, true, "x")].concat()
        })
        .forwarded(1);
    cases
        .add("H2-25", "HEADERS after the end", CLOSED_STREAM, |tag| {
            [headers(1, true, &get(tag)), headers(1, true, &get(tag))].concat()
        })
        .forwarded(1);
    cases
        .add("H2-25", "trailers that end nothing", &[Reset(1), GoAway(1), Status(400)], |tag| {
            let trailers = Block::new().field("a", "b");
            [headers(1, false, &request("POST", tag)), headers(1, false, &trailers)].concat()
        })
        .forwarded(1);
}

fn lengths(cases: &mut Cases) {
    let mut add = |variant, bytes: Vec<u8>| {
        cases.add("H2-25", variant, SIZE, |_| bytes).watching(0);
    };
    add("SETTINGS of 7 bytes", frame(kind::SETTINGS, flag::NONE, 0, [0; 7]));
    add("an acknowledgement with settings", frame(kind::SETTINGS, flag::ACK, 0, [0, 3, 0, 0, 0, 1]));
    add("PING of 7 bytes", frame(kind::PING, flag::NONE, 0, [0; 7]));
    add("GOAWAY of 7 bytes", frame(kind::GOAWAY, flag::NONE, 0, [0; 7]));
    add("WINDOW_UPDATE of 3 bytes", frame(kind::WINDOW_UPDATE, flag::NONE, 0, [0; 3]));
    add("a frame of 16385 bytes", frame(kind::PING, flag::NONE, 0, vec![0; 16_385]));
    add("a header that announces 16 MiB", vec![255, 255, 255, 0, 0, 0, 0, 0, 1]);
    let padded = |flags, payload: &[u8]| frame(kind::DATA, flag::PADDED | flags, 1, payload);
    for (variant, payload) in [("padding as long as the frame", [9_u8; 9]), ("more padding than frame", [255; 9])] {
        cases
            .add("H2-25", variant, PROTOCOL, |tag| {
                [headers(1, false, &request("POST", tag)), padded(flag::END_STREAM, &payload)].concat()
            })
            .forwarded(1);
    }
    cases
        .add("H2-25", "RST_STREAM of 3 bytes", SIZE, |tag| {
            [headers(1, false, &request("POST", tag)), frame(kind::RST_STREAM, flag::NONE, 1, [0; 3])].concat()
        })
        .forwarded(1);
}

fn blocks(cases: &mut Cases) {
    let mut add = |variant, bytes: &[u8]| {
        let block = Block::new().raw(bytes);
        cases.add("H2-26", variant, COMPRESSION, |tag| {
            headers(1, true, &Block::new().raw(get(tag).bytes()).raw(block.bytes()))
        });
    };
    add("index 0", &[0x80]);
    add("an index beyond the table", &[0xff, 0x00]);
    add("an index far beyond the table", &[0xff, 0xff, 0xff, 0x7f]);
    add("an integer without end", &[0xff; 12]);
    add("a text longer than the block", &[0x00, 0x01, b'a', 0x7f, 0xff]);
    add("Huffman with its end-of-string symbol", &[0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]);
    add("a Huffman text padded with zeros", &[0x00, 0x01, b'a', 0x81, 0x00]);
    add("a Huffman text padded with a byte", &[0x00, 0x01, b'a', 0x82, 0x1f, 0xff]);
    add("a change of the table after a field", &[0x20]);
    cases.add("H2-26", "a table larger than granted", COMPRESSION, |tag| {
        headers(1, true, &Block::new().table_size(65_536).raw(get(tag).bytes()))
    });
    cases.add("H2-26", "a smaller table", &[Status(200)], |tag| {
        headers(1, true, &Block::new().table_size(0).raw(get(tag).bytes()))
    });
}

fn values(cases: &mut Cases) {
    let mut add = |variant, outcomes, bytes: Vec<u8>| {
        cases.add("H2-27", variant, outcomes, |_| bytes).watching(0);
    };
    add("a window of 2^31", FLOW, settings(&[(4, 0x8000_0000)]));
    add("frames of a byte", PROTOCOL, settings(&[(5, 1)]));
    add("frames of 2^24", PROTOCOL, settings(&[(5, 1 << 24)]));
    add("ENABLE_PUSH 2", PROTOCOL, settings(&[(2, 2)]));
    add("a setting nobody knows", NOTHING, settings(&[(0xffff, 7)]));
    add("no streams of ours", NOTHING, settings(&[(3, 0)]));
    add(
        "the largest window, and a byte",
        FLOW,
        [settings(&[]), window_update(0, 0x7fff_ffff), window_update(0, 1)].concat(),
    );
    add("a window of nothing more", PROTOCOL, window_update(0, 0));
    cases.add("H2-27", "GOAWAY, and on", &[Ignored, Closed, GoAway(0)], |_| goaway(0, 0)).watching(0).last();
    cases.add("H2-27", "a table of 4 GiB", &[Status(200)], |tag| {
        [settings(&[(1, u32::MAX)]), headers(1, true, &get(tag))].concat()
    });
    cases.add("H2-27", "a window that becomes negative", &[Status(200)], |tag| {
        let smaller = settings(&[(4, 100_000)]);
        [smaller, headers(1, true, &get(tag)), settings(&[(4, 0)]), settings(&[(4, 65_535)])].concat()
    });
    cases
        .add("H2-27", "a stream's window beyond 2^31", &[Reset(code::FLOW_CONTROL_ERROR), Status(200)], |tag| {
            [headers(1, false, &request("POST", tag)), window_update(1, 0x7fff_ffff)].concat()
        })
        .forwarded(1);
}
