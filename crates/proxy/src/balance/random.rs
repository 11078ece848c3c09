//! RANDOM: any endpoint, in proportion to weight.
//!
//! Unequal weights go through an alias table (Walker 1977, Vose 1991): one draw for a column, one for which of the two
//! endpoints that share it. All arithmetic is on integers, so the shares are exact.

use super::hosts::Members;

/// The draw in one locality.
#[derive(Debug)]
pub(super) enum Random {
    /// Equal weights.
    Equal,
    /// Unequal weights.
    Weighted(Alias),
}

/// A column for each endpoint, every one as high as the sum of weights.
#[derive(Debug)]
pub(super) struct Alias {
    columns: Vec<Column>,
    height: u64,
}

/// Filled up to `own` by its own endpoint, above by `other`.
#[derive(Clone, Copy, Debug)]
struct Column {
    own: u64,
    other: u32,
}

impl Random {
    pub(super) fn new(members: Members<'_>) -> Self {
        if members.are_equal() {
            return Self::Equal;
        }
        let weights: Vec<u32> = members.at.iter().map(|host| members.hosts.endpoint(*host).weight).collect();
        Self::Weighted(Alias::new(&weights))
    }

    pub(super) fn pick(&self, members: Members<'_>, rng: &mut fastrand::Rng) -> usize {
        match self {
            Self::Equal => rng.usize(0..members.len()),
            Self::Weighted(alias) => alias.draw(rng),
        }
    }
}

impl Alias {
    /// At least one weight, none of them zero.
    fn new(weights: &[u32]) -> Self {
        let height: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        // What each endpoint has to spread over columns: its weight times their number, which all sum to the whole area.
        let mut left: Vec<u128> = weights.iter().map(|w| u128::from(*w) * weights.len() as u128).collect();
        let full = u128::from(height);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|at| left[*at] < full);
        let mut columns: Vec<Column> = (0..weights.len() as u32).map(|at| Column { own: height, other: at }).collect();
        while let (Some(at), Some(donor)) = (small.pop(), large.last().copied()) {
            columns[at] = Column { own: left[at] as u64, other: donor as u32 };
            left[donor] -= full - left[at];
            if left[donor] < full {
                large.pop();
                small.push(donor);
            }
        }
        Self { columns, height }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let at = rng.usize(0..self.columns.len());
        let Column { own, other } = self.columns[at];
        if rng.u64(0..self.height) < own { at } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The area each endpoint has is its weight, to the last unit.
    #[test]
    fn an_alias_table_holds_the_exact_weights() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let weights: Vec<u32> =
                (0..rng.usize(1..40)).map(|_| rng.u32(1..=1_000_000) >> rng.u32(0..20)).map(|w| w.max(1)).collect();
            let alias = Alias::new(&weights);
            let mut area = vec![0_u128; weights.len()];
            for (at, column) in alias.columns.iter().enumerate() {
                area[at] += u128::from(column.own);
                area[column.other as usize] += u128::from(alias.height - column.own);
            }
            let expected: Vec<u128> = weights.iter().map(|w| u128::from(*w) * weights.len() as u128).collect();
            assert_eq!(area, expected, "{weights:?}");
        }
    }
}
