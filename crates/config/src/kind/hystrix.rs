//! The properties of Hystrix commands: one table for the kind `CircuitBreaker`, which has them as nested fields, and for
//! annotation `outrigger.dev/hystrix`, which has them as lines (`hystrix_lines`).
//!
//! Names, bounds and defaults stand in [`PROPERTIES`] alone. Hystrix runs commands on threads of the application; what it
//! says of these threads has no meaning for a proxy, and is reported instead of being passed over.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_model::HystrixRule;

use crate::codes;
use crate::decode::{Cx, Fields, Problem, list};
use crate::node::{Node, Pos, Spanned};
use crate::scalar;

/// A property.
#[derive(Debug)]
pub struct Property {
    /// Its name, without `hystrix.command.KEY.` in front.
    pub name: &'static str,
    /// What values it takes.
    pub takes: Takes,
    /// What holds without it, as docs/circuit-breakers.md says it.
    pub default: &'static str,
    /// Why it has no effect here; empty where it has.
    pub without_meaning: &'static str,
}

/// The values of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `true` and `false`.
    Truth,
    /// Integers from one to another.
    Number(i64, i64),
    /// `THREAD` and `SEMAPHORE`.
    Strategy,
}

/// A value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Of [`Takes::Truth`].
    Truth(bool),
    /// Of [`Takes::Number`].
    Number(i64),
    /// Of [`Takes::Strategy`]: whether it is `SEMAPHORE`.
    Semaphore(bool),
}

const STRATEGIES: [&str; 2] = ["THREAD", "SEMAPHORE"];

impl Takes {
    /// The value in a text.
    pub fn parse(self, text: &str) -> Option<Given> {
        match (self, text) {
            // As Archaius reads them, whatever their case.
            (Self::Truth, _) if text.eq_ignore_ascii_case("true") => Some(Given::Truth(true)),
            (Self::Truth, _) if text.eq_ignore_ascii_case("false") => Some(Given::Truth(false)),
            (Self::Strategy, "THREAD") => Some(Given::Semaphore(false)),
            (Self::Strategy, "SEMAPHORE") => Some(Given::Semaphore(true)),
            (Self::Number(from, to), _) => {
                text.parse().ok().filter(|number| (from..=to).contains(number)).map(Given::Number)
            }
            (Self::Truth | Self::Strategy, _) => None,
        }
    }

    /// What is expected, for messages.
    pub fn expected(self) -> String {
        match self {
            Self::Truth => "`true` or `false`".to_owned(),
            Self::Number(from, to) => format!("an integer from {from} to {to}"),
            Self::Strategy => format!("one of {}", list(&STRATEGIES)),
        }
    }

    fn read(self, node: &Node<'_>, cx: &mut Cx) -> Option<Given> {
        match self {
            Self::Truth => <bool as crate::decode::Decode>::decode(node, cx).map(Given::Truth),
            Self::Number(from, to) => scalar::int_in(node, cx, from..=to).map(Given::Number),
            Self::Strategy => {
                let choices = [(STRATEGIES[0], None, false), (STRATEGIES[1], None, true)];
                scalar::choice(node, cx, &choices).map(Given::Semaphore)
            }
        }
    }
}

/// A day: longer times are mistakes of the unit.
const MILLISECONDS_MAX: i64 = 86_400_000;
/// Ten minutes: a longer window answers no question about now.
const WINDOW_MILLISECONDS_MAX: i64 = 600_000;
const COUNT_MAX: i64 = i32::MAX as i64;
/// Parts of a window at most, whoever cuts it: each circuit holds as many counters.
pub const PARTS_MAX: i64 = 600;

const THREADS: &str = "a proxy has no thread for each command";
const PERCENTILES: &str = "latencies are histograms of the metrics, which need no window";
const PER_REQUEST: &str = "it is about caches and logs inside the application";

