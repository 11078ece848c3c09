//! What came of the requests: counts, latencies, and where they went.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::grpc::Outcome;
use crate::cli::{Output, is_coloured, print_line};
use crate::client::Answer;

/// Counts of everything sent.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What is known of the calls, if they are of gRPC.
    calls: Option<Calls>,
    latencies_us: Vec<u32>,
    by_status: BTreeMap<String, u64>,
    by_grpc_status: BTreeMap<String, u64>,
    by_destination: BTreeMap<String, u64>,
    by_version: BTreeMap<String, u64>,
    by_pod: BTreeMap<String, u64>,
    by_flag: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    bad: u64,
    first: Option<Answer>,
}

/// What is known of gRPC calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    /// Whether answers are messages of `outrigger.echo.v1.Echo`.
    pub(super) is_echo: bool,
}

/// Who gave an answer, as far as the answer tells. What is not known is empty.
#[derive(Debug, Default, PartialEq, Eq)]
struct Origin {
    destination: String,
    pod: String,
    version: String,
    /// Envoy's response flag, when the proxy answered itself.
    flag: String,
    /// Why it did.
    details: String,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(calls: Option<Calls>) -> Self {
        Self { calls, ..Self::default() }
    }

    /// Counts one request. Latency goes from when it was due to the last byte of its answer.
    pub(super) fn add(&mut self, latency: Duration, outcome: Result<Answer, String>) {
        // Requests are far shorter than the 71 minutes that fit.
        self.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                self.bad += 1;
                *self.errors.entry(error).or_default() += 1;
                return;
            }
        };
        let outcome = self.outcome(&answer);
        let Origin { destination, pod, version, flag, .. } = Origin::of(&answer, outcome.as_ref());
        let is_failed = outcome.as_ref().is_some_and(|outcome| outcome.status != Some(0));
        self.bad += u64::from(answer.status >= 500 || is_failed || !flag.is_empty());
        for (table, key) in [
            (&mut self.by_status, answer.status.to_string()),
            (&mut self.by_grpc_status, outcome.map(|outcome| outcome.key()).unwrap_or_default()),
            (&mut self.by_destination, destination),
            (&mut self.by_version, version),
            (&mut self.by_pod, pod),
            (&mut self.by_flag, flag),
        ] {
            if !key.is_empty() {
                *table.entry(key).or_default() += 1;
            }
        }
        self.first.get_or_insert(answer);
    }

    /// Status and messages of an answer, if it is one to a gRPC call.
    fn outcome(&self, answer: &Answer) -> Option<Outcome> {
        self.calls.map(|calls| Outcome::of(answer, calls.is_echo))
    }

    /// Whether every request was answered as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.bad == 0 && !self.latencies_us.is_empty()
    }

    /// The answer that came first.
    pub(super) fn first_answer(&self) -> Option<&Answer> {
        self.first.as_ref()
    }

    /// The documented object.
    fn to_json(&self) -> Value {
        let [p50, p90, p99, max] = self.percentiles_ms();
        let errors: Vec<_> = self.errors.iter().map(|(error, n)| json!({ "message": error, "count": n })).collect();
        json!({
            "requests": self.latencies_us.len(),
            "by_status": self.by_status,
            "by_grpc_status": self.by_grpc_status,
            "by_destination": self.by_destination,
            "by_version": self.by_version,
            "by_pod": self.by_pod,
            "by_flag": self.by_flag,
            "latency_ms": { "p50": p50, "p90": p90, "p99": p99, "max": max },
            "errors": errors,
        })
    }

    /// p50, p90, p99 and the largest: the smallest latency that this share of requests did not exceed.
    fn percentiles_ms(&self) -> [f64; 4] {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        [0.5, 0.9, 0.99, 1.0].map(|share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1000.0)
        })
    }
}

/// The destination of what a circuit breaker's fixed answer stood in for.
const FALLBACK: &str = "fallback of the proxy";

impl Origin {
    fn of(answer: &Answer, outcome: Option<&Outcome>) -> Self {
        let mut origin = Self::default();
        if let Some(status) = answer.field("proxy-status") {
            for (name, value) in parameters(status) {
                match name {
                    "flag" => origin.flag = value,
                    "details" => origin.details = value,
                    _ => {}
                }
            }
        }
        let body = match outcome {
            Some(outcome) => outcome.messages.first().map(String::as_bytes).unwrap_or_default(),
            None => &answer.body,
        };
        let told: Value = serde_json::from_slice(body).unwrap_or_default();
        // Echo servers that send a body without JSON name themselves in two fields.
        let text =
            |member: &str| told[member].as_str().or(answer.field(&format!("x-echo-{member}"))).unwrap_or_default();
        origin.pod = text("pod").to_owned();
        origin.version = text("version").to_owned();
        let [namespace, service] = ["namespace", "service"].map(text);
        origin.destination = match (namespace, service) {
            // The words at the end of the proxy's details when it answers in place of a service.
            (_, "") if origin.details.ends_with(" fallback") => FALLBACK.to_owned(),
            (_, "") => String::new(),
            ("", service) => service.to_owned(),
            (namespace, service) => format!("{namespace}/{service}"),
        };
        origin
    }

