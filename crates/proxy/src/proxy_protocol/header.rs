//! The header of the PROXY protocol, versions 1 and 2, read and written; no I/O.
//!
//! Reading is exact: whatever two readers could take for different addresses is refused, because policies and logs
//! believe what stands here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use outrigger_model::ProxyProtocol;

/// The two ends of a connection as its client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) source: SocketAddr,
    /// Where it connected to.
    pub(crate) destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The connection is made for this one.
    Proxied(Ends),
    /// The sender speaks for itself, or for nobody with an address: the ends are those of the socket.
    Own,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// They break this rule.
    Malformed(&'static str),
    /// The header is longer than any of use.
    Large,
}

/// Reads the header that `bytes` begin with, and how long it is; `None` while the rest of it is missing.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Refusal> {
    let begins_with = |whole: &[u8]| bytes.iter().zip(whole).all(|(a, b)| a == b);
    if begins_with(V2_SIGNATURE) {
        return read_v2(bytes);
    }
    if begins_with(V1_PREFIX) {
        return read_v1(bytes);
    }
    Err(Refusal::Malformed("it begins like no PROXY header"))
}

/// Writes a header; `None`: the proxy speaks for itself.
pub(super) fn write(version: ProxyProtocol, ends: Option<&Ends>) -> Vec<u8> {
    match (version, ends.map(Pair::of)) {
        (ProxyProtocol::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V1, Some(Pair::V4(source, destination, ports))) => {
            format!("PROXY TCP4 {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        (ProxyProtocol::V1, Some(Pair::V6(source, destination, ports))) => {
            format!("PROXY TCP6 {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        (ProxyProtocol::V2, None) => write_v2(V2_LOCAL, V2_UNSPECIFIED, &[], &[], None),
        (ProxyProtocol::V2, Some(Pair::V4(source, destination, ports))) => {
            write_v2(V2_PROXY, V2_TCP4, &source.octets(), &destination.octets(), Some(ports))
        }
        (ProxyProtocol::V2, Some(Pair::V6(source, destination, ports))) => {
            write_v2(V2_PROXY, V2_TCP6, &source.octets(), &destination.octets(), Some(ports))
        }
    }
}

/// Longest line of version 1, its end included, as the specification works it out.
const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2. Addresses take 232 bytes at most; the rest is room for what is added to them, certificates
/// of clients among it, of which nothing is read.
pub(super) const BYTES_MAX: usize = 4096;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_UNSPECIFIED: u8 = 0x00;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;

fn read_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, Refusal> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() < V1_BYTES_MAX { Ok(None) } else { Err(Refusal::Large) };
    };
    if end + 2 > V1_BYTES_MAX {
        return Err(Refusal::Large);
    }
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) => return Ok(None),
        _ => return Err(Refusal::Malformed("its line does not end with CR LF")),
    }
    let line = std::str::from_utf8(&window[..end]).map_err(|_| Refusal::Malformed("it is no ASCII"))?;
    Ok(Some((v1_line(line)?, end + 2)))
}

fn v1_line(line: &str) -> Result<Header, Refusal> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    // Whatever follows is to be ignored.
    if family == "UNKNOWN" {
        return Ok(Header::Own);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(Refusal::Malformed("it has not four words after its family"));
    };
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            // Leading zeros, which some take for octal, are refused by the standard library.
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let end = |word, port_word| -> Option<SocketAddr> { Some(SocketAddr::new(address(word)?, port(port_word)?)) };
    match (end(source, source_port), end(destination, destination_port)) {
        (Some(source), Some(destination)) => Ok(Header::Proxied(Ends { source, destination })),
        _ => Err(Refusal::Malformed("its addresses or ports are none")),
    }
}

