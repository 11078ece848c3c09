//! The guard of an HTTP/2 connection: counts the frames of a peer and says when they are no use to anybody any more.
//!
//! A [`Meter`] sees the plaintext that is read from a peer and written to it, walks from frame header to frame header, and
//! holds every kind of frame that costs us more than it costs the peer to a [`Budget`]. It understands no HTTP/2 beyond
//! that: what a frame means, and whether it is legal, is the business of the `h2` crate, which sees the same bytes. When a
//! budget is spent, [`Meter::read`] and [`Meter::wrote`] say which one; the caller ends the connection, with GOAWAY and
//! ENHANCE_YOUR_CALM where it can.
//!
//! # Why budgets earn
//!
//! A fixed rate is wrong for a peer that multiplexes: 500 WINDOW_UPDATEs a second are what a client sends that downloads,
//! and an attack of one that does not. So every budget refills with time, and those of frames that honest peers send in
//! answer to ours also grow with what we sent: the formula of Envoy's `max_inbound_window_update_frames_per_data_frame_sent`,
//! on more kinds of frames. A PING is earned by a frame of ours, because gRPC clients measure the bandwidth with one PING a
//! round trip for as long as data comes; a reset is earned by an answer that came to its end.
//!
//! # Small DATA frames
//!
//! A frame of 25 bytes is a gRPC message, of which a client may legally send many thousands a second, for hours; it costs
//! us less than a request would, and nothing bounds requests. A frame of 1 to 4 bytes is not even a message without
//! content, whose prefix has 5. So only these *crumbs* have a budget, which leaves 1000 a second to people who type into a
//! terminal. What frames that nobody has taken yet cost in memory is bounded by `h2`, see below.
//!
//! # What the `h2` crate (0.4.20) bounds by itself, and what is left for us
//!
//! | what | `h2` | here |
//! |---|---|---|
//! | RST_STREAM for requests that we have not accepted yet | `max_pending_accept_reset_streams`, 20 | all resets: `http2_resets`, `http2_reset_share`. A server that accepts at once never reaches the 20 |
//! | resets that `h2` sends for errors of the peer, refused streams among them ("MadeYouReset") | `max_local_error_reset_streams`, 1024 in the life of a connection; there is no refill, so that 100 would end honest connections after some days | `http2_stream_errors`: 100, and one a second |
//! | CONTINUATION frames | list size / frame size, 25 % more, at least 5; none that ends the block is counted | 8 a block, and the block's bytes |
//! | decoded header list | `max_header_list_size`, **16 MiB unless set**: 431 beyond it, GOAWAY beyond four times | – |
//! | number of fields, cookie crumbs among them | **nothing** | not here: fields are compressed. The head must be counted after decoding |
//! | HPACK tables | decoding as `header_table_size` says, 4 KiB; encoding at most 4 KiB whatever the peer says | – |
//! | DATA frames under 256 bytes that nobody took yet | `data_frame_budget`: what they lack to 256, half the connection's window by default: 2300 gRPC messages of 25 bytes behind a slow server end the connection. 4 MiB is a better value | crumbs |
//! | empty DATA frames | 100 **in the life of the connection** | 2 in a row (10 from servers) |
//! | PING, SETTINGS | none; but it reads no further until the acknowledgement is written, so no queue grows | rates; length of SETTINGS |
//! | PRIORITY, unknown frames, WINDOW_UPDATE, GOAWAY | none | rates; 10 GOAWAYs |
//! | DATA after our reset of the stream | ignored for `reset_stream_duration` (1 s) and `max_concurrent_reset_streams` (50) streams, then an error of the peer | counts as a stream error: both settings should cover all concurrent streams and a slow round trip (100, 10 s) |
//!
//! A meter is not for counting what was useful, and not for limits on time: a peer that stops reading, or opens windows a
//! byte at a time, is found by the stall timers.

#[path = "meter_frames.rs"]
mod frames;

use std::cell::Cell;

use frames::{
    CONTINUATION, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    Walk,
};

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;

/// A limit that was exceeded, by the name under which it is counted and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tripped(pub(crate) &'static str);

/// How many frames of a kind a peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// At once, at the start and after some quiet.
    pub(crate) burst: u32,
    /// What time gives back, up to the burst.
    pub(crate) per_second: u32,
    /// The most that can be saved up of what frames earn; at least the burst.
    pub(crate) saved_max: u32,
}

