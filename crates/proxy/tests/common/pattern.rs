//! Long streams whose every byte is checked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A stream of pseudo-random bytes, and the check of one: each byte depends on its place.
pub struct Pattern {
    /// Bytes so far.
    pub at: u64,
    block: [u8; 8],
}

impl Pattern {
    pub fn new() -> Self {
        Self { at: 0, block: [0; 8] }
    }

    fn next(&mut self) -> u8 {
        let within = (self.at % 8) as usize;
        if within == 0 {
            let mixed = (self.at ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            self.block = (mixed ^ (mixed >> 29)).to_le_bytes();
        }
        self.at += 1;
        self.block[within]
    }

    pub fn fill(&mut self, block: &mut [u8]) {
        block.fill_with(|| self.next());
    }

    #[track_caller]
    pub fn check(&mut self, block: &[u8]) {
        let wrong = block.iter().position(|byte| *byte != self.next());
        assert_eq!(wrong, None, "a byte differs, near {} of the stream", self.at);
    }
}

/// Writes so many bytes of the pattern, in pieces of this size, and finishes.
pub fn send(mut socket: TcpStream, bytes: u64, piece: usize) {
    let (mut pattern, mut block) = (Pattern::new(), vec![0; piece]);
    let mut left = bytes;
    while left > 0 {
        let count = left.min(piece as u64) as usize;
        pattern.fill(&mut block[..count]);
        socket.write_all(&block[..count]).unwrap();
        left -= count as u64;
    }
    socket.shutdown(Shutdown::Write).unwrap();
}

/// Reads the pattern to its end; how many bytes it had.
pub fn receive(mut socket: impl Read, piece: usize) -> u64 {
    let (mut pattern, mut block) = (Pattern::new(), vec![0; piece]);
    loop {
        match socket.read(&mut block).unwrap() {
            0 => return pattern.at,
            count => pattern.check(&block[..count]),
        }
    }
}
