//! Ring hash (Ketama), point for point as Envoy's `ring_hash`, so that clients stay with their endpoints during a
//! migration.
//!
//! An endpoint has points at xxHash64 of `ADDRESS:PORT_i`, as many as its share of the ring asks for; a request goes to
//! the first point at or after its hash. An endpoint that is not available is passed over, which gives the ring that
//! would be without it: only its own requests move.

use xxhash_rust::xxh64::xxh64;

use super::hosts::Hosts;

/// Points in ascending order.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[Point]>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    hash: u64,
    host: u32,
}

impl Ring {
    /// Builds the ring of hosts with their shares of the whole, which sum to one.
    ///
    /// The ring has `size_min` points, or as many more, up to `size_max`, as give the least host a whole number.
    pub(super) fn build(hosts: &Hosts, shares: &[(u32, f64)], size_min: u32, size_max: u32) -> Self {
        let least = shares.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        let scale = ((least * f64::from(size_min)).ceil() / least).min(f64::from(size_max));
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let mut target = 0.0;
        let mut key = Vec::new();
        for (host, share) in shares {
            target += scale * share;
            key.clear();
            key.extend_from_slice(hosts.endpoint(*host).address.to_string().as_bytes());
            key.push(b'_');
            let stem = key.len();
            for number in 0_u32.. {
                if points.len() as f64 >= target {
                    break;
                }
                key.truncate(stem);
                key.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                points.push(Point { hash: xxh64(&key, 0), host: *host });
            }
        }
        points.sort_by_key(|point| point.hash);
        Self { points: points.into() }
    }

    /// The available host for a hash.
    pub(super) fn find(&self, hash: u64, is_available: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.points.partition_point(|point| point.hash < hash);
        let (before, after) = self.points.split_at(at);
        after.iter().chain(before).map(|point| point.host).find(|host| is_available(*host))
    }
}

#[cfg(test)]
impl Ring {
    pub(super) fn points(&self) -> Vec<(u32, u64)> {
        self.points.iter().map(|point| (point.host, point.hash)).collect()
    }
}