/// Everything a peer may do, by kind of frame; see [`DOWNSTREAM`] and [`UPSTREAM`].
#[derive(Debug)]
pub(crate) struct FrameLimits {
    /// PING and its acknowledgements. Each HEADERS and DATA frame sent to the peer earns one.
    pub(crate) pings: Budget,
    /// SETTINGS and its acknowledgements.
    pub(crate) settings: Budget,
    /// Length of one SETTINGS frame, in bytes; an entry has 6.
    pub(crate) settings_bytes_max: u32,
    /// CONTINUATION frames of one block.
    pub(crate) continuations_max: u32,
    /// Bytes of one compressed block of fields with its CONTINUATION frames and padding.
    pub(crate) block_bytes_max: u32,
    /// DATA frames without content that do not end their stream; a frame of 5 bytes, or HEADERS, forgives them all.
    pub(crate) empty_data: Budget,
    /// DATA frames of less than 5 bytes that do not end their stream.
    pub(crate) crumbs: Budget,
    /// PRIORITY, PRIORITY_UPDATE and frames of unknown kinds. Each stream the peer opens earns 5, as Firefox needed.
    pub(crate) ignored: Budget,
    /// WINDOW_UPDATE. Each DATA frame sent to the peer earns two, for the stream and for the connection, and 20 from 512 bytes
    /// on. Who opens windows a byte at a time earns the next one with it: that costs us less than a request, and ends
    /// with the patience of the stall timers.
    pub(crate) window_updates: Budget,
    /// RST_STREAM. Each stream that we end earns one.
    pub(crate) resets: Budget,
    /// Streams of a minute or so from which on the share of resets counts; more than half of them reset is too many.
    pub(crate) reset_share_from: u32,
    /// GOAWAY frames in the life of the connection.
    pub(crate) goaways_max: u32,
    /// RST_STREAM that we send for something that was the peer's error.
    pub(crate) stream_errors: Budget,
}

/// What a client may do.
pub(crate) static DOWNSTREAM: FrameLimits = FrameLimits {
    pings: Budget { burst: 100, per_second: 100, saved_max: 1_000 },
    settings: Budget::rate(50),
    // Eight settings are registered; 64 leave room for those that a client makes up so that servers learn to ignore them.
    settings_bytes_max: 64 * 6,
    continuations_max: 8,
    // Twice what a decoded head may have: up to there `h2` answers 431, which tells an honest client more than a close.
    block_bytes_max: 2 * 60 * 1024,
    empty_data: Budget { burst: 2, per_second: 1, saved_max: 2 },
    crumbs: Budget { burst: 10_000, per_second: 1_000, saved_max: 10_000 },
    ignored: Budget { burst: 100, per_second: 100, saved_max: 1_000 },
    // A window of 64 KiB may be full of frames of one byte, each worth two updates.
    window_updates: Budget { burst: 2_000, per_second: 1_000, saved_max: 150_000 },
    resets: Budget { burst: 100, per_second: 100, saved_max: 1_000 },
    reset_share_from: 1_000,
    goaways_max: 10,
    stream_errors: Budget { burst: 100, per_second: 1, saved_max: 100 },
};

/// What a server may do: it answers to our requests alone, so carelessness is likelier than malice, and each connection
/// that is closed fails requests. Streams it resets are failures of the endpoint, judged where those are.
pub(crate) static UPSTREAM: FrameLimits = FrameLimits {
    pings: DOWNSTREAM.pings,
    settings: DOWNSTREAM.settings,
    settings_bytes_max: DOWNSTREAM.settings_bytes_max,
    continuations_max: DOWNSTREAM.continuations_max,
    block_bytes_max: DOWNSTREAM.block_bytes_max,
    // Servers flush where nothing was written.
    empty_data: Budget { burst: 10, per_second: 10, saved_max: 10 },
    // Applications write a character at a time.
    crumbs: Budget { burst: 50_000, per_second: 10_000, saved_max: 50_000 },
    ignored: DOWNSTREAM.ignored,
    window_updates: DOWNSTREAM.window_updates,
    resets: Budget::UNLIMITED,
    reset_share_from: u32::MAX,
    goaways_max: DOWNSTREAM.goaways_max,
    stream_errors: DOWNSTREAM.stream_errors,
};

/// Counts the frames of one connection. Costs a few nanoseconds a frame and allocates nothing.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: &'static FrameLimits,
    tripped: Cell<Option<Tripped>>,
    inbound: Walk,
    outbound: Walk,
    /// Thousandths of frames, in the order of [`Kind`].
    levels: [Cell<u32>; KINDS],
    refilled_ms: Cell<u64>,
    continuations: Cell<u32>,
    block_bytes: Cell<u32>,
    goaways: Cell<u32>,
    /// Highest stream the peer opened.
    last_stream: Cell<u32>,
    /// Streams opened and streams reset, both halved every minute.
    opened: Cell<u32>,
    reset: Cell<u32>,
    halved_ms: Cell<u64>,
}

