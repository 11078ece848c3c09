//! Which format a scraper gets, by its `Accept` and `Accept-Encoding` headers (RFC 9110 §12.5).
//!
//! A scrape is never refused for its headers: what cannot be read or met gets text, as every exporter does.

use super::Format;

/// The format asked for with the highest `q`; at equal `q` protobuf, then OpenMetrics, then text. `*/*` asks for text.
pub fn negotiate(accept: Option<&str>) -> Format {
    let mut best = (0, 0, Format::Text);
    for range in accept.unwrap_or_default().split(',') {
        let Some((quality, rank, format)) = read_range(range) else { continue };
        if (quality, rank) > (best.0, best.1) {
            best = (quality, rank, format);
        }
    }
    best.2
}

/// Whether the answer may be compressed with gzip.
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let mut any = false;
    for item in accept_encoding.unwrap_or_default().split(',') {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let allowed = quality(parts) > 0;
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return allowed;
        }
        any |= coding == "*" && allowed;
    }
    any
}

/// Quality in thousandths, preference, format; `None` for what we do not offer or the client does not want.
fn read_range(range: &str) -> Option<(u32, u32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters: Vec<&str> = parts.collect();
    let quality = quality(parameters.iter().copied());
    if quality == 0 {
        return None;
    }
    let version = parameter(&parameters, "version");
    let (rank, format) = match (&*media, version) {
        ("application/vnd.google.protobuf", _) => {
            let proto = parameter(&parameters, "proto")?;
            let encoding = parameter(&parameters, "encoding")?;
            let ours = proto == "io.prometheus.client.MetricFamily" && encoding.eq_ignore_ascii_case("delimited");
            (3, ours.then_some(Format::Protobuf)?)
        }
        ("application/openmetrics-text", Some("1.0.0")) => (2, Format::OpenMetrics1),
        ("application/openmetrics-text", Some("0.0.1") | None) => (2, Format::OpenMetrics0),
        ("text/plain", Some("0.0.4") | None) | ("text/*" | "*/*", _) => (1, Format::Text),
        _ => return None,
    };
    Some((quality, rank, format))
}

fn parameter<'a>(parameters: &[&'a str], name: &str) -> Option<&'a str> {
    parameters.iter().find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// `q` in thousandths, 1000 without one, 0 where it cannot be read.
fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> u32 {
    let parameters: Vec<&str> = parameters.collect();
    let Some(text) = parameter(&parameters, "q") else { return 1000 };
    match text.parse::<f64>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0).round() as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_follow_the_scraper() {
        use Format::{OpenMetrics0, OpenMetrics1, Protobuf, Text};
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, expected) in [
            (String::new(), Text),
            ("*/*".into(), Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8".into(), Text),
            // Prometheus 2.42, without and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                    .into(),
                OpenMetrics1,
            ),
            (
                format!(
                    "{proto},application/openmetrics-text;version=1.0.0;q=0.8,\
                     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Protobuf,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;\
                 escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
                    .into(),
                OpenMetrics1,
            ),
            ("application/openmetrics-text; version=0.0.1, text/plain;version=0.0.4;q=0.5".into(), OpenMetrics0),
            ("application/openmetrics-text".into(), OpenMetrics0),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1".into(), Text),
            ("text/plain;version=1.0.0, application/openmetrics-text;version=1.0.0;q=0.1".into(), OpenMetrics1),
            (format!("{proto};q=0.4, text/plain;q=0.9"), Text),
            (format!("text/plain, {proto}"), Protobuf),
            (format!("{proto};q=0, text/plain;q=0.1"), Text),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text".into(), Text),
            ("application/openmetrics-text;version=1.0.0;q=banana".into(), Text),
            (";;;,,==,q=1".into(), Text),
            ("APPLICATION/OPENMETRICS-TEXT; VERSION=\"1.0.0\"; Q=0.5".into(), OpenMetrics1),
        ] {
            assert_eq!(negotiate(Some(&accept)), expected, "{accept}");
        }
        assert_eq!(negotiate(None), Text);
    }

    #[test]
    fn gzip_only_when_accepted() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("br", false),
        ] {
            assert_eq!(accepts_gzip(Some(accept)), expected, "{accept}");
        }
        assert!(!accepts_gzip(None));
    }
}
