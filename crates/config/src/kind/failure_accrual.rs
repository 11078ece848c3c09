//! Linkerd's annotations of a Service that say when an endpoint gets no requests: `balancer.linkerd.io/failure-accrual` and
//! what belongs to it, with Linkerd's values, limits and defaults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{BreakerRule, ConsecutiveRule, Level, SuccessWindow};

use super::linkerd;
use crate::codes::{self, CodeInfo};
use crate::decode::{Problem, clip, list, nearest};
use crate::node::{Pos, Spanned};

/// The annotation that turns it on.
pub const ANNOTATION: &str = "balancer.linkerd.io/failure-accrual";

const FAILURES_MAX: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
const PENALTY_MIN: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
const PENALTY_MAX: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
const JITTER: &str = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";
const THRESHOLD: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold";
const WINDOW: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-window";
const REQUESTS_MIN: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests";

const CONSECUTIVE: [&str; 4] = [FAILURES_MAX, PENALTY_MIN, PENALTY_MAX, JITTER];
const SUCCESS_RATE: [&str; 3] = [THRESHOLD, WINDOW, REQUESTS_MIN];
/// What Linkerd has and this proxy does not.
const NOT_SUPPORTED: [&str; 4] = [
    "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after",
    "balancer.alpha.linkerd.io/penalize-failures",
    "balancer.alpha.linkerd.io/load-biaser-penalty",
    "balancer.alpha.linkerd.io/load-biaser-max-retry-after",
];
const MODES: [&str; 2] = ["consecutive", "unified"];

/// An object's annotations.
pub type Annotations = BTreeMap<Arc<str>, Spanned<Arc<str>>>;

/// Whether there is anything to read.
pub fn is_given(annotations: &Annotations) -> bool {
    annotations.keys().any(|key| is_ours(key))
}

fn is_ours(key: &str) -> bool {
    key.starts_with("balancer.linkerd.io/") || key.starts_with("balancer.alpha.linkerd.io/")
}

/// Reads the annotations. `None`: there is no breaker; `out` says why where one was asked for. As in Linkerd, one value that
/// is not legal takes all of them out of force.
pub fn read(annotations: &Annotations, out: &mut Vec<Problem>) -> Option<BreakerRule> {
    let mut reader = Reader { annotations, errors: 0, out };
    reader.review_names();
    let mode = reader.text(ANNOTATION);
    let mode = match mode {
        None => {
            reader.without_effect(&[&CONSECUTIVE[..], &SUCCESS_RATE], &format!("{ANNOTATION} is not there"));
            return None;
        }
        Some((text, pos)) => MODES.into_iter().find(|mode| *mode == text).or_else(|| {
            let hint = nearest(text, &MODES).map_or(String::new(), |near| format!("did you mean `{near}`?"));
            let message = format!("found {:?}, expected one of {}", clip(text), list(&MODES));
            reader.report(codes::SCHEMA, ANNOTATION, pos, message, hint);
            None
        })?,
    };
    let unified = mode == MODES[1];
    let consecutive = reader.consecutive(u32::from(!unified));
    if !unified {
        reader.without_effect(&[&SUCCESS_RATE], "it belongs to mode `unified`");
    }
    let success = unified.then(|| reader.success_rate()).flatten();
    if reader.errors > 0 {
        return None;
    }
    match (consecutive?, success) {
        (rule, None) => Some(BreakerRule::Consecutive(rule)),
        (rule, Some(success)) if rule.failures_max == 0 && success.threshold == 0.0 => {
            let (_, pos) = reader.text(ANNOTATION)?;
            let message = "both halves of it are off, so nothing ever opens".to_owned();
            reader.report(codes::NO_EFFECT, ANNOTATION, pos, message, "remove the annotations".to_owned());
            None
        }
        (rule, Some(success)) => Some(BreakerRule::Unified(rule, success)),
    }
}

struct Reader<'r> {
    annotations: &'r Annotations,
    errors: usize,
    out: &'r mut Vec<Problem>,
}

