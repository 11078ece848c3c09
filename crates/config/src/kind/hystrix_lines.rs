//! Annotation `outrigger.dev/hystrix`: properties of Hystrix as an application has them in its properties file.
//!
//! A line is `NAME=VALUE`. A name stands alone, or behind `hystrix.command.default.` or `hystrix.command.KEY.`, where KEY is
//! the name of the service; what is said of the service wins over the default. One value that is not legal takes the whole
//! annotation out of force, as it does with an object.

use super::hystrix::{Given, PROPERTIES, Property, Settings};
use crate::codes;
use crate::decode::{Problem, clip, nearest};
use crate::node::Pos;

/// The annotation.
pub const ANNOTATION: &str = "outrigger.dev/hystrix";

const COMMAND: &str = "hystrix.command.";

/// Bytes of an annotation at most: every property, for several keys, with comments.
const BYTES_MAX: usize = 16 * 1024;

/// Reads the annotation of a service with this name. `None`: it is not in force, and `out` says why.
pub fn read(text: &str, pos: Pos, service: &str, out: &mut Vec<Problem>) -> Option<Settings> {
    let mut lines = Lines { service, pos, several: text.contains('\n'), errors: 0, out };
    if text.len() > BYTES_MAX {
        lines.report(0, codes::SCHEMA, format!("found {} bytes, expected at most {BYTES_MAX}", text.len()), "");
        return None;
    }
    let (mut general, mut own) = (Settings::default(), Settings::default());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let Some((of_default, property, given)) = lines.one(index, line) else { continue };
        let settings = if of_default { &mut general } else { &mut own };
        let place = lines.place(index);
        if settings.set(property.name, given, place).is_some() {
            let message = format!("{} stands there twice: the last value counts", property.name);
            lines.report(index, codes::NO_EFFECT, message, "remove one of the two");
        }
    }
    let legal = lines.errors == 0;
    let settings = general.under(own);
    let before = out.len();
    if legal {
        settings.review(out);
    }
    let wrong = out[before..].iter().any(|problem| problem.code == codes::SCHEMA);
    for problem in &mut out[before..] {
        problem.message = format!("{ANNOTATION}: {}", problem.message);
    }
    (legal && !wrong).then_some(settings)
}

struct Lines<'l> {
    service: &'l str,
    pos: Pos,
    several: bool,
    errors: usize,
    out: &'l mut Vec<Problem>,
}

impl Lines<'_> {
    fn report(&mut self, index: usize, code: &'static codes::CodeInfo, message: String, hint: impl Into<String>) {
        self.errors += usize::from(code.level == outrigger_model::Level::Error);
        let line = if self.several { format!(" line {}:", index + 1) } else { String::new() };
        let message = format!("{ANNOTATION}:{line} {message}");
        self.out.push(Problem { code, pos: self.place(index), message, hint: hint.into() });
    }

    /// Where a line stands: a text of several is a block, whose place is that of its first line.
    fn place(&self, index: usize) -> Pos {
        let below = if self.several { u32::try_from(index).unwrap_or(0) } else { 0 };
        Pos { line: self.pos.line + below, ..self.pos }
    }

    /// A line: whether it is of the default, the property, and its value. `None`: without effect, and reported.
    fn one(&mut self, index: usize, line: &str) -> Option<(bool, &'static Property, Given)> {
        let Some((name, value)) = line.split_once(['=', ':']) else {
            let message = format!("found {:?}, expected NAME=VALUE", clip(line));
            self.report(index, codes::SCHEMA, message, "such as circuitBreaker.requestVolumeThreshold=20");
            return None;
        };
        let (name, value) = (name.trim(), value.trim());
        let (of_default, name) = self.of_this_service(index, name)?;
        let Some(property) = PROPERTIES.iter().find(|property| property.name == name) else {
            self.unknown(index, name);
            return None;
        };
        let Some(given) = property.takes.parse(value) else {
            let message = format!("{name}: found {:?}, expected {}", clip(value), property.takes.expected());
            self.report(index, codes::SCHEMA, message, "");
            return None;
        };
        let why = match property.without_meaning {
            "" if name.starts_with("fallback.") => "an annotation has no fallback; a CircuitBreaker can have one",
            why => why,
        };
        if !why.is_empty() {
            self.report(index, codes::NO_EFFECT, format!("{name} has no effect: {why}"), "remove the line");
            return None;
        }
        Some((of_default, property, given))
    }

    /// The name without the part that says which command it is of, and whether it is of the default.
    fn of_this_service<'n>(&mut self, index: usize, name: &'n str) -> Option<(bool, &'n str)> {
        for (prefix, what) in [("hystrix.threadpool.", "thread pools"), ("hystrix.collapser.", "collapsers")] {
            if name.starts_with(prefix) {
                let message = format!("{} has no effect: a proxy has no {what}", clip(name));
                self.report(index, codes::NO_EFFECT, message, "remove the line");
                return None;
            }
        }
        let Some(rest) = name.strip_prefix(COMMAND) else { return Some((false, name)) };
        let of = |key: &str| rest.strip_prefix(key).and_then(|rest| rest.strip_prefix('.'));
        if let Some(name) = of("default") {
            return Some((true, name));
        }
        if let Some(name) = of(self.service) {
            return Some((false, name));
        }
        let key = rest.split('.').next().unwrap_or_default();
        let message = format!("{} has no effect: it is for command {:?}", clip(name), clip(key));
        let hint = format!("the command of this service is `{}`; or write `default`", self.service);
        self.report(index, codes::NO_EFFECT, message, hint);
        None
    }

    fn unknown(&mut self, index: usize, name: &str) {
        let names: Vec<&str> = PROPERTIES.iter().map(|property| property.name).collect();
        let hint = nearest(name, &names).map_or_else(
            || "the names are those of Hystrix's command properties".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        self.report(index, codes::UNKNOWN_FIELD, format!("unknown property {:?}", clip(name)), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_service_wins_over_the_default() {
        let text = "# of the application\n\
            hystrix.command.cart.circuitBreaker.requestVolumeThreshold = 5\n\
            hystrix.command.default.circuitBreaker.requestVolumeThreshold=50\n\
            hystrix.command.default.circuitBreaker.errorThresholdPercentage: 25\n\
            circuitBreaker.forceClosed=TRUE\n";
        let mut problems = Vec::new();
        let rule = read(text, Pos::default(), "cart", &mut problems).expect("it is legal").rule();
        assert_eq!(problems, []);
        assert_eq!((rule.volume_threshold, rule.error_threshold_percent, rule.force_closed), (5, 25, true));
        assert_eq!(rule.sleep_window, std::time::Duration::from_secs(5));
    }

    #[test]
    fn every_property_is_known_by_each_of_its_names() {
        for property in PROPERTIES {
            for prefix in ["", "hystrix.command.default.", "hystrix.command.a.b."] {
                let mut problems = Vec::new();
                let mut lines =
                    Lines { service: "a.b", pos: Pos::default(), several: false, errors: 0, out: &mut problems };
                let found =
                    lines.of_this_service(0, &format!("{prefix}{}", property.name)).map(|(_, name)| name.to_owned());
                assert_eq!(found.as_deref(), Some(property.name), "{prefix}");
                assert_eq!(problems, []);
            }
        }
    }
}
