//! `outrigger circuits`: the circuits of a running proxy as a table.

use clap::Args;
use serde_json::Value;

use super::admin::{AdminArgs, Told, plain, refused};
use crate::cli::{Output, Verdict, is_coloured, print_line};

const EXAMPLES: &str = "\
Examples:
  outrigger circuits
      Every circuit of the proxy on this machine, then the endpoints that are ejected or drained
  outrigger circuits --proxy-name shop/cart-v1-0
      Those of one pod of `outrigger run --simulate`
  outrigger circuits -o json | jq '.circuits[] | select(.state != \"closed\") | {name, why, next_probe_seconds}'
      What GET /api/v1/circuits tells; docs/circuits-api.md says what it means

Exit status: 0 when every circuit lets calls pass; 1 when one does not (open, half_open, forced_open), or the proxy refuses
the question; 2 when nothing could be asked.";

/// Flags of `outrigger circuits`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CircuitsArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Only this proxy of the process: main, or NAMESPACE/NAME of a pod or gateway [default: all]
    #[arg(long, env = "OUTRIGGER_PROXY_NAME", value_name = "NS/NAME")]
    proxy_name: Option<String>,
}

/// Asks and prints.
pub(crate) fn run(args: &CircuitsArgs) -> anyhow::Result<Verdict> {
    let query: Vec<(&str, &str)> = args.proxy_name.as_deref().map(|name| ("proxy", name)).into_iter().collect();
    let document = match args.admin.get("circuits", &query)? {
        Told::Document(document) => document,
        Told::Refused(error) => return refused(&error),
    };
    match args.admin.output {
        Output::Json => print_line(&document.to_string()),
        Output::Text => print(&document, is_coloured(&std::io::stdout())),
    }
    let are_all_passing = list(&document, "circuits").iter().all(|circuit| !is_shut(circuit));
    Ok(if are_all_passing { Verdict::Good } else { Verdict::Bad })
}

fn is_shut(circuit: &Value) -> bool {
    matches!(circuit["state"].as_str(), Some("open" | "half_open" | "forced_open"))
}

fn print(document: &Value, is_coloured: bool) {
    let circuits = list(document, "circuits");
    if circuits.is_empty() {
        print_line("no circuits: nothing in the configuration asks for one");
    } else {
        let rows = circuits.iter().map(circuit).collect();
        let state = CIRCUIT.iter().position(|title| *title == "STATE").filter(|_| is_coloured);
        table(&CIRCUIT, rows, state);
    }
    for (member, title, last) in [("ejections", "EJECTED", "REASON"), ("drains", "DRAINED", "BY")] {
        let rows: Vec<_> = list(document, member).iter().map(|found| out(found, &last.to_lowercase())).collect();
        if !rows.is_empty() {
            print_line("");
            table(&[title, "ADDRESS", "PROXY", "CLUSTER", "LEFT", last], rows, None);
        }
    }
}