impl<'r> Reader<'r> {
    fn report(&mut self, code: &'static CodeInfo, name: &str, pos: Pos, message: String, hint: String) {
        self.errors += usize::from(code.level == Level::Error);
        self.out.push(Problem { code, pos, message: format!("{name}: {message}"), hint });
    }

    fn text(&self, name: &str) -> Option<(&'r str, Pos)> {
        self.annotations.get(name).map(|text| (text.value.trim(), text.pos))
    }

    /// Names that are not known, and those of what is not supported.
    fn review_names(&mut self) {
        let known: Vec<&str> =
            [ANNOTATION].into_iter().chain(CONSECUTIVE).chain(SUCCESS_RATE).chain(NOT_SUPPORTED).collect();
        for (name, value) in self.annotations.iter().filter(|(name, _)| is_ours(name)) {
            let off = ["0", "f", "F", "false", "FALSE", "False"].contains(&value.value.trim());
            if NOT_SUPPORTED.contains(&&**name) && !off {
                let message = "understood, but not supported: endpoints get requests as if it were absent".to_owned();
                self.report(codes::NOT_ENFORCED, name, value.pos, message, "remove it".to_owned());
            } else if !known.contains(&&**name) {
                let hint = nearest(name, &known).map_or(String::new(), |near| format!("did you mean `{near}`?"));
                self.report(codes::UNKNOWN_FIELD, name, value.pos, "unknown annotation of Linkerd".to_owned(), hint);
            }
        }
    }

    fn without_effect(&mut self, groups: &[&[&str]], why: &str) {
        for name in groups.iter().copied().flatten() {
            if let Some((_, pos)) = self.text(name) {
                self.report(codes::NO_EFFECT, name, pos, format!("has no effect: {why}"), String::new());
            }
        }
    }

    /// A value by a parser, or the default. `None`: reported.
    fn value<T>(&mut self, name: &str, default: T, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let Some((text, pos)) = self.text(name) else { return Some(default) };
        let value = parse(text);
        if value.is_none() {
            let message = format!("found {:?}, expected {expected}", clip(text));
            self.report(codes::SCHEMA, name, pos, message, String::new());
        }
        value
    }

    fn consecutive(&mut self, least: u32) -> Option<ConsecutiveRule> {
        let default = ConsecutiveRule::default();
        let expected = format!("an integer of at least {least}");
        let number = |text: &str| text.parse().ok().filter(|number| *number >= least);
        let failures_max = self.value(FAILURES_MAX, default.failures_max, &expected, number);
        let penalty_min = self.value(PENALTY_MIN, default.penalty_min, DURATION, duration);
        let penalty_max = self.value(PENALTY_MAX, default.penalty_max, DURATION, duration);
        let ratio = |text: &str| text.parse().ok().filter(|ratio| (0.0..=100.0).contains(ratio));
        let jitter_ratio = self.value(JITTER, default.jitter_ratio, "a number from 0 to 100", ratio);
        let (penalty_min, penalty_max) = (penalty_min?, penalty_max?);
        // Where both are defaults they are in order, so that one of them has a place.
        let place = self.text(PENALTY_MAX).or_else(|| self.text(PENALTY_MIN));
        let wrong = if penalty_max.is_zero() {
            Some(format!("found {penalty_max:?}, expected a time above zero"))
        } else if penalty_min > penalty_max {
            Some(format!("found a least penalty of {penalty_min:?} above the longest, {penalty_max:?}"))
        } else {
            None
        };
        if let (Some(message), Some((_, pos))) = (wrong, place) {
            let name = if self.text(PENALTY_MAX).is_some() { PENALTY_MAX } else { PENALTY_MIN };
            self.report(codes::SCHEMA, name, pos, message, "the longest is 60s when absent".to_owned());
        }
        Some(ConsecutiveRule { failures_max: failures_max?, penalty_min, penalty_max, jitter_ratio: jitter_ratio? })
    }

