//! What routing, balancing and filters see of a request, whatever the protocol it came in.
//!
//! A view borrows from the connection's buffer; it lives for one decision and is never stored.

/// A request head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestView<'a> {
    /// Method as sent; methods are case-sensitive (RFC 9110 §9.1).
    pub(crate) method: &'a [u8],
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// Authority in lower case, with its port if one was sent.
    pub(crate) authority: &'a [u8],
    /// Path without query, as it will be forwarded.
    pub(crate) path: &'a [u8],
    /// Query without the question mark.
    pub(crate) query: Option<&'a [u8]>,
    /// Fields in the order they came; names in the case they came.
    pub(crate) headers: &'a [httparse::Header<'a>],
    /// The peer's address.
    pub(crate) peer: std::net::IpAddr,
}

impl<'a> RequestView<'a> {
    /// The first field of this name; `name` is lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }
}