fn list<'d>(document: &'d Value, member: &str) -> &'d [Value] {
    document[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

const CIRCUIT: [&str; 12] = [
    "SERVICE",
    "SUBSET",
    "SCOPE",
    "STATE",
    "SINCE",
    "ERROR%",
    "REQUESTS",
    "THRESHOLD",
    "NEXT-PROBE",
    "PROXY",
    "NAME",
    "WHY",
];

fn circuit(told: &Value) -> Vec<String> {
    let text =
        |value: &Value| value.as_str().map(plain).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let mut scope = text(&told["scope"]);
    if let Some(endpoint) = told["endpoint"]["name"].as_str() {
        scope = format!("{scope} {}", plain(endpoint));
    }
    let mut why = told["why"].as_str().map(plain).unwrap_or_default();
    if let Some(by) = told["override"]["by"].as_str() {
        why = format!("{why} by={}", plain(by));
    }
    vec![
        format!("{}.{}", text(&told["service"]), text(&told["namespace"])),
        text(&told["subset"]),
        scope,
        text(&told["state"]),
        told["since_seconds"].as_f64().map(time).unwrap_or_default(),
        told["error_ratio"].as_f64().map(|ratio| format!("{:.1}", ratio * 100.0)).unwrap_or_default(),
        number(&told["requests"]),
        threshold(&told["thresholds"]),
        told["next_probe_seconds"].as_f64().map_or_else(|| "-".to_owned(), time),
        text(&told["proxy"]),
        text(&told["name"]),
        why,
    ]
}

/// `50% of 20`, `7 in a row`, or both.
fn threshold(told: &Value) -> String {
    let share = told["error_ratio"].as_f64().map(|ratio| (ratio * 100.0).round());
    let share = share.zip(told["requests"].as_u64()).map(|(percent, requests)| format!("{percent}% of {requests}"));
    let in_row = told["consecutive_failures"].as_u64().map(|failures| format!("{failures} in a row"));
    let both: Vec<String> = share.into_iter().chain(in_row).collect();
    if both.is_empty() { "-".to_owned() } else { both.join(" or ") }
}

/// An endpoint that is out.
fn out(told: &Value, last: &str) -> Vec<String> {
    let text = |member: &str| told[member].as_str().map_or_else(|| "-".to_owned(), plain);
    let left = told["seconds_left"].as_f64().map(time).unwrap_or_default();
    vec![text("endpoint"), text("address"), text("proxy"), text("cluster"), left, text(last)]
}

/// `3.2s`, `4m05s`, `2h10m`, `3d04h`.
fn time(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Prints aligned columns; the one of states in colour.
fn table(titles: &[&str], rows: Vec<Vec<String>>, coloured: Option<usize>) {
    let mut widths: Vec<usize> = titles.iter().map(|title| title.len()).collect();
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    for (at, row) in [titles].into_iter().chain(rows).enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padded = format!("{cell:width$}");
            match colour(cell).filter(|_| at > 0 && coloured == Some(column)) {
                Some(colour) => line.push_str(&format!("\x1b[{colour}m{padded}\x1b[0m  ")),
                None => line.push_str(&format!("{padded}  ")),
            }
        }
        print_line(line.trim_end());
    }
}

fn colour(state: &str) -> Option<u8> {
    match state {
        "open" | "forced_open" => Some(31),
        "half_open" | "disabled" => Some(33),
        "closed" => Some(32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_what_matters_at_night() {
        let told = json!({
            "name": "cart.shop.svc.cluster.local:80", "proxy": "main", "service": "cart", "namespace": "shop", "subset": "",
            "scope": "service", "endpoint": null, "state": "open", "since_seconds": 192.4, "error_ratio": 0.62,
            "requests": 34, "thresholds": { "error_ratio": 0.5, "requests": 20, "consecutive_failures": null },
            "next_probe_seconds": 3.2, "why": "error_rate=0.62>=0.50 retry_in=3.2s", "override": { "by": "a\x1bnn" },
        });
        let row = circuit(&told).join("|");
        let expected = "cart.shop|-|service|open|3m12s|62.0|34|50% of 20|3.2s|main|cart.shop.svc.cluster.local:80|\
                        error_rate=0.62>=0.50 retry_in=3.2s by=a\u{fffd}nn";
        assert_eq!(row, expected);
        assert!(is_shut(&told) && !is_shut(&json!({ "state": "disabled" })));
        let of_endpoint = json!({ "scope": "endpoint", "endpoint": { "name": "cart-0" }, "thresholds": { "consecutive_failures": 7 } });
        let row = circuit(&of_endpoint);
        assert_eq!((row[2].as_str(), row[7].as_str(), row[8].as_str()), ("endpoint cart-0", "7 in a row", "-"));
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in
            [(0.0, "0.0s"), (59.94, "59.9s"), (60.0, "1m00s"), (7805.0, "2h10m"), (273_600.0, "3d04h")]
        {
            assert_eq!(time(seconds), text);
        }
    }
}
