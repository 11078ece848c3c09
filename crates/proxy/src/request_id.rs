//! The name of a request that came without one.

/// A random UUID (RFC 9562 version 4) as text.
pub(crate) fn request_id(rng: &mut fastrand::Rng) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Where the digits of each byte stand: hyphens are between.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let id = request_id(&mut rng);
            assert_eq!(id[14], b'4');
            assert!(b"89ab".contains(&id[19]));
            assert!(id.iter().enumerate().all(|(at, b)| (*b == b'-') == matches!(at, 8 | 13 | 18 | 23)));
        }
        assert_ne!(request_id(&mut rng), request_id(&mut rng));
    }
}