impl Meter {
    /// For a connection that begins now. `now_ms` is of any clock that does not go back.
    pub(crate) fn new(now_ms: u64, limits: &'static FrameLimits) -> Self {
        Self {
            limits,
            tripped: Cell::new(None),
            inbound: Walk::default(),
            outbound: Walk::default(),
            levels: KIND_ALL.map(|kind| Cell::new(kind.budget(limits).burst * UNIT)),
            refilled_ms: Cell::new(now_ms),
            continuations: Cell::new(0),
            block_bytes: Cell::new(0),
            goaways: Cell::new(0),
            last_stream: Cell::new(0),
            opened: Cell::new(0),
            reset: Cell::new(0),
            halved_ms: Cell::new(now_ms),
        }
    }

    /// Every byte read from the peer, in order and in any pieces. A client's preface may be among them or not.
    ///
    /// Once tripped it stays so, whatever follows; the piece that trips it should not be given to `h2` any more.
    pub(crate) fn read(&self, bytes: &[u8], now_ms: u64) -> Result<(), Tripped> {
        self.refill(now_ms);
        let mut rest = bytes;
        while self.tripped.get().is_none()
            && let Some(frame) = self.inbound.next(&mut rest)
        {
            if let Err(tripped) = self.judge(&frame) {
                self.tripped.set(Some(tripped));
            }
        }
        self.tripped.get().map_or(Ok(()), Err)
    }

    /// Every byte written to the peer, in order and in any pieces, once the socket took it; of a vectored write each slice
    /// as far as it was taken.
    pub(crate) fn wrote(&self, bytes: &[u8]) -> Result<(), Tripped> {
        let mut rest = bytes;
        while let Some(frame) = self.outbound.next(&mut rest) {
            self.earn(&frame);
        }
        self.tripped.get().map_or(Ok(()), Err)
    }

    /// Which limit was exceeded, if one was.
    pub(crate) fn tripped(&self) -> Option<Tripped> {
        self.tripped.get()
    }

    fn judge(&self, frame: &Frame) -> Result<(), Tripped> {
        match frame.kind {
            DATA => self.data(frame),
            HEADERS => self.headers(frame),
            CONTINUATION => self.continuation(frame),
            RST_STREAM => self.reset(),
            SETTINGS if frame.length > self.limits.settings_bytes_max => Err(Tripped("http2_settings_length")),
            SETTINGS => self.spend(Kind::Settings),
            PING => self.spend(Kind::Pings),
            WINDOW_UPDATE => self.spend(Kind::WindowUpdates),
            GOAWAY => {
                self.goaways.set(self.goaways.get() + 1);
                if self.goaways.get() > self.limits.goaways_max { Err(Tripped("http2_goaways")) } else { Ok(()) }
            }
            PUSH_PROMISE => Ok(()), // An error of the connection wherever pushes are switched off, as here.
            _ => self.spend(Kind::Ignored),
        }
    }

    fn data(&self, frame: &Frame) -> Result<(), Tripped> {
        let content = frame.content();
        if frame.flags & END_STREAM != 0 {
            return Ok(()); // One for each stream.
        }
        if content >= MESSAGE_BYTES_MIN {
            self.fill(Kind::EmptyData);
            return Ok(());
        }
        if content == 0 {
            self.spend(Kind::EmptyData)?;
        }
        self.spend(Kind::Crumbs)
    }

    fn headers(&self, frame: &Frame) -> Result<(), Tripped> {
        self.fill(Kind::EmptyData);
        self.continuations.set(0);
        self.block_bytes.set(0);
        if frame.stream > self.last_stream.get() {
            self.last_stream.set(frame.stream);
            self.opened.set(self.opened.get().saturating_add(1));
            self.save(Kind::Ignored, 5);
        }
        self.block(frame)
    }

    fn continuation(&self, frame: &Frame) -> Result<(), Tripped> {
        self.continuations.set(self.continuations.get().saturating_add(1));
        if self.continuations.get() > self.limits.continuations_max {
            return Err(Tripped("http2_continuations"));
        }
        self.block(frame)
    }