/// A port in decimal: no sign, no zero before another digit.
fn port(word: &str) -> Option<u16> {
    let is_exact = word.bytes().all(|byte| byte.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    is_exact.then(|| word.parse().ok()).flatten()
}

fn read_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Refusal> {
    let fixed = V2_SIGNATURE.len();
    let Some(&[command, family, high, low]) = bytes.get(fixed..fixed + 4) else { return Ok(None) };
    let length = fixed + 4 + usize::from(u16::from_be_bytes([high, low]));
    if length > BYTES_MAX {
        return Err(Refusal::Large);
    }
    if !matches!(command, V2_LOCAL | V2_PROXY) {
        return Err(Refusal::Malformed("its version or command is unknown"));
    }
    if family >> 4 > 3 || family & 0xf > 2 {
        return Err(Refusal::Malformed("its family or transport is unknown"));
    }
    let Some(block) = bytes.get(fixed + 4..length) else { return Ok(None) };
    if command == V2_LOCAL {
        return Ok(Some((Header::Own, length)));
    }
    let header = match family {
        V2_TCP4 => v2_ends::<4>(block),
        V2_TCP6 => v2_ends::<16>(block),
        // Unix sockets, datagrams and the unspecified have no address that means anything for a connection.
        _ => Some(Header::Own),
    };
    Ok(Some((header.ok_or(Refusal::Malformed("its addresses are cut short"))?, length)))
}

/// Addresses of `N` bytes each, then ports.
fn v2_ends<const N: usize>(block: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let destination_port = rest.first_chunk()?;
    let end = |address: &[u8; N], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port));
    Some(Header::Proxied(Ends { source: end(source, source_port), destination: end(destination, destination_port) }))
}

fn write_v2(command: u8, family: u8, source: &[u8], destination: &[u8], ports: Option<(u16, u16)>) -> Vec<u8> {
    let ports = ports.map(|(source, destination)| [source.to_be_bytes(), destination.to_be_bytes()]);
    let ports = ports.as_ref().map_or(&[][..], |ports| ports.as_flattened());
    let length = (source.len() + destination.len() + ports.len()) as u16;
    [V2_SIGNATURE, &[command, family], &length.to_be_bytes(), source, destination, ports].concat()
}

/// Both ends in one family, with their ports.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr, (u16, u16)),
    V6(Ipv6Addr, Ipv6Addr, (u16, u16)),
}

impl Pair {
    /// IPv4 if both are, however written; where only one is, both are written as IPv6.
    fn of(ends: &Ends) -> Self {
        let ports = (ends.source.port(), ends.destination.port());
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        match (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination, ports),
            (source, destination) => Self::V6(wide(source), wide(destination), ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn shown(bytes: &[u8]) -> String {
        match read(bytes) {
            Ok(Some((Header::Proxied(ends), length))) => format!("{} > {} in {length}", ends.source, ends.destination),
            Ok(Some((Header::Own, length))) => format!("own in {length}"),
            Ok(None) => "more".into(),
            Err(Refusal::Malformed(_)) => "malformed".into(),
            Err(Refusal::Large) => "large".into(),
        }
    }

    #[test]
    fn lines_of_version_1() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
        for (line, want) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET", "192.0.2.1:56324 > 198.51.100.2:443 in 45"),
            ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0 > 255.255.255.255:65535 in 44"),
            ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "[2001:db8::1]:1 > [::1]:2 in 32"),
            ("PROXY UNKNOWN\r\n", "own in 15"),
            ("PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", "own in 43"),
            (&longest, "own in 107"),
            (&longer, "large"),
            (&longest[..106], "more"),
            (&longer[..107], "large"),
            ("", "more"),
            ("P", "more"),
            ("PROXY", "more"),
            ("PROXY TCP4 192.0.2.1", "more"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r", "more"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\r", "malformed"),
            ("PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", "malformed"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 \r\n", "malformed"),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", "malformed"),
            ("PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "malformed"),
            ("PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", "malformed"),
            ("PROXY UNKNOWNX\r\n", "malformed"),
            ("PROXY \r\n", "malformed"),
            ("proxy TCP4", "malformed"),
            ("GET / HTTP/1.1\r\n", "malformed"),
        ] {
            assert_eq!(shown(line.as_bytes()), want, "{line:?}");
        }
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, length: u16, block: &[u8]) -> Vec<u8> {
        [V2_SIGNATURE, &[command, family], &length.to_be_bytes(), block].concat()
    }

