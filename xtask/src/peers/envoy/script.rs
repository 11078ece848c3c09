//! What a backend answers to its first request, its second, and so on, in words that fit a table of cases.
//!
//! A script is words with blanks between them, one for each request; the last is for all that follow. A word is a status
//! (`503`), with a delay in milliseconds (`200~300`) and header fields (`429+x-envoy-ratelimited:true`), and how often (`200*5`); `grpc14`, a status of
//! gRPC in the head; `grpc14!`, the same in trailers; `reset` and `close`, which end the connection (of HTTP/2: the stream)
//! without an answer; `refused-stream`, of HTTP/2 only. A backend whose script is `refused` does not listen.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The script of a backend that does not listen.
const REFUSED: &str = "refused";

/// What a backend does with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers.
    Answer(Answer),
    /// Resets the connection or stream.
    Reset,
    /// Closes the connection in order.
    Close,
    /// `RST_STREAM` with `REFUSED_STREAM`.
    RefuseStream,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    /// How long it takes.
    pub(crate) delay: Duration,
    /// Header fields.
    pub(crate) fields: Vec<(String, String)>,
    /// Fields after the body.
    pub(crate) trailers: Vec<(String, String)>,
}

/// What a backend does with its requests, in order; `None`: it does not listen.
pub(crate) fn parse(script: &str) -> Result<Option<Vec<Act>>> {
    if script == REFUSED {
        return Ok(None);
    }
    let mut acts = Vec::new();
    for word in script.split_whitespace() {
        let (word, times) = word.split_once('*').unwrap_or((word, "1"));
        let times = times.parse().with_context(|| format!("number of times of `{word}`"))?;
        acts.extend(std::iter::repeat_n(act(word).with_context(|| format!("script `{script}`"))?, times));
    }
    if acts.is_empty() { bail!("a script needs a word") } else { Ok(Some(acts)) }
}

fn act(word: &str) -> Result<Act> {
    match word {
        "reset" => return Ok(Act::Reset),
        "close" => return Ok(Act::Close),
        "refused-stream" => return Ok(Act::RefuseStream),
        _ => {}
    }
    let mut answer = Answer::default();
    let mut parts = word.split('+');
    let first = parts.next().unwrap_or_default();
    let (what, delay) = first.split_once('~').unwrap_or((first, "0"));
    answer.delay = Duration::from_millis(delay.parse().with_context(|| format!("delay of `{word}`"))?);
    if let Some(status) = what.strip_prefix("grpc") {
        let (status, in_trailers) = status.strip_suffix('!').map_or((status, false), |status| (status, true));
        let _: u8 = status.parse().with_context(|| format!("status of `{word}`"))?;
        answer.status = 200;
        answer.fields.push(("content-type".to_owned(), "application/grpc".to_owned()));
        let place = if in_trailers { &mut answer.trailers } else { &mut answer.fields };
        place.push(("grpc-status".to_owned(), status.to_owned()));
    } else {
        answer.status = what.parse().with_context(|| format!("status of `{word}`"))?;
    }
    for field in parts {
        let (name, value) = field.split_once(':').with_context(|| format!("field `{field}`"))?;
        answer.fields.push((name.to_owned(), value.to_owned()));
    }
    Ok(Act::Answer(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_is_answered() {
        let fields = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let acts = parse("503 200~250+a:b reset grpc14!").expect("a script").expect("it listens");
        assert_eq!(acts[0], Act::Answer(Answer { status: 503, ..Answer::default() }));
        let delay = Duration::from_millis(250);
        let slow = Answer { status: 200, delay, fields: fields(&[("a", "b")]), trailers: Vec::new() };
        assert_eq!(acts[1], Act::Answer(slow));
        assert_eq!(acts[2], Act::Reset);
        let Act::Answer(call) = &acts[3] else { panic!("an answer") };
        assert_eq!(call.trailers, fields(&[("grpc-status", "14")]));
        let thrice = parse("reset*2 close").expect("a script");
        assert_eq!(thrice, Some(vec![Act::Reset, Act::Reset, Act::Close]));
        assert_eq!(parse("refused").expect("a script"), None);
        for wrong in ["", "grpc", "5o3", "200~x", "200+a", "200*x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