    fn block(&self, frame: &Frame) -> Result<(), Tripped> {
        self.block_bytes.set(self.block_bytes.get().saturating_add(frame.length));
        if self.block_bytes.get() > self.limits.block_bytes_max {
            return Err(Tripped("http2_header_block"));
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), Tripped> {
        self.reset.set(self.reset.get().saturating_add(1));
        let opened = self.opened.get();
        if opened >= self.limits.reset_share_from && self.reset.get() > opened / 2 {
            return Err(Tripped("http2_reset_share"));
        }
        self.spend(Kind::Resets)
    }

    /// What a frame of ours allows the peer, or says about it.
    fn earn(&self, frame: &Frame) {
        match frame.kind {
            DATA | HEADERS => {
                self.save(Kind::Pings, 1);
                if frame.flags & END_STREAM != 0 {
                    self.save(Kind::Resets, 1);
                }
                if frame.kind == DATA {
                    let updates = if frame.length < 512 { 2 } else { 20 };
                    self.save(Kind::WindowUpdates, updates);
                }
            }
            RST_STREAM if is_fault_of_peer(u32::from_be_bytes(frame.payload)) => {
                if let Err(tripped) = self.spend(Kind::StreamErrors)
                    && self.tripped.get().is_none()
                {
                    self.tripped.set(Some(tripped));
                }
            }
            _ => {}
        }
    }

    fn level(&self, kind: Kind) -> &Cell<u32> {
        &self.levels[kind as usize]
    }

    fn spend(&self, kind: Kind) -> Result<(), Tripped> {
        let level = self.level(kind);
        match level.get().checked_sub(UNIT) {
            Some(left) => level.set(left),
            None => return Err(Tripped(kind.name())),
        }
        Ok(())
    }

    fn save(&self, kind: Kind, frames: u32) {
        let level = self.level(kind);
        let most = kind.budget(self.limits).saved_max * UNIT;
        level.set(level.get().saturating_add(frames * UNIT).min(most).max(level.get()));
    }

    fn fill(&self, kind: Kind) {
        self.level(kind).set(kind.budget(self.limits).burst * UNIT);
    }

    fn refill(&self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.refilled_ms.get());
        if passed == 0 {
            return;
        }
        self.refilled_ms.set(now_ms);
        for kind in KIND_ALL {
            let budget = kind.budget(self.limits);
            let (level, full) = (self.level(kind), budget.burst * UNIT);
            // A frame a second is a thousandth of one a millisecond. What was earned beyond the burst stays.
            let more = passed.saturating_mul(u64::from(budget.per_second)).min(u64::from(full));
            let more = u32::try_from(more).unwrap_or(full);
            level.set(level.get().saturating_add(more).min(full).max(level.get()));
        }
        if now_ms.saturating_sub(self.halved_ms.get()) >= SHARE_PERIOD_MS {
            self.halved_ms.set(now_ms);
            self.opened.set(self.opened.get() / 2);
            self.reset.set(self.reset.get() / 2);
        }
    }
}

/// What has a budget.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Pings,
    Settings,
    EmptyData,
    Crumbs,
    Ignored,
    WindowUpdates,
    Resets,
    StreamErrors,
}

const KINDS: usize = 8;

const KIND_ALL: [Kind; KINDS] = [
    Kind::Pings,
    Kind::Settings,
    Kind::EmptyData,
    Kind::Crumbs,
    Kind::Ignored,
    Kind::WindowUpdates,
    Kind::Resets,
    Kind::StreamErrors,
];

impl Kind {
    fn budget(self, limits: &FrameLimits) -> &Budget {
        match self {
            Self::Pings => &limits.pings,
            Self::Settings => &limits.settings,
            Self::EmptyData => &limits.empty_data,
            Self::Crumbs => &limits.crumbs,
            Self::Ignored => &limits.ignored,
            Self::WindowUpdates => &limits.window_updates,
            Self::Resets => &limits.resets,
            Self::StreamErrors => &limits.stream_errors,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pings => "http2_pings",
            Self::Settings => "http2_settings",
            Self::EmptyData => "http2_empty_data",
            Self::Crumbs => "http2_tiny_data",
            Self::Ignored => "http2_ignored_frames",
            Self::WindowUpdates => "http2_window_updates",
            Self::Resets => "http2_resets",
            Self::StreamErrors => "http2_stream_errors",
        }
    }
}

impl Budget {
    /// For what nobody needs to be protected from. A million refills faster than frames can come.
    const UNLIMITED: Self = Self { burst: 1_000_000, per_second: u32::MAX, saved_max: 1_000_000 };

    /// So many a second, and no more at once.
    const fn rate(per_second: u32) -> Self {
        Self { burst: per_second, per_second, saved_max: per_second }
    }
}

/// Whether a reset with this code says that the peer broke a rule: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED,
/// FRAME_SIZE_ERROR, REFUSED_STREAM (it had too many streams), ENHANCE_YOUR_CALM. Others say that an exchange failed.
fn is_fault_of_peer(code: u32) -> bool {
    matches!(code, 0x1 | 0x3 | 0x5 | 0x6 | 0x7 | 0xb)
}

/// Frames are accounted in thousandths, so that a millisecond refills a whole number of them.
const UNIT: u32 = 1_000;

/// A gRPC message without content: a flag and a length.
const MESSAGE_BYTES_MIN: u32 = 5;

/// How often the counts behind the share of resets are halved.
const SHARE_PERIOD_MS: u64 = 60_000;