    fn success_rate(&mut self) -> Option<SuccessWindow> {
        const REQUESTS_MIN_MAX: u32 = 1_000_000;
        let default = SuccessWindow::default();
        let rate = |text: &str| text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
        let threshold = self.value(THRESHOLD, default.threshold, "a number from 0 to 1", rate);
        let window = |text: &str| duration(text).filter(|window| *window >= Duration::from_millis(10));
        let window = self.value(WINDOW, default.window, "a duration of at least `10ms`, such as `10s`", window);
        let number = |text: &str| text.parse().ok().filter(|number| *number <= REQUESTS_MIN_MAX);
        let requests_min = self.value(REQUESTS_MIN, default.requests_min, "an integer from 0 to 1000000", number);
        Some(SuccessWindow { threshold: threshold?, window: window?, requests_min: requests_min? })
    }
}

const DURATION: &str = "a whole number with unit `ms`, `s`, `m`, `h` or `d`, such as `10s`, of at most `365d`";
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// A duration as Linkerd reads it. Years are a mistake that clocks cannot count.
fn duration(text: &str) -> Option<Duration> {
    linkerd::duration(text).filter(|duration| *duration <= DURATION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(given: &[(&str, &str)]) -> (Option<BreakerRule>, Vec<String>) {
        let pair =
            |(name, value): &(&str, &str)| ((*name).into(), Spanned { value: Arc::from(*value), pos: Pos::default() });
        let mut problems = Vec::new();
        let rule = read(&given.iter().map(pair).collect(), &mut problems);
        (rule, problems.into_iter().map(|p| format!("{} {}", p.code.code.0, p.message)).collect())
    }

    #[test]
    fn defaults_are_linkerds() {
        let consecutive = ConsecutiveRule {
            failures_max: 7,
            penalty_min: Duration::from_secs(1),
            penalty_max: Duration::from_secs(60),
            jitter_ratio: 0.5,
        };
        let window = SuccessWindow { threshold: 0.8, window: Duration::from_secs(10), requests_min: 5 };
        assert_eq!(read_all(&[(ANNOTATION, "consecutive")]), (Some(BreakerRule::Consecutive(consecutive)), vec![]));
        assert_eq!(read_all(&[(ANNOTATION, "unified")]), (Some(BreakerRule::Unified(consecutive, window)), vec![]));
        assert_eq!(read_all(&[]), (None, vec![]));
    }

    #[test]
    fn each_limit_holds() {
        let table: &[(&str, &str, &str, bool)] = &[
            ("consecutive", FAILURES_MAX, "1", true),
            ("consecutive", FAILURES_MAX, "0", false),
            ("unified", FAILURES_MAX, "0", true),
            ("consecutive", FAILURES_MAX, "-1", false),
            ("consecutive", PENALTY_MIN, "60s", true),
            ("consecutive", PENALTY_MIN, "61s", false),
            ("consecutive", PENALTY_MIN, "1.5s", false),
            ("consecutive", PENALTY_MAX, "1d", true),
            ("consecutive", PENALTY_MAX, "0", false),
            ("consecutive", PENALTY_MAX, "500ms", false),
            ("consecutive", PENALTY_MAX, "5", false),
            ("consecutive", JITTER, "100.0", true),
            ("consecutive", JITTER, "100.1", false),
            ("consecutive", JITTER, "NaN", false),
            ("unified", THRESHOLD, "0", true),
            ("unified", THRESHOLD, "1.01", false),
            ("unified", WINDOW, "10ms", true),
            ("unified", WINDOW, "9ms", false),
            ("unified", REQUESTS_MIN, "1000000", true),
            ("unified", REQUESTS_MIN, "1000001", false),
        ];
        for (mode, name, value, legal) in table {
            let (rule, problems) = read_all(&[(ANNOTATION, mode), (name, value)]);
            assert_eq!((rule.is_some(), problems.is_empty()), (*legal, *legal), "{mode} {name} {value}: {problems:?}");
        }
    }
}
