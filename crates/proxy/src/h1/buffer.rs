//! Read buffers: a window of unread bytes in a block that is lent by the worker.
//!
//! A connection that waits for its next request holds no block at all, so that ten thousand idle connections cost
//! little.

use std::cell::RefCell;

/// Unread bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Initialised memory; its length is the capacity.
    block: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Bytes of a pooled block: most heads and many bodies fit.
    pub(crate) const BLOCK_BYTES: usize = 16 * 1024;
    /// Bytes of a block for long bodies: fewer system calls each.
    pub(crate) const LARGE_BYTES: usize = 64 * 1024;

    /// The unread bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// The unread bytes, for what works in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    /// How many bytes are unread.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is unread.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `count` unread bytes as read.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "cannot read more than there is");
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for more bytes, never empty unless `capacity_max` is unread already; takes a block from `pool` at need.
    pub(crate) fn room(&mut self, pool: &BufferPool, capacity_max: usize) -> &mut [u8] {
        if self.block.is_empty() {
            self.block = pool.take();
        }
        if self.end == self.block.len() && self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.block.len() && self.block.len() < capacity_max {
            let capacity = (self.block.len() * 2).min(capacity_max);
            self.block.resize(capacity, 0);
        }
        &mut self.block[self.end..]
    }

    /// Room for at least `bytes` more, however many are unread.
    pub(crate) fn room_of(&mut self, pool: &BufferPool, bytes: usize) -> &mut [u8] {
        if self.block.is_empty() {
            self.block = pool.take();
        }
        if self.block.len() - self.end < bytes {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let needed = self.end + bytes;
            if self.block.len() < needed {
                self.block.resize(needed, 0);
            }
        }
        &mut self.block[self.end..]
    }

    /// Enlarges the block for a long body.
    pub(crate) fn enlarge(&mut self, pool: &BufferPool) {
        if self.block.is_empty() {
            self.block = pool.take();
        }
        if self.block.len() < Self::LARGE_BYTES {
            self.block.resize(Self::LARGE_BYTES, 0);
        }
    }

    /// Marks `count` bytes of the room as filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.block.len(), "cannot fill more than the room");
    }

    /// Whether it has memory of its own.
    #[cfg(test)]
    pub(crate) fn has_block(&self) -> bool {
        !self.block.is_empty()
    }

    /// Gives the block back when nothing is unread.
    pub(crate) fn release(&mut self, pool: &BufferPool) {
        if self.is_empty() && !self.block.is_empty() {
            pool.give(std::mem::take(&mut self.block));
        }
    }
}

/// Blocks of one worker that are free to lend.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    blocks: RefCell<Vec<Vec<u8>>>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Free blocks kept, 4 MiB of them; the rest goes back to the allocator. A block costs its zeroing when it is made
    /// anew, so there should be enough for some hundred requests at once.
    const KEPT_MAX: usize = 256;
    /// Output heads larger than this are not kept.
    const HEAD_BYTES_KEPT: usize = 8 * 1024;

    fn take(&self) -> Vec<u8> {
        self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; Buffer::BLOCK_BYTES])
    }

    fn give(&self, block: Vec<u8>) {
        let mut blocks = self.blocks.borrow_mut();
        if blocks.len() < Self::KEPT_MAX && block.len() == Buffer::BLOCK_BYTES {
            blocks.push(block);
        }
    }

    /// An empty vector to write a head into.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    /// Takes such a vector back.
    pub(crate) fn give_head(&self, mut head: Vec<u8>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < Self::KEPT_MAX && head.capacity() <= Self::HEAD_BYTES_KEPT {
            head.clear();
            heads.push(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_moves_grows_and_stops_at_the_maximum() {
        let pool = BufferPool::default();
        let mut buffer = Buffer::default();
        let room = buffer.room(&pool, Buffer::LARGE_BYTES).len();
        assert_eq!(room, Buffer::BLOCK_BYTES);
        buffer.fill(room);
        buffer.consume(10);
        assert_eq!(buffer.room(&pool, Buffer::BLOCK_BYTES).len(), 10, "read bytes make room again");
        buffer.fill(10);
        assert_eq!(buffer.room(&pool, Buffer::BLOCK_BYTES).len(), 0);
        assert_eq!(buffer.room(&pool, Buffer::LARGE_BYTES).len(), Buffer::BLOCK_BYTES);
    }

    #[test]
    fn room_of_a_size_is_made_by_moving_or_growing() {
        let pool = BufferPool::default();
        let mut buffer = Buffer::default();
        assert_eq!(buffer.room_of(&pool, 1).len(), Buffer::BLOCK_BYTES);
        buffer.fill(Buffer::BLOCK_BYTES);
        buffer.consume(Buffer::BLOCK_BYTES - 1);
        buffer.bytes_mut()[0] = b'x';
        assert_eq!(buffer.room_of(&pool, 5).len(), Buffer::BLOCK_BYTES - 1, "read bytes make room again");
        assert_eq!(buffer.room_of(&pool, Buffer::BLOCK_BYTES).len(), Buffer::BLOCK_BYTES);
        assert_eq!(buffer.bytes(), b"x");
    }

    #[test]
    fn a_block_goes_back_only_when_read_up() {
        let pool = BufferPool::default();
        let mut buffer = Buffer::default();
        buffer.room(&pool, Buffer::LARGE_BYTES)[0] = b'x';
        buffer.fill(1);
        buffer.release(&pool);
        assert_eq!(buffer.bytes(), b"x");
        buffer.consume(1);
        buffer.release(&pool);
        assert_eq!(pool.blocks.borrow().len(), 1);
    }
}
