//! The body of an answer.

use std::sync::LazyLock;

use bytes::Bytes;

/// What a body of `x-echo-body-bytes` repeats: position-dependent, so that a shifted or swapped part shows.
const PATTERN: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n";

/// The pattern, often enough for one write.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| PATTERN.repeat(256).into());

/// The body of an answer, which is never in memory as a whole when it is long.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// JSON.
    Text(Bytes),
    /// So many bytes of a pattern.
    Pattern(u64),
}

impl Body {
    /// Its length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Pattern(bytes) => *bytes,
        }
    }

    /// Its media type.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "application/json",
            Self::Pattern(_) => "application/octet-stream",
        }
    }

    /// Its first bytes, this many at most.
    pub(super) fn cut(self, bytes: u64) -> Self {
        let bytes = bytes.min(self.length());
        match self {
            Self::Text(text) => Self::Text(text.slice(..bytes as usize)),
            Self::Pattern(_) => Self::Pattern(bytes),
        }
    }

    /// Its bytes, in parts that are not empty.
    pub(super) fn parts(self) -> impl Iterator<Item = Bytes> {
        let (mut text, mut pattern) = match self {
            Self::Text(text) => (text, 0),
            Self::Pattern(bytes) => (Bytes::new(), bytes),
        };
        std::iter::from_fn(move || {
            let part = if text.is_empty() {
                let part = BLOCK.slice(..BLOCK.len().min(usize::try_from(pattern).unwrap_or(usize::MAX)));
                pattern -= part.len() as u64;
                part
            } else {
                std::mem::take(&mut text)
            };
            Some(part).filter(|part| !part.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let whole = |body: Body| body.parts().map(|part| part.to_vec()).collect::<Vec<_>>().concat();
        assert_eq!(whole(Body::Text(Bytes::from_static(b"text")).cut(2)), b"te");
        assert_eq!(whole(Body::Pattern(0)), b"");
        let long = whole(Body::Pattern(40_000).cut(39_999));
        assert_eq!(long.len(), 39_999);
        assert!(long.iter().zip(PATTERN.iter().cycle()).all(|(one, other)| one == other));
    }
}
