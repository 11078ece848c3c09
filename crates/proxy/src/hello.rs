//! What a connection begins with, where that decides what becomes of it: TLS that is terminated, TLS that passes through
//! untouched by its server name, or something else.
//!
//! The hello is read without being consumed: a handshake begins with its bytes, and so does what passes through. All of it
//! happens within one time limit, so that a client that stalls anywhere holds a connection for so long only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::Serve;
use rustls::server::Acceptor;
use rustls::{Error, ServerConfig};

use crate::h1::buffer::Buffer;
use crate::h1::stream::{HandshakeFailure, IoFailure, Stream};
use crate::plan::Client;
use crate::site::{Site, Tls};
use crate::worker::Worker;

/// What became of a connection that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It can be served.
    Ready,
    /// There is nothing to serve, and nobody to tell.
    Ended,
    /// It is not served; the client may still read an alert that says so.
    Refused,
}

/// Reads the hello and does the handshake, as the listener asks for it.
pub(crate) async fn receive(worker: &Worker, client: &mut Stream, who: &mut Client) -> Received {
    let until = Instant::now() + worker.settings.handshake_timeout;
    let Err(failure) = arrive(worker, client, who, until).await else { return Received::Ready };
    if let Failure::Nothing = failure {
        return Received::Ended;
    }
    worker.recorder.handshake_failure(&who.listener, failure.reason());
    // A client that is gone already is no worse off.
    let _ = client.writer().write(failure.alert(), &[], left(until)).await;
    if worker.may_complain() {
        let (listener, client, reason) = (&who.listener, who.address, failure.words());
        tracing::info!(%listener, %client, reason, "no TLS connection; told once a second at most");
    }
    match failure {
        Failure::Gone | Failure::TimedOut => Received::Ended,
        _ => Received::Refused,
    }
}

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
enum Hello {
    /// With a hello of TLS, for this server (lower case).
    Tls(Option<Box<str>>),
    /// With anything else.
    Plain,
    /// Not at all within the limit: it may be that the server speaks first.
    Silent,
}

/// What to do with it.
enum Verdict {
    /// It is served as it is; the bytes read so far wait for whoever does.
    AsItIs,
    /// TLS is terminated.
    Terminate(Arc<ServerConfig>),
}

/// Why a connection is not served.
#[derive(Debug)]
enum Failure {
    /// It never was more than a connection: somebody looked whether the port is open.
    Nothing,
    /// The client went away.
    Gone,
    /// It stalled.
    TimedOut,
    /// Its hello is longer than any.
    Endless,
    /// It speaks plain text where TLS is expected.
    Plaintext,
    /// No chain takes TLS for the server it names.
    ServerName,
    /// The chain's settings cannot be used.
    Settings,
    /// One side does not want the other; with the alert that says so, unless that has left.
    Refused(Error, Vec<u8>),
}

async fn arrive(worker: &Worker, client: &mut Stream, who: &mut Client, until: Instant) -> Result<(), Failure> {
    let hello = read(worker, client, until).await?;
    let verdict = {
        let current = worker.current();
        let (site, _) = current.policy.site(&who.listener).ok_or(Failure::Nothing)?;
        judge(site, &hello)?
    };
    if let Hello::Tls(name) = hello {
        who.server_name = name;
    }
    let Verdict::Terminate(config) = verdict else { return Ok(()) };
    let version = client.secure(config, &worker.buffers, left(until)).await.map_err(|failure| match failure {
        HandshakeFailure::Gone => Failure::Gone,
        HandshakeFailure::TimedOut => Failure::TimedOut,
        HandshakeFailure::Refused(error) => Failure::Refused(error, Vec::new()),
    })?;
    who.is_tls = true;
    worker.recorder.handshake(&who.listener, version);
    Ok(())
}

