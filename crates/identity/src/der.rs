//! The few fields of a certificate that are needed of every version of X.509.
//!
//! The verifier reads version 3 only, as it should for strangers. The commands in the documentation of Istio make
//! certificates of version 1, and a server may well show one.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Fields of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'c> {
    /// 0 is version 1, 2 is version 3.
    pub(crate) version: u8,
    /// First second of its life, since 1970.
    pub(crate) not_before: i64,
    /// Last second of its life, since 1970.
    pub(crate) not_after: i64,
    /// The issuer's name.
    pub(crate) issuer: &'c [u8],
    /// Its own name.
    pub(crate) subject: &'c [u8],
    /// The SubjectPublicKeyInfo with its tag, as keys show theirs.
    pub(crate) public_key: &'c [u8],
}

/// What the issuer has signed, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed<'c> {
    /// The signed part of the certificate.
    pub(crate) message: &'c [u8],
    /// The AlgorithmIdentifier of the signature, without its tag. It stands in the signed part, too, and is the same there.
    pub(crate) algorithm: &'c [u8],
    /// The signature.
    pub(crate) signature: &'c [u8],
}

impl<'c> Signed<'c> {
    /// Reads it (RFC 5280 §4.1.1); `None` for what is no certificate.
    pub(crate) fn read(certificate: &'c [u8]) -> Option<Self> {
        let mut outer = Reader(certificate);
        let mut whole = Reader(outer.take(SEQUENCE)?.content);
        let message = whole.take(SEQUENCE)?;
        let algorithm = whole.take(SEQUENCE)?.content;
        // The first byte counts unused bits, of which whole bytes have none.
        let signature = whole.take(BIT_STRING)?.content.strip_prefix(&[0])?;
        let mut body = Reader(message.content);
        body.take_if(VERSION);
        body.take(INTEGER)?;
        let same = body.take(SEQUENCE)?.content == algorithm;
        let ends = whole.0.is_empty() && outer.0.is_empty();
        (same && ends).then_some(Self { message: message.whole, algorithm, signature })
    }
}

impl<'c> Fields<'c> {
    /// Reads them (RFC 5280 §4.1); `None` for what is no certificate.
    pub(crate) fn read(certificate: &'c [u8]) -> Option<Self> {
        let mut outer = Reader(certificate);
        let mut whole = Reader(outer.take(SEQUENCE)?.content);
        let mut body = Reader(whole.take(SEQUENCE)?.content);
        let version = match body.take_if(VERSION) {
            Some(explicit) => match Reader(explicit.content).take(INTEGER)?.content {
                [version] => *version,
                _ => return None,
            },
            None => 0,
        };
        body.take(INTEGER)?; // Serial number.
        body.take(SEQUENCE)?; // Signature algorithm.
        let issuer = body.take(SEQUENCE)?.content;
        let mut validity = Reader(body.take(SEQUENCE)?.content);
        let not_before = validity.time()?;
        let not_after = validity.time()?;
        let subject = body.take(SEQUENCE)?.content;
        let public_key = body.take(SEQUENCE)?.whole;
        Some(Self { version, not_before, not_after, issuer, subject, public_key })
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Bytes not read yet.
struct Reader<'c>(&'c [u8]);

/// One element.
struct Element<'c> {
    /// With tag and length.
    whole: &'c [u8],
    content: &'c [u8],
}

impl<'c> Reader<'c> {
    /// The next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<Element<'c>> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Up to three bytes of length: a certificate of 16 MiB has no business here.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        if found != tag {
            return None;
        }
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { whole, content })
    }

    /// The next element, if it has this tag.
    fn take_if(&mut self, tag: u8) -> Option<Element<'c>> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { None }
    }

    /// A time in one of the two forms that RFC 5280 §4.1.2.5 allows, in seconds since 1970.
    fn time(&mut self) -> Option<i64> {
        let (digits, century) = match self.take_if(UTC_TIME) {
            Some(short) => (short.content, None),
            None => (self.take(GENERALIZED_TIME)?.content, Some(())),
        };
        let digits = digits.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let number = |range: std::ops::Range<usize>| {
            digits.get(range).map(|part| part.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0')))
        };
        let (year, rest) = match century {
            Some(()) => (number(0..4)?, 4),
            None => (number(0..2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        };
        let two = |index: usize| number(rest + 2 * index..rest + 2 * index + 2).and_then(|n| i8::try_from(n).ok());
        if digits.len() != rest + 10 {
            return None;
        }
        let time = DateTime::new(year, two(0)?, two(1)?, two(2)?, two(3)?, two(4)?, 0).ok()?;
        Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::new(vec!["a.example".into()]).expect("names");
        params.not_before = rcgen::date_time_ymd(2026, 3, 1);
        params.not_after = rcgen::date_time_ymd(2055, 12, 31);
        let key = KeyPair::generate().expect("key");
        (params.self_signed(&key).expect("certificate").der().to_vec(), key.subject_public_key_info())
    }

    #[test]
    fn the_fields_of_a_certificate() {
        let (certificate, public_key) = made();
        let fields = Fields::read(&certificate).expect("a certificate");
        assert_eq!((fields.version, fields.public_key), (2, public_key.as_slice()));
        let shown = |second| jiff::Timestamp::from_second(second).expect("in range").to_string();
        assert_eq!(shown(fields.not_before), "2026-03-01T00:00:00Z", "two digits of year");
        assert_eq!(shown(fields.not_after), "2055-12-31T00:00:00Z", "four digits of year, after 2049");
    }

    #[test]
    fn every_cut_is_refused() {
        let (certificate, _) = made();
        for end in 0..certificate.len() {
            assert_eq!(Fields::read(&certificate[..end]), None, "cut after {end}");
            assert_eq!(Signed::read(&certificate[..end]), None, "cut after {end}");
        }
    }

    proptest! {
        #[test]
        fn no_change_makes_it_panic(at in 0..1000_usize, byte: u8) {
            let (mut certificate, _) = made();
            let index = at % certificate.len();
            certificate[index] = byte;
            let _ = (Fields::read(&certificate), Signed::read(&certificate));
        }
    }
}
