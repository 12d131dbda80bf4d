//! Optimal assignment of rows to columns: Kuhn-Munkres by shortest augmenting paths with potentials, O(rows^2 x columns).
//!
//! Pure and deterministic: among equal costs the lower index goes first.

/// Pairs `(row, column)` in the order of rows, such that the sum of their costs plus `limit` for every row left alone is
/// least. Pairs that cost `limit` or more are never made; infinite costs forbid a pair.
pub(super) fn assign(costs: &[Vec<f64>], limit: f64) -> Vec<(usize, usize)> {
    let n = costs.len();
    let m = costs.first().map_or(0, Vec::len);
    if n == 0 || m == 0 {
        return Vec::new();
    }
    // Every row has a column of its own beyond the real ones, at the price of staying alone.
    let n_columns = m + n;
    let alone = |row: usize, column: usize| if column == m + row { limit } else { 2.0 * limit + 1.0 };
    let cost = |row: usize, column: usize| match column < m {
        true => costs[row][column].min(2.0 * limit + 1.0),
        false => alone(row, column),
    };
    let of_column = solve(n, n_columns, &cost);
    let mut pairs: Vec<(usize, usize)> = of_column
        .into_iter()
        .take(m)
        .enumerate()
        .filter_map(|(column, row)| row.map(|row| (row, column)))
        .filter(|&(row, column)| costs[row][column] < limit)
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The row of each column in a least-cost assignment of all rows; needs `n_rows <= n_columns` and finite costs.
fn solve(n_rows: usize, n_columns: usize, cost: &impl Fn(usize, usize) -> f64) -> Vec<Option<usize>> {
    let mut row_potential = vec![0.0; n_rows];
    let mut column_potential = vec![0.0; n_columns];
    let mut of_column: Vec<Option<usize>> = vec![None; n_columns];
    for start in 0..n_rows {
        let mut distance = vec![f64::INFINITY; n_columns];
        let mut previous: Vec<Option<usize>> = vec![None; n_columns];
        let mut done = vec![false; n_columns];
        // The path's end: a row (via the column that holds it), until a free column is reached.
        let (mut row, mut via) = (start, None);
        let mut path_columns: Vec<usize> = Vec::new();
        let end = loop {
            let mut best: Option<usize> = None;
            for column in (0..n_columns).filter(|c| !done[*c]) {
                let reduced = cost(row, column) - row_potential[row] - column_potential[column];
                if reduced < distance[column] {
                    distance[column] = reduced;
                    previous[column] = via;
                }
                if best.is_none_or(|b| distance[column] < distance[b]) {
                    best = Some(column);
                }
            }
            let Some(column) = best else { break None };
            let delta = distance[column];
            row_potential[start] += delta;
            for &c in &path_columns {
                if let Some(r) = of_column[c] {
                    row_potential[r] += delta;
                }
                column_potential[c] -= delta;
            }
            for c in (0..n_columns).filter(|c| !done[*c]) {
                distance[c] -= delta;
            }
            done[column] = true;
            match of_column[column] {
                None => break Some(column),
                Some(r) => {
                    path_columns.push(column);
                    (row, via) = (r, Some(column));
                }
            }
        };
        // Shift the rows along the path.
        let mut at = end;
        while let Some(column) = at {
            at = previous[column];
            of_column[column] = at.map_or(Some(start), |p| of_column[p]);
        }
    }
    of_column
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_cases() {
        const NO: f64 = f64::INFINITY;
        let check = |costs: &[&[f64]], expected: &[(usize, usize)]| {
            let costs: Vec<Vec<f64>> = costs.iter().map(|r| r.to_vec()).collect();
            assert_eq!(assign(&costs, 0.8), expected, "{costs:?}");
        };
        check(&[], &[]);
        check(&[&[]], &[]);
        check(&[&[0.1, 0.2]], &[(0, 0)]);
        // Greedy would take (0, 0) for 0.1 and leave 0.7; together 0.2 + 0.3 is less.
        check(&[&[0.1, 0.2], &[0.3, 0.79]], &[(0, 1), (1, 0)]);
        check(&[&[0.9]], &[]);
        check(&[&[0.1], &[0.2], &[0.05]], &[(2, 0)]);
        check(&[&[NO, 0.5], &[NO, 0.1]], &[(1, 1)]);
        check(&[&[0.3, 0.3], &[0.3, 0.3]], &[(0, 0), (1, 1)]);
    }

    /// The least sum over all ways, by trying them all.
    fn exhaustive(costs: &[Vec<f64>], limit: f64, row: usize, taken: &mut Vec<usize>) -> f64 {
        let Some(of_row) = costs.get(row) else { return 0.0 };
        let mut least = limit + exhaustive(costs, limit, row + 1, taken);
        for (column, &cost) in of_row.iter().enumerate() {
            if cost < limit && !taken.contains(&column) {
                taken.push(column);
                least = least.min(cost + exhaustive(costs, limit, row + 1, taken));
                taken.pop();
            }
        }
        least
    }

    proptest! {
        #[test]
        fn is_optimal(costs in (1..5usize, 1..5usize).prop_flat_map(|(n, m)| {
            prop::collection::vec(prop::collection::vec(0.0..1.2f64, m), n)
        })) {
            let pairs = assign(&costs, 0.8);
            let mut columns: Vec<usize> = pairs.iter().map(|p| p.1).collect();
            columns.sort_unstable();
            columns.dedup();
            prop_assert_eq!(columns.len(), pairs.len());
            let sum: f64 = pairs.iter().map(|&(r, c)| costs[r][c]).sum();
            let total = sum + 0.8 * (costs.len() - pairs.len()) as f64;
            prop_assert!((total - exhaustive(&costs, 0.8, 0, &mut Vec::new())).abs() < 1e-9);
        }
    }
}