/// `circuitBreaker.enabled`.
pub const ENABLED: &str = "circuitBreaker.enabled";
/// `circuitBreaker.requestVolumeThreshold`.
pub const VOLUME: &str = "circuitBreaker.requestVolumeThreshold";
/// `circuitBreaker.sleepWindowInMilliseconds`.
pub const SLEEP: &str = "circuitBreaker.sleepWindowInMilliseconds";
/// `circuitBreaker.errorThresholdPercentage`.
pub const PERCENT: &str = "circuitBreaker.errorThresholdPercentage";
/// `circuitBreaker.forceOpen`.
pub const FORCE_OPEN: &str = "circuitBreaker.forceOpen";
/// `circuitBreaker.forceClosed`.
pub const FORCE_CLOSED: &str = "circuitBreaker.forceClosed";
/// `execution.isolation.strategy`.
pub const STRATEGY: &str = "execution.isolation.strategy";
/// `execution.isolation.semaphore.maxConcurrentRequests`.
pub const CONCURRENT: &str = "execution.isolation.semaphore.maxConcurrentRequests";
/// `execution.isolation.thread.timeoutInMilliseconds`.
pub const TIMEOUT: &str = "execution.isolation.thread.timeoutInMilliseconds";
/// `execution.timeout.enabled`.
pub const TIMEOUT_ENABLED: &str = "execution.timeout.enabled";
/// `metrics.rollingStats.timeInMilliseconds`.
pub const WINDOW: &str = "metrics.rollingStats.timeInMilliseconds";
/// `metrics.rollingStats.numBuckets`.
pub const BUCKETS: &str = "metrics.rollingStats.numBuckets";
/// `metrics.healthSnapshot.intervalInMilliseconds`.
pub const HEALTH: &str = "metrics.healthSnapshot.intervalInMilliseconds";
/// `fallback.enabled`.
pub const FALLBACK_ENABLED: &str = "fallback.enabled";
/// `fallback.isolation.semaphore.maxConcurrentRequests`.
pub const FALLBACKS: &str = "fallback.isolation.semaphore.maxConcurrentRequests";

const fn obeyed(name: &'static str, takes: Takes, default: &'static str) -> Property {
    Property { name, takes, default, without_meaning: "" }
}

const fn passed_over(name: &'static str, takes: Takes, why: &'static str) -> Property {
    Property { name, takes, default: "", without_meaning: why }
}

/// Every property of a command.
pub const PROPERTIES: &[Property] = &[
    obeyed(ENABLED, Takes::Truth, "true"),
    obeyed(VOLUME, Takes::Number(1, COUNT_MAX), "20"),
    obeyed(SLEEP, Takes::Number(0, MILLISECONDS_MAX), "5000"),
    obeyed(PERCENT, Takes::Number(1, 100), "50"),
    obeyed(FORCE_OPEN, Takes::Truth, "false"),
    obeyed(FORCE_CLOSED, Takes::Truth, "false"),
    obeyed(STRATEGY, Takes::Strategy, "none"),
    obeyed(CONCURRENT, Takes::Number(1, COUNT_MAX), "no limit"),
    obeyed(TIMEOUT, Takes::Number(1, MILLISECONDS_MAX), "no limit"),
    obeyed(TIMEOUT_ENABLED, Takes::Truth, "true where a time is stated"),
    obeyed(WINDOW, Takes::Number(100, WINDOW_MILLISECONDS_MAX), "10000"),
    obeyed(BUCKETS, Takes::Number(1, PARTS_MAX), "10"),
    obeyed(HEALTH, Takes::Number(10, WINDOW_MILLISECONDS_MAX), "500"),
    obeyed(FALLBACK_ENABLED, Takes::Truth, "true"),
    obeyed(FALLBACKS, Takes::Number(1, COUNT_MAX), "10"),
    passed_over("execution.isolation.thread.interruptOnTimeout", Takes::Truth, THREADS),
    passed_over("execution.isolation.thread.interruptOnFutureCancel", Takes::Truth, THREADS),
    passed_over("metrics.rollingPercentile.enabled", Takes::Truth, PERCENTILES),
    passed_over("metrics.rollingPercentile.timeInMilliseconds", Takes::Number(0, COUNT_MAX), PERCENTILES),
    passed_over("metrics.rollingPercentile.numBuckets", Takes::Number(0, COUNT_MAX), PERCENTILES),
    passed_over("metrics.rollingPercentile.bucketSize", Takes::Number(0, COUNT_MAX), PERCENTILES),
    passed_over("requestCache.enabled", Takes::Truth, PER_REQUEST),
    passed_over("requestLog.enabled", Takes::Truth, PER_REQUEST),
];