    /// Where the request went, in words.
    fn describe(&self) -> String {
        let Self { destination, pod, version, flag, details } = self;
        if !flag.is_empty() {
            return format!("answered by the proxy itself: {flag} {details}");
        }
        if destination == FALLBACK {
            return format!("answered by the {FALLBACK}: {details}");
        }
        if pod.is_empty() && destination.is_empty() {
            return "answered by a destination that does not say who it is".to_owned();
        }
        let version = if version.is_empty() { String::new() } else { format!(", version {version}") };
        let destination = if destination.is_empty() { String::new() } else { format!("{destination}, ") };
        format!("answered by {destination}pod {pod}{version}")
    }
}

/// Prints one answer, and the way it took.
pub(super) fn print_one(tally: &Tally, answer: &Answer, proxy: SocketAddr, output: Output) {
    let outcome = tally.outcome(answer);
    let text = match &outcome {
        Some(outcome) => outcome.messages.join("\n"),
        None => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    if output == Output::Json {
        return print_line(&one_to_json(tally, answer, &text, outcome.as_ref()).to_string());
    }
    let strong =
        |text: &str| if is_coloured(&std::io::stdout()) { format!("\x1b[1m{text}\x1b[0m") } else { text.into() };
    print_line(&strong(format!("{} {} {}", answer.protocol, answer.status, answer.reason).trim_end()));
    for (name, value) in &answer.fields {
        print_line(&format!("{name}: {value}"));
    }
    print_line("");
    if !text.is_empty() {
        print_line(text.trim_end());
        if answer.body_bytes > answer.body.len() as u64 {
            print_line(&format!("[the first {} of {} bytes]", answer.body.len(), answer.body_bytes));
        }
        print_line("");
    }
    if !answer.trailers.is_empty() {
        for (name, value) in &answer.trailers {
            print_line(&format!("{name}: {value}"));
        }
        print_line("");
    }
    let [latency_ms, ..] = tally.percentiles_ms();
    let origin = Origin::of(answer, outcome.as_ref()).describe();
    if let Some(outcome) = outcome {
        print_line(&strong(&outcome.describe()));
    }
    print_line(&strong(&format!("{origin} through {proxy} in {latency_ms:.1} ms")));
}

/// The counts, and the answer.
fn one_to_json(tally: &Tally, answer: &Answer, text: &str, outcome: Option<&Outcome>) -> Value {
    let by_name = |fields: &[(String, String)]| {
        let mut names = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in fields {
            names.entry(name.clone()).or_default().push(value.clone());
        }
        names
    };
    let mut result = tally.to_json();
    result["response"] = json!({
        "protocol": answer.protocol, "status": answer.status, "headers": by_name(&answer.fields), "body": text,
        "body_bytes": answer.body_bytes, "trailers": by_name(&answer.trailers),
    });
    if let Some(outcome) = outcome {
        result["response"]["grpc"] = json!({
            "status": outcome.status, "message": outcome.message, "messages": outcome.messages.len(),
        });
    }
    result
}

/// Prints the counts.
pub(super) fn print_many(tally: &Tally, output: Output) {
    if output == Output::Json {
        return print_line(&tally.to_json().to_string());
    }
    let [p50, p90, p99, max] = tally.percentiles_ms();
    print_line(&format!("requests     {}", tally.latencies_us.len()));
    print_line(&format!("latency ms   p50 {p50:.1}  p90 {p90:.1}  p99 {p99:.1}  max {max:.1}"));
    let all = tally.latencies_us.len() as f64;
    for (title, table) in [
        ("status", &tally.by_status),
        ("grpc-status", &tally.by_grpc_status),
        ("destination", &tally.by_destination),
        ("version", &tally.by_version),
        ("pod", &tally.by_pod),
        ("flag", &tally.by_flag),
        ("error", &tally.errors),
    ] {
        let width = table.keys().map(String::len).max().unwrap_or_default();
        for (row, (key, count)) in table.iter().enumerate() {
            let title = if row == 0 { title } else { "" };
            print_line(&format!("{title:<12} {key:<width$} {count:>9} {:>5.1} %", *count as f64 / all * 100.0));
        }
    }
}

/// Shows how far the load is, on a terminal; never ends.
pub(super) async fn show_progress(tally: &RefCell<Tally>, count: u32) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (done, bad) = (tally.borrow().latencies_us.len(), tally.borrow().bad);
        // The line is written over by the next one, and by what is printed at the end.
        let _ = write!(std::io::stderr(), "\r{done} of {count} requests, {bad} bad\r");
    }
}

