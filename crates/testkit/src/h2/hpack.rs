//! HPACK (RFC 7541): blocks written field by field in the form the test wants, and blocks read strictly.

/// A block of fields, written without Huffman coding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(Vec<u8>);

impl Block {
    /// An empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pseudo-fields of a request, each a literal.
    pub fn request(method: &str, scheme: &str, authority: &str, path: &str) -> Self {
        let fields = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)];
        fields.iter().fold(Self::new(), |block, (name, value)| block.field(name, value))
    }

    /// A literal that leaves the dynamic table alone.
    pub fn field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x00, name.as_ref(), value.as_ref())
    }

    /// A literal that goes to the front of the dynamic table, where its index is 62.
    pub fn incremental(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x40, name.as_ref(), value.as_ref())
    }

    /// A reference to an entry of a table, so many times.
    pub fn indexed(mut self, index: usize, times: usize) -> Self {
        for _ in 0..times {
            self.integer(0x80, 7, index);
        }
        self
    }

    /// A change of the size of the dynamic table.
    pub fn table_size(mut self, size: usize) -> Self {
        self.integer(0x20, 5, size);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    /// What goes into frames.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn literal(mut self, form: u8, name: &[u8], value: &[u8]) -> Self {
        self.0.push(form);
        for text in [name, value] {
            self.integer(0x00, 7, text.len());
            self.0.extend(text);
        }
        self
    }

    fn integer(&mut self, form: u8, bits: u32, mut value: usize) {
        let most = (1 << bits) - 1;
        if value < most {
            self.0.push(form | value as u8);
            return;
        }
        self.0.push(form | most as u8);
        value -= most;
        while value >= 128 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Reads the blocks of one direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// The newest entry first.
    dynamic: Vec<(String, Vec<u8>)>,
    /// What the dynamic table may hold, less what the default of 4096 bytes allows.
    shrunk_by: usize,
}

/// Bytes of the dynamic table as long as nobody changes it.
const TABLE_BYTES: usize = 4096;

impl Decoder {
    /// The fields of a block; what is wrong with it otherwise.
    pub fn read(&mut self, block: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let (mut rest, mut fields) = (block, Vec::new());
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                fields.push(self.entry(index)?);
                continue;
            }
            if first & 0xe0 == 0x20 {
                let size = integer(&mut rest, 5)?;
                self.shrunk_by = TABLE_BYTES.checked_sub(size).ok_or("the table grows beyond what was granted")?;
                self.evict();
                continue;
            }
            let is_kept = first & 0x40 != 0;
            let name = match integer(&mut rest, if is_kept { 6 } else { 4 })? {
                0 => String::from_utf8(text(&mut rest)?).map_err(|_| "a name is not UTF-8")?,
                index => self.entry(index)?.0,
            };
            let field = (name, text(&mut rest)?);
            if is_kept {
                self.dynamic.insert(0, field.clone());
                self.evict();
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<(String, Vec<u8>), String> {
        let index = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok(((*name).to_owned(), value.as_bytes().to_vec()));
        }
        self.dynamic.get(index - STATIC.len()).cloned().ok_or_else(|| format!("no entry {index}"))
    }

    fn evict(&mut self) {
        let size = |table: &[(String, Vec<u8>)]| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while size(&self.dynamic) > TABLE_BYTES - self.shrunk_by {
            self.dynamic.pop();
        }
    }
}

fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, String> {
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(byte(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let next = byte(rest)?;
        value += usize::from(next & 127) << shift;
        if next < 128 {
            return Ok(value);
        }
    }
    Err("an integer of more than 4 bytes".to_owned())
}

fn byte(rest: &mut &[u8]) -> Result<u8, String> {
    let (first, after) = rest.split_first().ok_or("a block ends in the middle of a field")?;
    *rest = after;
    Ok(*first)
}

fn text(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    if length > rest.len() {
        return Err("a text is longer than its block".to_owned());
    }
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    if is_huffman { huffman(bytes) } else { Ok(bytes.to_vec()) }
}

/// The code is canonical: symbols in the order of their lengths, then of their values, have consecutive codes.
fn huffman(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut symbols: Vec<usize> = (0..HUFFMAN_BITS.len()).collect();
    symbols.sort_by_key(|symbol| (HUFFMAN_BITS[*symbol], *symbol));
    let (mut code, mut length, mut codes) = (0_u32, 0_u8, std::collections::HashMap::new());
    for symbol in symbols {
        code <<= HUFFMAN_BITS[symbol] - length;
        length = HUFFMAN_BITS[symbol];
        codes.insert((length, code), symbol);
        code += 1;
    }
    let (mut found, mut code, mut length) = (Vec::new(), 0_u32, 0_u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(symbol) = codes.get(&(length, code)) {
            found.push(u8::try_from(*symbol).map_err(|_| "the end-of-string symbol in a text")?);
            (code, length) = (0, 0);
        } else if length > 30 {
            return Err("no such Huffman code".to_owned());
        }
    }
    // Padding is less than a byte of ones.
    if length < 8 && code == (1 << length) - 1 { Ok(found) } else { Err("bad Huffman padding".to_owned()) }
}

/// Lengths of the codes of all bytes, and of the end of a string (RFC 7541, appendix B).
#[rustfmt::skip]
const HUFFMAN_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
