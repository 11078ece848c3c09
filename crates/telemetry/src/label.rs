//! Bounds on label values.
//!
//! Values are text already (invalid UTF-8 never becomes a `str`); escaping is the business of each format.

use std::borrow::Cow;
use std::sync::Arc;

/// Longest label value in bytes. Longer ones are cut and end in `~` and eight hexadecimal digits of a hash of the whole
/// value, so that two long values stay two series; the digits are the same in every process.
pub const LABEL_VALUE_BYTES_MAX: usize = 128;

/// `~` and eight digits.
const TAIL_BYTES: usize = 9;

/// The values with the bound applied; borrowed when, as nearly always, none is too long.
pub(crate) fn bounded(labels: &[Arc<str>]) -> Cow<'_, [Arc<str>]> {
    if labels.iter().all(|value| value.len() <= LABEL_VALUE_BYTES_MAX) {
        return Cow::Borrowed(labels);
    }
    Cow::Owned(labels.iter().map(cut).collect())
}

fn cut(value: &Arc<str>) -> Arc<str> {
    if value.len() <= LABEL_VALUE_BYTES_MAX {
        return value.clone();
    }
    let kept = value.floor_char_boundary(LABEL_VALUE_BYTES_MAX - TAIL_BYTES);
    let hash = xxhash_rust::xxh3::xxh3_64(value.as_bytes()) as u32;
    format!("{}~{hash:08x}", &value[..kept]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_on_a_character_and_stay_distinct() {
        let long = |tail: &str| Arc::<str>::from(format!("{}{tail}", "ä".repeat(100)));
        let labels = [long("a"), long("b"), "short".into()];
        let cut = bounded(&labels);
        assert!(cut.iter().all(|v| v.len() <= LABEL_VALUE_BYTES_MAX), "{cut:?}");
        assert_ne!(cut[0], cut[1]);
        assert_eq!(&*cut[2], "short");
        assert_eq!(bounded(&labels), cut, "the same every time");
    }

    #[test]
    fn the_bound_itself_is_kept() {
        let exact: Arc<str> = "x".repeat(LABEL_VALUE_BYTES_MAX).into();
        assert!(matches!(bounded(&[exact]), Cow::Borrowed(_)));
    }
}
