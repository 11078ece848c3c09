//! The request that the user described, made for the version of HTTP that it goes out in.

use anyhow::{Context, bail};

use super::target::{self, Target};
use super::{RequestArgs, grpc};
use crate::client::{self, http2};

/// One request, ready to be sent many times.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    /// By HTTP/1.1.
    Http1(client::Request),
    /// By HTTP/2.
    Http2(Box<http2::Request>),
}

/// The parts of a request that both versions have.
struct Parts<'a> {
    method: &'a str,
    authority: &'a str,
    /// Without `host`.
    fields: Vec<(String, &'a str)>,
    body: Option<&'a [u8]>,
}

impl Outgoing {
    /// Makes it.
    pub(super) fn new(args: &RequestArgs, target: &Target) -> anyhow::Result<Self> {
        let default = if args.grpc || args.data.is_some() { "POST" } else { "GET" };
        let method = args.method.as_deref().unwrap_or(default);
        if !target::is_token(method) || method == "CONNECT" {
            bail!("-X {method}: expected a method such as GET or POST; CONNECT opens tunnels and is no request");
        }
        let mut authority = None;
        let mut fields: Vec<(String, &str)> = Vec::new();
        for line in &args.header {
            let (name, value) = target::parse_field(line)?;
            if name == "host" {
                authority.get_or_insert(value);
            } else {
                fields.push((name, value));
            }
        }
        if !fields.iter().any(|(name, _)| name == "user-agent") {
            fields.push(("user-agent".to_owned(), concat!("outrigger/", env!("CARGO_PKG_VERSION"))));
        }
        let authority = authority.unwrap_or(&target.authority);
        let body = args.data.as_deref().map(str::as_bytes);
        let parts = Parts { method, authority, fields, body };
        if args.grpc || args.http2 { parts.http2(target, args.grpc) } else { Ok(parts.http1(target)) }
    }
}

impl Parts<'_> {
    fn http1(self, target: &Target) -> Outgoing {
        let Self { method, authority, fields, body } = self;
        let mut head = format!("{method} {} HTTP/1.1\r\nhost: {authority}\r\n", target.path);
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let bytes = [head.as_bytes(), body.unwrap_or_default()].concat();
        let is_idempotent = matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
        Outgoing::Http1(client::Request { bytes, is_head: method == "HEAD", is_idempotent })
    }

    fn http2(mut self, target: &Target, is_grpc: bool) -> anyhow::Result<Outgoing> {
        for (name, value) in &self.fields {
            let is_legal = match name.as_str() {
                "keep-alive" | "proxy-connection" => false,
                "te" => !is_grpc && *value == "trailers",
                "content-type" if is_grpc => value.starts_with("application/grpc"),
                _ => true,
            };
            if !is_legal {
                bail!("-H '{name}: {value}': has no place in {}", if is_grpc { "a gRPC call" } else { "HTTP/2" });
            }
        }
        let mut body = self.body.unwrap_or_default().to_vec();
        if is_grpc {
            body = grpc::framed(&body);
            self.fields.push(("te".to_owned(), "trailers"));
            if !self.fields.iter().any(|(name, _)| name == "content-type") {
                self.fields.push(("content-type".to_owned(), "application/grpc"));
            }
        }
        let uri = format!("http://{}{}", self.authority, target.path);
        let mut head = http::Request::builder().method(self.method).uri(&uri).version(http::Version::HTTP_2);
        for (name, value) in &self.fields {
            head = head.header(name, *value);
        }
        if self.body.is_some() && !is_grpc {
            head = head.header("content-length", body.len());
        }
        let head = head.body(()).with_context(|| format!("{uri}: this cannot be said in HTTP/2"))?;
        Ok(Outgoing::Http2(Box::new(http2::Request { head, body: body.into() })))
    }
}
