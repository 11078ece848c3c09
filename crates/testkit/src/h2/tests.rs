//! The examples of RFC 7541, appendix C, and that blocks written are read as they were meant.

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> String {
    let fields = decoder.read(block).expect("a legal block");
    let lines: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
    lines.join(" ")
}

#[test]
fn huffman_coded_requests_are_read() {
    let mut decoder = Decoder::default();
    let blocks = [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", ":method=GET :scheme=http :path=/ :authority=www.example.com"),
        (
            "828684be5886a8eb10649cbf",
            ":method=GET :scheme=http :path=/ :authority=www.example.com cache-control=no-cache",
        ),
        (
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ":method=GET :scheme=https :path=/index.html :authority=www.example.com custom-key=custom-value",
        ),
    ];
    for (block, expected) in blocks {
        assert_eq!(read(&mut decoder, &unhex(block)), expected);
    }
}

#[test]
fn what_is_written_is_read() {
    let long = "x".repeat(1_000);
    let block = Block::request("GET", "http", "a", "/").incremental("cookie", "a=b").indexed(62, 2).field("y", &long);
    let expected = format!(":method=GET :scheme=http :authority=a :path=/ cookie=a=b cookie=a=b cookie=a=b y={long}");
    assert_eq!(read(&mut Decoder::default(), block.bytes()), expected);
}

#[test]
fn broken_blocks_are_not_read() {
    for block in ["80", "be", "00", "0085", "82ff", "3fe21f", "0081ff00", "8fffffffffffff"] {
        assert!(Decoder::default().read(&unhex(block)).is_err(), "{block}");
    }
}