/// Reads until it is clear how the connection begins.
async fn read(worker: &Worker, client: &mut Stream, until: Instant) -> Result<Hello, Failure> {
    if client.input.is_empty() {
        match client.wait_readable(&worker.buffers, left(until)).await {
            Ok(()) => {}
            Err(IoFailure::TimedOut) if !worker.draining.get() => return Ok(Hello::Silent),
            Err(_) => return Err(Failure::Nothing),
        }
    }
    let mut reading = Reading::default();
    loop {
        // It may have come together with what stood before it.
        if !client.input.is_empty()
            && let Some(hello) = reading.read(client.input.bytes())?
        {
            return Ok(hello);
        }
        match client.reader().fill(&worker.buffers, Reading::BYTES_MAX, left(until)).await {
            Ok(_) => {}
            Err(IoFailure::TimedOut) => return Err(Failure::TimedOut),
            Err(_) if client.input.is_empty() => return Err(Failure::Nothing),
            Err(_) => return Err(Failure::Gone),
        }
    }
}

/// A hello that is being read.
#[derive(Default)]
struct Reading {
    acceptor: Acceptor,
    /// Bytes the acceptor has seen.
    shown: usize,
}

impl Reading {
    /// Most bytes of a hello, with its framing in records: what rustls takes of a whole message.
    const BYTES_MAX: usize = Buffer::LARGE_BYTES;
    /// The first byte of a record with a handshake message (RFC 8446 §5.1).
    const HANDSHAKE: u8 = 22;

    /// Reads on; `bytes` are all that came so far, at least one.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<Hello>, Failure> {
        if bytes[0] != Self::HANDSHAKE {
            return Ok(Some(Hello::Plain));
        }
        let mut rest = &bytes[self.shown..];
        self.shown = bytes.len();
        while !rest.is_empty() {
            // It refuses bytes when it holds too many.
            self.acceptor.read_tls(&mut rest).map_err(|_| Failure::Endless)?;
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    return Ok(Some(Hello::Tls(name.map(String::into_boxed_str))));
                }
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    alert.write_all(&mut bytes).expect("memory takes all bytes");
                    return Err(Failure::Refused(error, bytes));
                }
            }
        }
        if bytes.len() >= Self::BYTES_MAX { Err(Failure::Endless) } else { Ok(None) }
    }
}

