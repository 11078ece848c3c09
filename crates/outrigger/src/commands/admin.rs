//! What the commands that talk to a running proxy have in common: where its admin interface is, the token, the question.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use outrigger_telemetry::http::ControlToken;
use serde_json::Value;

use crate::cli::{Output, Verdict, parse_address, print_line};
use crate::client::{self, Connection};

/// How long the admin interface may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest document that is read: some ten thousand circuits.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where to ask.
#[derive(Args, Debug)]
pub(super) struct AdminArgs {
    /// Admin interface of the proxy
    #[arg(long, env = "OUTRIGGER_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:15000")]
    #[arg(value_parser = parse_address)]
    admin: SocketAddr,
    /// Shape of the result
    #[arg(short = 'o', long, env = "OUTRIGGER_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub(super) output: Output,
}

/// What a change by hand needs.
#[derive(Args, Debug)]
pub(super) struct HandArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The file with the secret that the proxy was started with (--admin-token-file)
    #[arg(long, env = "OUTRIGGER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: PathBuf,
    /// Which proxy of the process: NAMESPACE/NAME of a pod or gateway [default: the main one]
    #[arg(long, env = "OUTRIGGER_PROXY_NAME", value_name = "NS/NAME")]
    proxy_name: Option<String>,
    /// Who acts, for the log and the list of circuits [default: the name of the user]
    #[arg(long, env = "OUTRIGGER_BY", value_name = "NAME")]
    by: Option<String>,
}

/// An answer of the admin interface.
#[derive(Debug)]
pub(super) enum Told {
    /// The document.
    Document(Value),
    /// It refuses, and says why.
    Refused(String),
}

impl AdminArgs {
    /// Reads a document below `/api/v1/`.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Told> {
        self.ask("GET", path, query, None)
    }

    fn ask(&self, method: &str, path: &str, query: &[(&str, &str)], token: Option<&str>) -> anyhow::Result<Told> {
        let address = self.admin;
        let target = format!("/api/v1/{path}{}", encode(query));
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let bytes = format!(
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\n{authorization}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        let request = client::Request { bytes: bytes.into_bytes(), is_head: false, is_idempotent: false };
        let asking = async {
            let mut connection = Connection::open(address).await?;
            connection.body_bytes_max = DOCUMENT_BYTES_MAX;
            connection.exchange(&request).await
        };
        let events = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
        let hint = "is `outrigger run` running? --admin says where its admin interface is";
        let answer = match events.block_on(async { tokio::time::timeout(TIMEOUT, asking).await }) {
            Ok(answer) => answer.with_context(|| format!("the admin interface at {address} gave no answer; {hint}"))?,
            Err(_) => bail!("the admin interface at {address} gave no answer in {TIMEOUT:?}; {hint}"),
        };
        if answer.body_bytes > answer.body.len() as u64 {
            bail!(
                "the answer of {address} is longer than {DOCUMENT_BYTES_MAX} bytes; ask for one proxy with --proxy-name"
            );
        }
        let document: Value = serde_json::from_slice(&answer.body).with_context(|| {
            format!(
                "what answers at {address} to {path} with status {} is no admin interface of ours; {hint}",
                answer.status
            )
        })?;
        match (answer.status, document["error"].as_str()) {
            (200, _) => Ok(Told::Document(document)),
            (_, Some(error)) => Ok(Told::Refused(error.to_owned())),
            (status, None) => bail!("the admin interface at {address} answers {path} with status {status}"),
        }
    }
}

impl HandArgs {
    /// Asks for a change; `said` makes a line for people of what is in force then.
    pub(super) fn change(
        &self,
        path: &str,
        query: &[(&str, &str)],
        said: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<Verdict> {
        let token = ControlToken::in_file(&self.admin_token_file).and_then(|token| token.text());
        let token = token.map_err(|problem| anyhow::anyhow!("--admin-token-file: {problem}"))?;
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
        let by = self.by.clone().or(user).unwrap_or_else(|| "outrigger".to_owned());
        let mut query = query.to_vec();
        query.push(("by", &by));
        query.extend(self.proxy_name.as_deref().map(|name| ("proxy", name)));
        match self.admin.ask("POST", path, &query, Some(&token))? {
            Told::Document(document) => {
                match self.admin.output {
                    Output::Json => print_line(&document.to_string()),
                    Output::Text => print_line(&plain(&said(&document))),
                }
                Ok(Verdict::Good)
            }
            Told::Refused(error) => refused(&error),
        }
    }
}

/// Says that the admin interface has refused.
pub(super) fn refused(error: &str) -> anyhow::Result<Verdict> {
    eprintln!("error: {}", plain(error));
    Ok(Verdict::Bad)
}

/// What a proxy said, for a terminal: it may not move the cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Parameters as the query of a URL.
fn encode(query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (at, (key, value)) in query.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(byte.into());
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_and_answers_are_plain() {
        assert_eq!(encode(&[]), "");
        assert_eq!(encode(&[("a", "b|c:80@ü"), ("d", "")]), "?a=b%7Cc%3A80%40%C3%BC&d=");
        assert_eq!(plain("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
