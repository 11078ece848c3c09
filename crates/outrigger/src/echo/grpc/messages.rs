//! The messages of a client, one after the other, as they arrive.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{End, Received, Status, code};
use crate::echo::http2::{read_part, read_trailers};
use crate::echo::limits;

/// What may be held of messages, over all calls of the process.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(limits::HELD_BYTES_MAX)));

/// The reading side of a call.
pub(super) struct Messages {
    body: RecvStream,
    /// What was read and not used yet.
    part: Bytes,
    received: Received,
    count: u64,
}

/// Bytes of a message that are held, and the room they take.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Messages {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, part: Bytes::new(), received: Received::default(), count: 0 }
    }

    /// Reads the next message and forgets it, but for its length; false when there are no more.
    pub(super) async fn next(&mut self) -> Result<bool, End> {
        Ok(self.read(None).await?.is_some())
    }

    /// Reads the next message as one of this kind; `None` when there are no more.
    pub(super) async fn next_as<T: Message + Default>(&mut self) -> Result<Option<T>, End> {
        let mut held = Held::default();
        if self.read(Some(&mut held)).await?.is_none() {
            return Ok(None);
        }
        let decoded = T::decode(&*held.bytes);
        decoded.map(Some).map_err(|error| Status::new(code::INVALID_ARGUMENT, format!("the message: {error}")).into())
    }

    /// Bytes of all messages so far, without their prefixes, and the trailers once there are no more.
    pub(super) fn received(&self) -> &Received {
        &self.received
    }

    /// Messages so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Reads a message into `held`, if given, and past it otherwise.
    async fn read(&mut self, mut held: Option<&mut Held>) -> Result<Option<()>, End> {
        let Some(length) = self.read_prefix().await? else { return Ok(None) };
        let mut left = length;
        while left > 0 {
            if self.part.is_empty() && !self.fill(limits::STALL).await? {
                return Err(broken_off());
            }
            let part = self.part.split_to(left.min(self.part.len()));
            left -= part.len();
            if let Some(held) = &mut held {
                held.keep(&part)?;
            }
        }
        self.received.body_bytes += length as u64;
        self.count += 1;
        Ok(Some(()))
    }

    /// Reads what stands before a message, and tells its length.
    async fn read_prefix(&mut self) -> Result<Option<usize>, End> {
        let mut prefix = [0; 5];
        for (at, byte) in prefix.iter_mut().enumerate() {
            // Between two messages a stream may rest.
            let patience = if at == 0 { limits::IDLE } else { limits::STALL };
            if self.part.is_empty() && !self.fill(patience).await? {
                return if at == 0 { Ok(None) } else { Err(broken_off()) };
            }
            *byte = self.part.split_to(1)[0];
        }
        let [flag, length @ ..] = prefix;
        match flag {
            0 => {}
            1 => return Err(Status::new(code::UNIMPLEMENTED, "compressed messages are not supported").into()),
            _ => return Err(Status::new(code::INTERNAL, "the prefix of a message begins with neither 0 nor 1").into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > limits::MESSAGE_BYTES_MAX {
            let problem = format!("a message of {length} bytes; {} are the most", limits::MESSAGE_BYTES_MAX);
            return Err(Status::new(code::RESOURCE_EXHAUSTED, problem).into());
        }
        Ok(Some(length))
    }

    /// Reads some more, at least one byte; false at the end.
    async fn fill(&mut self, patience: Duration) -> Result<bool, End> {
        // Frames may be empty.
        while self.part.is_empty() {
            match read_part(&mut self.body, patience).await? {
                Some(part) => self.part = part,
                None => {
                    self.received.trailers = read_trailers(&mut self.body).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Held {
    /// Takes up some bytes, if there is room.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), End> {
        let wanted = u32::try_from(bytes.len()).expect("a frame is far shorter");
        let Ok(room) = ROOM.clone().try_acquire_many_owned(wanted) else {
            return Err(Status::new(code::RESOURCE_EXHAUSTED, "too many bytes of messages are held already").into());
        };
        match &mut self.room {
            Some(all) => all.merge(room),
            None => self.room = Some(room),
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn broken_off() -> End {
    Status::new(code::INTERNAL, "the stream ended in the middle of a message").into()
}
