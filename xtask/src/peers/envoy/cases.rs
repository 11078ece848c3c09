//! What a case is, and when it holds.

use super::client::Step;
use super::outcome::Outcome;
use super::policy::Policy;
use super::{ejections, limits, retries};

/// One comparison.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name, which is that of the service, too.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) about: &'static str,
    /// What is configured.
    pub(crate) policy: Policy,
    /// Scripts of the backends.
    pub(crate) backends: &'static [&'static str],
    /// What is sent.
    pub(crate) steps: &'static [Step],
    /// Statuses with flags that Envoy has in the end, so that two errors do not agree with one another.
    pub(crate) flags: &'static str,
    /// The longest wait allowed before the second, third, … try that backends see, in milliseconds.
    pub(crate) waits: Option<&'static [u64]>,
    /// The shortest and longest time of an answer in milliseconds.
    pub(crate) takes: Option<(u64, u64)>,
    /// Whether the order of response flags is compared, too.
    pub(crate) is_verbatim: bool,
    /// What differs as intended.
    pub(crate) differs: &'static [Difference],
}

/// An item that differs as intended; `docs/envoy-differences.md` says why.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Item of the outcome.
    pub(crate) item: &'static str,
    /// With Envoy.
    pub(crate) envoy: &'static str,
    /// With us.
    pub(crate) ours: &'static str,
}

/// A difference as intended.
pub(crate) const fn differs(item: &'static str, envoy: &'static str, ours: &'static str) -> Difference {
    Difference { item, envoy, ours }
}

impl Case {
    /// A case in which both are to do the same.
    pub(crate) const fn new(
        name: &'static str,
        about: &'static str,
        policy: Policy,
        backends: &'static [&'static str],
        steps: &'static [Step],
        flags: &'static str,
    ) -> Self {
        Self { name, about, policy, backends, steps, flags, waits: None, takes: None, is_verbatim: false, differs: &[] }
    }

    /// The same with intended differences.
    pub(crate) const fn but(mut self, differs: &'static [Difference]) -> Self {
        self.differs = differs;
        self
    }

    /// The same, with the longest waits between tries.
    pub(crate) const fn waits(mut self, limits: &'static [u64]) -> Self {
        self.waits = Some(limits);
        self
    }

    /// The same, with answers that take so long.
    pub(crate) const fn takes(mut self, least_ms: u64, most_ms: u64) -> Self {
        self.takes = Some((least_ms, most_ms));
        self
    }

    /// The same, with flags in the order in which they are written.
    pub(crate) const fn verbatim(mut self) -> Self {
        self.is_verbatim = true;
        self
    }

    /// Requests that are sent.
    pub(crate) fn requests(&self) -> u32 {
        let count = |step: &Step| match step {
            Step::InTurn(count, _) | Step::AtOnce(count, _) => *count,
            Step::Wait(_) => 0,
        };
        self.steps.iter().map(count).sum()
    }

    /// What is wrong with the outcomes, one line each; empty if nothing is.
    pub(crate) fn judge(&self, envoy: &Outcome, ours: &Outcome) -> String {
        let mut lines = Vec::new();
        if envoy.item("flags") != self.flags {
            lines.push(format!(
                "Envoy does not do what the table says, `{}`, but `{}`",
                self.flags,
                envoy.item("flags")
            ));
        }
        for item in envoy.unlike(ours) {
            if !self.differs.iter().any(|difference| difference.item == item) {
                lines.push(format!("{item}: Envoy `{}`, Outrigger `{}`", envoy.item(item), ours.item(item)));
            }
        }
        for Difference { item, envoy: theirs, ours: mine } in self.differs {
            let found = (envoy.item(item), ours.item(item));
            if found != (*theirs, *mine) {
                let said = format!("{item}: intended are Envoy `{theirs}`, Outrigger `{mine}`");
                lines.push(format!("{said}; found are `{}` and `{}`", found.0, found.1));
            }
        }
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// All cases.
pub(crate) fn all() -> Vec<&'static Case> {
    [retries::CASES, ejections::CASES, limits::CASES].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::super::script;
    use super::*;
    use crate::shell;

    #[test]
    fn cases_have_names_of_their_own_and_scripts_that_can_be_read() {
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            assert!(case.requests() > 0, "{}", case.name);
            for script in case.backends {
                script::parse(script).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
            }
            for difference in case.differs {
                assert_ne!(difference.envoy, difference.ours, "{}: {}", case.name, difference.item);
            }
        }
    }

    #[test]
    fn the_document_lists_the_differences_and_no_others() {
        let document = fs::read_to_string(shell::root().join("docs/envoy-differences.md")).expect("the document");
        let rows = document.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
        let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit("| ").next());
        let listed: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let differing: BTreeSet<&str> =
            all().into_iter().filter(|case| !case.differs.is_empty()).map(|case| case.name).collect();
        assert_eq!(listed, differing);
    }
}