/// The parameters of a structured field such as `outrigger; error=connection_refused; flag=UF`.
fn parameters(field: &str) -> Vec<(&str, String)> {
    let mut parameters = Vec::new();
    let mut quoted = false;
    // Semicolons inside quotation marks separate nothing.
    let parts = field.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    for part in parts {
        if let Some((name, value)) = part.trim().split_once('=') {
            parameters.push((name, value.trim_matches('"').to_owned()));
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::super::grpc::framed;
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
        let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Answer { status, fields, body: body.into(), ..Answer::default() }
    }

    #[test]
    fn origins_are_read_from_the_answer() {
        let echo = answer(200, &[], r#"{"namespace":"shop","service":"cart","pod":"cart-0","version":"v2"}"#);
        assert_eq!(Origin::of(&echo, None).describe(), "answered by shop/cart, pod cart-0, version v2");
        let status = r#"outrigger; error=destination_unavailable; details="no_healthy; upstream"; flag=UH"#;
        let proxy = Origin::of(&answer(503, &[("proxy-status", status)], "no endpoint"), None);
        assert_eq!(proxy.describe(), "answered by the proxy itself: UH no_healthy; upstream");
        let status = r#"outrigger; error=destination_unavailable; details="circuit_open fallback""#;
        let fallback = Origin::of(&answer(200, &[("proxy-status", status)], "[]"), None);
        assert_eq!(fallback.describe(), "answered by the fallback of the proxy: circuit_open fallback");
        let bytes = Origin::of(&answer(200, &[("x-echo-pod", "p-0"), ("x-echo-version", "v1")], "0123"), None);
        assert_eq!((bytes.pod.as_str(), bytes.version.as_str()), ("p-0", "v1"));
        assert_eq!(Origin::of(&answer(200, &[], "[]"), None), Origin::default());
    }

    #[test]
    fn counts_add_up() {
        let mut tally = Tally::default();
        assert!(!tally.is_good(), "nothing was answered");
        for number in 1..=100 {
            let version = if number % 4 == 0 { "v2" } else { "v1" };
            let body = format!(r#"{{"service":"cart","pod":"p","version":"{version}"}}"#);
            tally.add(Duration::from_millis(number), Ok(answer(200, &[], &body)));
        }
        assert!(tally.is_good());
        let told = tally.to_json();
        assert_eq!(told["by_version"], json!({ "v1": 75, "v2": 25 }));
        assert_eq!(told["latency_ms"], json!({ "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0 }));
        assert_eq!((&told["requests"], &told["by_flag"], &told["errors"]), (&json!(100), &json!({}), &json!([])));
        tally.add(Duration::ZERO, Err("no".to_owned()));
        tally.add(Duration::ZERO, Ok(answer(404, &[("proxy-status", "outrigger; flag=NR")], "")));
        let told = tally.to_json();
        assert_eq!((&told["by_flag"]["NR"], &told["errors"][0]["count"]), (&json!(1), &json!(1)));
        assert_eq!(tally.bad, 2);
    }

    #[test]
    fn calls_are_judged_by_their_own_status() {
        let mut tally = Tally::new(Some(Calls { is_echo: false }));
        let echo = Answer { body: framed(br#"{"service":"cart","pod":"p"}"#), ..answer(200, &[], "") };
        let with = |status: &str| Answer { trailers: vec![("grpc-status".into(), status.into())], ..echo.clone() };
        tally.add(Duration::ZERO, Ok(with("0")));
        assert!(tally.is_good());
        assert_eq!(tally.to_json()["by_destination"], json!({ "cart": 1 }));
        for answer in [with("14"), echo.clone(), answer(200, &[("grpc-status", "14")], "")] {
            tally.add(Duration::ZERO, Ok(answer));
        }
        assert_eq!(tally.to_json()["by_grpc_status"], json!({ "0": 1, "14": 2, "none": 1 }));
        assert_eq!((tally.bad, &tally.to_json()["by_status"]), (3, &json!({ "200": 4 })));
    }
}