/// What is given of the properties, by name, each with its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(BTreeMap<&'static str, Spanned<Given>>);

impl Settings {
    /// Takes a value; that of before.
    pub fn set(&mut self, name: &'static str, given: Given, pos: Pos) -> Option<Spanned<Given>> {
        self.0.insert(name, Spanned { value: given, pos })
    }

    /// These, and over them others.
    pub fn under(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Where a property stands.
    pub fn place(&self, name: &str) -> Option<Pos> {
        self.0.get(name).map(|given| given.pos)
    }

    fn truth(&self, name: &str) -> Option<bool> {
        match self.0.get(name)?.value {
            Given::Truth(truth) => Some(truth),
            Given::Number(_) | Given::Semaphore(_) => None,
        }
    }

    fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.0.get(name)?.value {
            Given::Number(number) => T::try_from(number).ok(),
            Given::Truth(_) | Given::Semaphore(_) => None,
        }
    }

    fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// Whether the strategy is `SEMAPHORE`; `None` where none is given.
    fn is_semaphore(&self) -> Option<bool> {
        match self.0.get(STRATEGY)?.value {
            Given::Semaphore(semaphore) => Some(semaphore),
            Given::Truth(_) | Given::Number(_) => None,
        }
    }

    /// Whether fallbacks are on.
    pub fn has_fallback(&self) -> bool {
        self.truth(FALLBACK_ENABLED).unwrap_or(true)
    }

    /// Fallbacks at once.
    pub fn fallbacks_max(&self) -> u32 {
        self.number(FALLBACKS).unwrap_or(10)
    }

    /// The rule, with Hystrix's defaults; but time and number of calls have a limit only where one is stated.
    pub fn rule(&self) -> HystrixRule {
        let default = HystrixRule::default();
        let truth = |name, default| self.truth(name).unwrap_or(default);
        let concurrent_max = match self.is_semaphore() {
            Some(true) => self.number(CONCURRENT).or(Some(10)),
            Some(false) => None,
            None => self.number(CONCURRENT),
        };
        let timeout = match self.truth(TIMEOUT_ENABLED) {
            Some(true) => self.millis(TIMEOUT).or(Some(Duration::from_secs(1))),
            Some(false) => None,
            None => self.millis(TIMEOUT),
        };
        HystrixRule {
            enabled: truth(ENABLED, default.enabled),
            volume_threshold: self.number(VOLUME).unwrap_or(default.volume_threshold),
            error_threshold_percent: self.number(PERCENT).unwrap_or(default.error_threshold_percent),
            sleep_window: self.millis(SLEEP).unwrap_or(default.sleep_window),
            force_open: truth(FORCE_OPEN, default.force_open),
            force_closed: truth(FORCE_CLOSED, default.force_closed),
            window: self.millis(WINDOW).unwrap_or(default.window),
            buckets: self.number(BUCKETS).unwrap_or(default.buckets),
            health_interval: self.millis(HEALTH).unwrap_or(default.health_interval),
            concurrent_max,
            timeout,
            slow_call: default.slow_call,
            failures: default.failures,
        }
    }

    /// Values that do not go together, each where it stands. None has an error on its own.
    pub fn review(&self, out: &mut Vec<Problem>) {
        self.review_windows(out);
        let no_effect = |name: &str, message: String, hint: &str, out: &mut Vec<Problem>| {
            let Some(pos) = self.place(name) else { return };
            out.push(Problem { code: codes::NO_EFFECT, pos, message, hint: hint.to_owned() });
        };
        if self.truth(FORCE_OPEN) == Some(true) && self.truth(FORCE_CLOSED) == Some(true) {
            let message = format!("{FORCE_CLOSED} has no effect: {FORCE_OPEN} wins");
            no_effect(FORCE_CLOSED, message, "remove one of the two", out);
        }
        if self.truth(TIMEOUT_ENABLED) == Some(false) {
            let message = format!("{TIMEOUT} has no effect: {TIMEOUT_ENABLED} is false");
            no_effect(TIMEOUT, message, "remove one of the two", out);
        }
        if self.is_semaphore() == Some(false) {
            let message = format!("{CONCURRENT} has no effect: {STRATEGY} is THREAD");
            no_effect(CONCURRENT, message, "remove the strategy, or write SEMAPHORE", out);
        }
    }

