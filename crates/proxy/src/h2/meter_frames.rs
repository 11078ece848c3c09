//! Going from frame header to frame header in a stream of bytes that comes in any pieces, for [`super::Meter`].

use std::cell::Cell;

/// Goes from frame to frame in a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The beginning of a frame of which more is to come.
    head: Cell<[u8; HEAD_BYTES + PEEK_BYTES]>,
    /// How many bytes of `head` are there.
    have: Cell<u8>,
    /// Bytes of the payload that are still to come and of no interest.
    skip: Cell<u32>,
}

/// A frame as far as it matters here.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Of the payload.
    pub(super) length: u32,
    /// The first bytes of the payload, zeros beyond its end.
    pub(super) payload: [u8; PEEK_BYTES],
}

impl Walk {
    /// The next frame whose beginning is complete; takes what it has seen from `bytes`. `None` once all is taken.
    pub(super) fn next(&self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            let skip = self.skip.get() as usize;
            if skip > 0 {
                let skipped = bytes.len().min(skip);
                *bytes = &bytes[skipped..];
                self.skip.set((skip - skipped) as u32);
            }
            if bytes.is_empty() {
                return None;
            }
            let head = match self.at_once(bytes) {
                Some(head) => head,
                None => self.gather(bytes)?,
            };
            if is_preface(&head) {
                self.skip.set((PREFACE.len() - head.len()) as u32);
                continue;
            }
            let frame = Frame::of(&head);
            self.skip.set(frame.length.saturating_sub(PEEK_BYTES as u32));
            return Some(frame);
        }
    }

    /// The same as [`Self::gather`], of a frame that begins with these bytes and whose beginning is all there: most are so.
    fn at_once(&self, bytes: &mut &[u8]) -> Option<[u8; HEAD_BYTES + PEEK_BYTES]> {
        let head = bytes.first_chunk().filter(|_| self.have.get() == 0)?;
        if Frame::of(head).length < PEEK_BYTES as u32 {
            return None;
        }
        *bytes = &bytes[HEAD_BYTES + PEEK_BYTES..];
        Some(*head)
    }

    /// The head of a frame with the beginning of its payload, when all of both is there.
    fn gather(&self, bytes: &mut &[u8]) -> Option<[u8; HEAD_BYTES + PEEK_BYTES]> {
        let mut head = self.head.get();
        let mut have = usize::from(self.have.get());
        let mut take = |have: &mut usize, wanted: usize| {
            let count = bytes.len().min(wanted.saturating_sub(*have));
            head[*have..*have + count].copy_from_slice(&bytes[..count]);
            *bytes = &bytes[count..];
            *have += count;
            (*have >= wanted).then_some(head)
        };
        let gathered = take(&mut have, HEAD_BYTES).and_then(|head| {
            let peek = Frame::of(&head).length.min(PEEK_BYTES as u32) as usize;
            let mut whole = take(&mut have, HEAD_BYTES + peek)?;
            whole[HEAD_BYTES + peek..].fill(0);
            Some(whole)
        });
        self.have.set(if gathered.is_some() { 0 } else { have as u8 });
        if gathered.is_none() {
            self.head.set(head);
        }
        gathered
    }
}

fn is_preface(head: &[u8; HEAD_BYTES + PEEK_BYTES]) -> bool {
    head[0] == PREFACE[0] && head.starts_with(&PREFACE[..HEAD_BYTES + PEEK_BYTES])
}

impl Frame {
    fn of(head: &[u8; HEAD_BYTES + PEEK_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, payload @ ..] = *head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        Self { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), length, payload }
    }

    /// Bytes of a DATA frame without its padding.
    pub(super) fn content(&self) -> u32 {
        match self.flags & PADDED != 0 {
            true => self.length.saturating_sub(1 + u32::from(self.payload[0])),
            false => self.length,
        }
    }
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const PADDED: u8 = 0x8;

const HEAD_BYTES: usize = 9;

/// Enough of a payload for the code of a reset and the length of padding.
const PEEK_BYTES: usize = 4;

/// What a client sends first. Read as a frame it would be longer than any that is allowed.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