    #[test]
    fn headers_of_version_2() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0x01, 0xbb, 0x1f, 0x90];
        let six = [[0; 32].as_slice(), &[0, 1, 0, 2]].concat();
        let unix = [b'a'; 216];
        let zeros = vec![0; BYTES_MAX];
        for (what, bytes, want) in [
            ("TCP4", v2(0x21, 0x11, 12, &four), "192.0.2.1:443 > 198.51.100.2:8080 in 28"),
            ("TCP6", v2(0x21, 0x21, 36, &six), "[::]:1 > [::]:2 in 52"),
            ("with more in it", v2(0x21, 0x11, 15, &[&four[..], &[1, 2, 3]].concat()), {
                "192.0.2.1:443 > 198.51.100.2:8080 in 31"
            }),
            ("bytes behind", v2(0x21, 0x11, 12, &[&four[..], b"GET"].concat()), {
                "192.0.2.1:443 > 198.51.100.2:8080 in 28"
            }),
            ("LOCAL", v2(0x20, 0x00, 0, &[]), "own in 16"),
            ("LOCAL with addresses", v2(0x20, 0x11, 12, &four), "own in 28"),
            ("LOCAL cut short", v2(0x20, 0x11, 1, &[0]), "own in 17"),
            ("unspecified", v2(0x21, 0x00, 3, &[0; 3]), "own in 19"),
            ("a Unix socket", v2(0x21, 0x31, 216, &unix), "own in 232"),
            ("datagrams", v2(0x21, 0x12, 12, &four), "own in 28"),
            ("addresses cut short", v2(0x21, 0x11, 11, &four[..11]), "malformed"),
            ("IPv6 addresses cut short", v2(0x21, 0x21, 35, &six[..35]), "malformed"),
            ("version 1 in it", v2(0x11, 0x11, 12, &four), "malformed"),
            ("version 3", v2(0x31, 0x11, 12, &four), "malformed"),
            ("an unknown command", v2(0x22, 0x11, 12, &four), "malformed"),
            ("an unknown family", v2(0x21, 0x41, 12, &four), "malformed"),
            ("an unknown transport", v2(0x21, 0x13, 12, &four), "malformed"),
            ("the longest", v2(0x20, 0x00, 4080, &zeros[..4080]), "own in 4096"),
            ("a longer one", v2(0x20, 0x00, 4081, &[]), "large"),
            ("the longest of all", v2(0x21, 0x11, 0xffff, &four), "large"),
        ] {
            assert_eq!(shown(&bytes), want, "{what}");
        }
        let whole = v2(0x21, 0x11, 12, &four);
        for end in 0..whole.len() {
            assert_eq!(shown(&whole[..end]), "more", "{end} bytes");
        }
        assert_eq!(shown(b"\r\n\r\nX"), "malformed");
    }

    #[test]
    fn what_is_written() {
        let both4 = ends("192.0.2.1:443", "[::ffff:198.51.100.2]:8080");
        let mixed = ends("192.0.2.1:443", "[2001:db8::1]:8080");
        for (version, ends, want) in [
            (ProxyProtocol::V1, Some(&both4), b"PROXY TCP4 192.0.2.1 198.51.100.2 443 8080\r\n".to_vec()),
            (ProxyProtocol::V1, Some(&mixed), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 443 8080\r\n".to_vec()),
            (ProxyProtocol::V1, None, b"PROXY UNKNOWN\r\n".to_vec()),
            (ProxyProtocol::V2, Some(&both4), {
                v2(0x21, 0x11, 12, &[192, 0, 2, 1, 198, 51, 100, 2, 0x01, 0xbb, 0x1f, 0x90])
            }),
            (ProxyProtocol::V2, None, v2(0x20, 0, 0, &[])),
        ] {
            assert_eq!(write(version, ends), want, "{version:?} {ends:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source: SocketAddr, destination: SocketAddr, is_v1: bool, more: Vec<u8>) {
            let version = if is_v1 { ProxyProtocol::V1 } else { ProxyProtocol::V2 };
            let written = write(version, Some(&Ends { source, destination }));
            let bytes = [&written[..], &more].concat();
            let Ok(Some((Header::Proxied(read), length))) = read(&bytes) else { panic!("{bytes:?} is read") };
            prop_assert_eq!(length, written.len());
            let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
            prop_assert_eq!(plain(read.source), plain(source));
            prop_assert_eq!(plain(read.destination), plain(destination));
        }

        #[test]
        fn no_bytes_panic_and_more_bytes_change_no_verdict(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", V2_SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"]),
            tail: Vec<u8>,
            text in "[0-9a-f:. \r\n]{0,120}",
        ) {
            for bytes in [[start, &tail].concat(), [start, text.as_bytes()].concat()] {
                let mut verdict = None;
                for end in 0..=bytes.len() {
                    let now = read(&bytes[..end]);
                    match &verdict {
                        None => verdict = (now != Ok(None)).then_some(now),
                        Some(before) => prop_assert_eq!(before, &now),
                    }
                }
                if let Some(Ok(Some((_, length)))) = verdict {
                    prop_assert!(length <= bytes.len());
                }
            }
        }
    }
}