    fn review_windows(&self, out: &mut Vec<Problem>) {
        let rule = self.rule();
        let window = rule.window.as_millis();
        let buckets = u128::from(rule.buckets);
        let health = rule.health_interval.as_millis();
        let mut fail = |names: &[&str], message: String, hint: String| {
            let pos = names.iter().find_map(|name| self.place(name)).unwrap_or_default();
            out.push(Problem { code: codes::SCHEMA, pos, message, hint });
        };
        if !window.is_multiple_of(buckets) {
            let fits = (1..=buckets).rev().find(|count| window.is_multiple_of(*count)).unwrap_or(1);
            let message =
                format!("found {BUCKETS} {buckets}, expected a number that divides {WINDOW}, which is {window}");
            fail(&[BUCKETS, WINDOW], message, format!("write {fits}, or another window"));
        }
        if health > window {
            let message = format!(
                "found {HEALTH} {health}, expected at most {WINDOW}, which is {window}: no part of the window would ever be complete"
            );
            fail(&[HEALTH, WINDOW], message, "Hystrix's default is 500 of 10000".to_owned());
        } else if window / health > PARTS_MAX as u128 {
            let least = window.div_ceil(PARTS_MAX as u128);
            let message = format!(
                "found {HEALTH} {health}, which cuts {WINDOW}, {window}, into {} parts, expected at most {PARTS_MAX}",
                window / health
            );
            fail(&[HEALTH, WINDOW], message, format!("write at least {least}"));
        }
    }

    /// Reads the fields below a part of the names, such as `circuitBreaker`; the caller reports what nobody asked for.
    pub fn read(&mut self, prefix: &str, fields: &mut Fields<'_, '_>, cx: &mut Cx) {
        for field in below(prefix) {
            let Some(node) = fields.node(field) else { continue };
            let name = format!("{prefix}.{field}");
            cx.within(field, |cx| match PROPERTIES.iter().find(|property| property.name == name) {
                Some(property) => self.read_one(property, node, cx),
                None => {
                    let Some(mut inner) = Fields::of(node, cx) else { return };
                    self.read(&name, &mut inner, cx);
                    inner.finish(cx);
                }
            });
        }
    }

    fn read_one(&mut self, property: &Property, node: &Node<'_>, cx: &mut Cx) {
        let Some(given) = property.takes.read(node, cx) else { return };
        if property.without_meaning.is_empty() {
            self.set(property.name, given, node.pos);
        } else {
            let message = format!("has no effect: {}", property.without_meaning);
            cx.report(codes::NO_EFFECT, node.pos, message, "remove it");
        }
    }
}

/// What values a property takes.
pub fn takes(name: &str) -> Option<Takes> {
    PROPERTIES.iter().find(|property| property.name == name).map(|property| property.takes)
}

/// The fields below a part of the names, each once.
pub fn below(prefix: &str) -> Vec<&'static str> {
    let mut fields: Vec<&'static str> = Vec::new();
    for property in PROPERTIES {
        let rest = property.name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let Some(field) = rest.and_then(|rest| rest.split('.').next()) else { continue };
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_stands_in_the_documentation_with_its_default() {
        let text = include_str!("../../../../docs/circuit-breakers.md");
        for property in PROPERTIES.iter().filter(|property| property.without_meaning.is_empty()) {
            let row = format!("| `{}` | {} |", property.name, property.default);
            assert!(text.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_nobody_states_is_hystrixs_default() {
        let rule = Settings::default().rule();
        assert_eq!(rule, HystrixRule::default());
        for property in PROPERTIES.iter().filter(|property| property.without_meaning.is_empty()) {
            // Where the default is a value, stating it changes nothing.
            let Some(given) = property.takes.parse(property.default) else { continue };
            let mut settings = Settings::default();
            settings.set(property.name, given, Pos::default());
            assert_eq!(settings.rule(), rule, "{}", property.name);
            assert_eq!((settings.has_fallback(), settings.fallbacks_max()), (true, 10), "{}", property.name);
        }
    }
}
