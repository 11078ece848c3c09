//! What `POST /logging` asks for, read whole before anything changes.

use super::query::Query;

/// A level of logging, with Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning`
    Warning,
    /// `error`; Envoy's `critical` too, which we do not have.
    Error,
    /// `off`
    Off,
}

impl LogLevel {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warning" | "warn" => Self::Warning,
            "error" | "critical" => Self::Error,
            "off" => Self::Off,
            _ => {
                let found = text.escape_default();
                return Err(format!("level is \"{found}\"; it must be trace, debug, info, warning, error or off"));
            }
        })
    }
}

/// What `POST /logging` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChange {
    /// No change: what is in force?
    Show,
    /// `?level=debug`: everywhere.
    All(LogLevel),
    /// `?paths=a:debug,b:info`, or `?a=debug`: in these modules.
    Modules(Vec<(String, LogLevel)>),
}

impl LogChange {
    pub(super) fn parse(query: &Query) -> Result<Self, String> {
        let mut modules: Vec<(String, LogLevel)> = Vec::new();
        for (key, value) in query.pairs() {
            match key.as_str() {
                "level" if query.pairs().len() == 1 => return Ok(Self::All(LogLevel::parse(value)?)),
                "level" => return Err("level stands alone".into()),
                "paths" => {
                    for item in value.split(',') {
                        let Some((module, level)) = item.rsplit_once(':') else {
                            return Err("paths must be MODULE:LEVEL, several parted by commas".into());
                        };
                        modules.push((module.into(), LogLevel::parse(level)?));
                    }
                }
                module => modules.push((module.into(), LogLevel::parse(value)?)),
            }
        }
        if let Some((bad, _)) = modules.iter().find(|(name, _)| !is_module(name)) {
            return Err(format!("\"{}\" is no name of a module", bad.escape_default()));
        }
        Ok(if modules.is_empty() { Self::Show } else { Self::Modules(modules) })
    }
}

/// `a::b_c`, at most 128 bytes: it becomes part of a filter, so nothing else may pass.
fn is_module(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_changes_are_read_whole() {
        let parse = |pairs: &[(&str, &str)]| {
            LogChange::parse(&Query::from_iter(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()))))
        };
        assert_eq!(parse(&[]), Ok(LogChange::Show));
        assert_eq!(parse(&[("level", "debug")]), Ok(LogChange::All(LogLevel::Debug)));
        let both = LogChange::Modules(vec![("a::b".into(), LogLevel::Debug), ("c".into(), LogLevel::Off)]);
        assert_eq!(parse(&[("paths", "a::b:debug,c:off")]), Ok(both));
        assert_eq!(parse(&[("hyper", "warning")]), Ok(LogChange::Modules(vec![("hyper".into(), LogLevel::Warning)])));
        for (pairs, says) in [
            (&[("level", "loud")][..], "\"loud\"; it must be trace"),
            (&[("level", "info"), ("a", "info")], "stands alone"),
            (&[("paths", "a")], "MODULE:LEVEL"),
            (&[("a b", "info")], "no name of a module"),
            (&[("paths", "[x=1]:info")], "no name of a module"),
            (&[("level", "a\nb")], "a\\nb"),
        ] {
            let error = parse(pairs).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