/// What a listener does with a connection that begins so.
fn judge(site: &Site, hello: &Hello) -> Result<Verdict, Failure> {
    let chain = |name| site.chain(name).map(|at| (&site.chains[at].tls, &site.listener.chains[at].serve));
    match hello {
        Hello::Tls(name) => match chain(name.as_deref()) {
            Some((Tls::Terminate(config), _)) => Ok(Verdict::Terminate(config.clone())),
            Some((Tls::Unusable, _)) => Err(Failure::Settings),
            Some((Tls::None, Serve::Tcp(_) | Serve::Detect { .. })) => Ok(Verdict::AsItIs),
            Some((Tls::None, Serve::Http(_))) | None => Err(Failure::ServerName),
        },
        Hello::Plain | Hello::Silent => match chain(None) {
            Some((Tls::None, _)) => Ok(Verdict::AsItIs),
            Some((Tls::Terminate(_) | Tls::Unusable, _)) | None if *hello == Hello::Silent => Err(Failure::TimedOut),
            Some((Tls::Terminate(_) | Tls::Unusable, _)) | None => Err(Failure::Plaintext),
        },
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl Failure {
    /// A fatal alert in plain text, as nothing is agreed on yet.
    fn alert(&self) -> &[u8] {
        match self {
            // unrecognized_name (RFC 6066 §3).
            Self::ServerName => &[21, 3, 3, 0, 2, 2, 112],
            // internal_error.
            Self::Settings => &[21, 3, 3, 0, 2, 2, 80],
            Self::Refused(_, alert) => alert,
            _ => &[],
        }
    }

    /// The value of the label: one of a fixed set.
    fn reason(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Gone => "client_gone",
            Self::TimedOut => "timeout",
            Self::Endless => "hello",
            Self::Plaintext => "plaintext",
            Self::ServerName => "server_name",
            Self::Settings => "settings",
            Self::Refused(error, _) => match error {
                Error::PeerIncompatible(_) => "incompatible",
                Error::NoApplicationProtocol => "protocol",
                Error::NoCertificatesPresented => "certificate_missing",
                Error::InvalidCertificate(_) => "certificate_refused",
                Error::AlertReceived(_) => "client_alert",
                Error::InvalidMessage(_)
                | Error::PeerMisbehaved(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::DecryptError
                | Error::PeerSentOversizedRecord => "broken",
                _ => "other",
            },
        }
    }

    /// For the log.
    fn words(&self) -> String {
        let words = match self {
            Self::Nothing | Self::Gone => "the client went away during the handshake",
            Self::TimedOut => "the client did not complete the handshake in time",
            Self::Endless => "the client's hello is longer than 64 KiB",
            Self::Plaintext => "the client speaks plain text where TLS is expected",
            Self::ServerName => "no certificate or route is for the server name that the client asks for",
            Self::Settings => "the TLS settings of the listener cannot be used; see the error when they were read",
            Self::Refused(Error::NoCertificatesPresented, _) => "the client shows no certificate, and one is required",
            Self::Refused(Error::InvalidCertificate(error), _) => {
                return format!("the certificate that the client shows is refused: {error}");
            }
            Self::Refused(Error::NoApplicationProtocol, _) => {
                "the client asks for protocols (ALPN) that are not served here"
            }
            Self::Refused(Error::AlertReceived(alert), _) => {
                return format!("the client refuses what it was shown: {alert:?}");
            }
            Self::Refused(error, _) => return error.to_string(),
        };
        words.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hello of TLS 1.2 with this server name, in records of `record` bytes.
    fn hello(name: &str, record: usize) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat();
        let name = sized(&[&[0][..], &sized(name.as_bytes())].concat());
        let extension = |kind: u8, body: &[u8]| [&[0, kind][..], &sized(body)].concat();
        let schemes = sized(&[4, 3, 8, 4]);
        let extensions =
            sized(&[extension(0, &name), extension(13, &schemes), extension(10, &sized(&[0, 23]))].concat());
        let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0], &extensions].concat();
        let message = [&[1, 0][..], &sized(&body)].concat();
        message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &sized(part)].concat()).collect()
    }

    fn read(bytes: &[u8], step: usize) -> Result<Option<Hello>, Failure> {
        let mut reading = Reading::default();
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            if let Some(hello) = reading.read(&bytes[..end])? {
                assert_eq!(end, bytes.len(), "it is known at the last byte only");
                return Ok(Some(hello));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_server_name_is_read_however_the_hello_is_cut() {
        for record in [1, 2, 7, 60, 16_384] {
            for step in [1, 3, 100_000] {
                let read = read(&hello("Web.Example", record), step).expect("a good hello");
                assert_eq!(read, Some(Hello::Tls(Some("web.example".into()))), "{record} {step}");
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_told() {
        for plain in [&b"GET / HTTP/1.1\r\n"[..], b"\0", b"\x80\x2e\x01"] {
            assert_eq!(Reading::default().read(plain).expect("it is read"), Some(Hello::Plain));
        }
        let broken = read(&[22, 9, 9, 0, 1, 1], 1).expect_err("no version of TLS");
        assert_eq!(broken.reason(), "broken");
        // A record that never ends, of a message that never ends.
        let endless = [&[22, 3, 1, 64, 0, 1, 0, 0xff, 0xff][..], &vec![0; 70_000]].concat();
        assert!(read(&endless, 1000).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..600), at in 0..400_usize, byte: u8) {
            let mut changed = hello("web.example", 50);
            let index = at % changed.len();
            changed[index] = byte;
            for sample in [&changed, { bytes[0] = 22; &bytes }] {
                let _ = Reading::default().read(sample);
            }
        }
    }
}
