//! Word times: which stretch of the sound each token was read from, by dynamic time warping over what the decoder's
//! alignment heads looked at. Plain arithmetic; runs on the pool's threads, inside a transcriber.
//!
//! Source: the method of the reference implementation's `timing.py` (OpenAI, MIT); Sakoe and Chiba 1978 for the warping.

use std::ops::Range;

/// Positions a second on the encoder's time axis.
pub(crate) const PER_SECOND: usize = 50;
/// Width of the median filter along the time axis.
const MEDIAN: usize = 7;

/// What the alignment heads looked at: one row a token of the decoder's input, in order.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    n_heads: usize,
    /// Positions that are kept of each row: those of real sound.
    n_heard: usize,
    /// [row, head, position].
    values: Vec<f32>,
}

impl Attention {
    /// Forgets everything; rows will be kept up to position `n_heard`.
    pub(crate) fn reset(&mut self, n_heads: usize, n_heard: usize) {
        self.values.clear();
        (self.n_heads, self.n_heard) = (n_heads, n_heard);
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.values.len() / (self.n_heads * self.n_heard).max(1)
    }

    /// Adds rows of a decoder's output [heads, n, s]: softmaxed weights. Those on silence after the sound are left out, and
    /// the others made to sum to 1 again.
    pub(crate) fn push(&mut self, weights: &[f32], n: usize, rows: Range<usize>) {
        let s = weights.len() / (self.n_heads * n).max(1);
        for row in rows.start..rows.end.min(n) {
            for head in 0..self.n_heads {
                let begin = (head * n + row) * s;
                let heard = &weights[begin..begin + self.n_heard.min(s)];
                let sum = heard.iter().sum::<f32>().max(f32::MIN_POSITIVE);
                self.values.extend(heard.iter().map(|w| w / sum));
            }
        }
    }

    /// For rows `first..`, the position at which each begins, and one more: where the last ends. Never falls.
    pub(crate) fn begins(&self, first: usize) -> Vec<usize> {
        let (n_rows, n_heard) = (self.n_rows(), self.n_heard);
        if first >= n_rows || n_heard == 0 {
            return vec![n_heard; n_rows.saturating_sub(first) + 1];
        }
        let costs = self.costs(first);
        let mut begins = warp(&costs, n_rows - first, n_heard);
        begins.push(n_heard);
        begins
    }

    /// [rows from `first`, position]: small where a token looked. Each position is set against the mean of all tokens, so
    /// that what every token looks at counts for nothing; then smoothed over time, and averaged over the heads.
    fn costs(&self, first: usize) -> Vec<f32> {
        let (n_rows, n_heard) = (self.n_rows(), self.n_heard);
        let stride = self.n_heads * n_heard;
        let mut costs = vec![0.0; (n_rows - first) * n_heard];
        let (mut means, mut scales) = (vec![0.0_f32; stride], vec![0.0_f32; stride]);
        for row in self.values.chunks_exact(stride) {
            means.iter_mut().zip(row).for_each(|(m, v)| *m += v / n_rows as f32);
        }
        for row in self.values.chunks_exact(stride) {
            let squares = row.iter().zip(&means).map(|(v, m)| (v - m) * (v - m));
            scales.iter_mut().zip(squares).for_each(|(s, v)| *s += v / n_rows as f32);
        }
        scales.iter_mut().for_each(|s| *s = if *s > 0.0 { s.sqrt().recip() } else { 0.0 });
        let mut normal = vec![0.0_f32; n_heard];
        for (row, costs) in self.values.chunks_exact(stride).skip(first).zip(costs.chunks_exact_mut(n_heard)) {
            for head in 0..self.n_heads {
                let part = head * n_heard..(head + 1) * n_heard;
                for (i, at) in part.enumerate() {
                    normal[i] = (row[at] - means[at]) * scales[at];
                }
                let n_heads = self.n_heads as f32;
                smooth(&normal, |i, value| costs[i] -= value / n_heads);
            }
        }
        costs
    }
}

/// Median over [`MEDIAN`] values around each; the ends are mirrored. Too short a row stays as it is.
fn smooth(values: &[f32], mut put: impl FnMut(usize, f32)) {
    const HALF: usize = MEDIAN / 2;
    let last = values.len().saturating_sub(1);
    if values.len() <= HALF {
        return values.iter().enumerate().for_each(|(i, v)| put(i, *v));
    }
    for i in 0..values.len() {
        let mut around = [0.0_f32; MEDIAN];
        for (j, value) in around.iter_mut().enumerate() {
            let at = (i + j).abs_diff(HALF);
            *value = values[if at > last { 2 * last - at } else { at }];
        }
        for j in 1..MEDIAN {
            let mut k = j;
            while k > 0 && around[k - 1] > around[k] {
                around.swap(k - 1, k);
                k -= 1;
            }
        }
        put(i, around[HALF]);
    }
}

/// The cheapest way from the first row and column to the last, by steps to the next row, the next column or both. Gives
/// the column at which each row begins; the first row begins at 0.
fn warp(costs: &[f32], n_rows: usize, n_columns: usize) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        Both,
        Row,
        Column,
    }
    let mut steps = vec![Step::Column; n_rows * n_columns];
    let mut above = vec![f32::INFINITY; n_columns];
    let mut here = vec![f32::INFINITY; n_columns];
    for row in 0..n_rows {
        for column in 0..n_columns {
            let both = match (row, column) {
                (0, 0) => 0.0,
                (_, 0) => f32::INFINITY,
                _ => above[column - 1],
            };
            let next_row = above[column];
            let next_column = if column == 0 { f32::INFINITY } else { here[column - 1] };
            let (cost, step) = if both < next_row && both < next_column {
                (both, Step::Both)
            } else if next_row < both && next_row < next_column {
                (next_row, Step::Row)
            } else {
                (next_column, Step::Column)
            };
            let at = row * n_columns + column;
            here[column] = costs[at] + if row + column == 0 { 0.0 } else { cost };
            steps[at] = step;
        }
        std::mem::swap(&mut above, &mut here);
    }
    let mut begins = vec![0; n_rows];
    let (mut row, mut column) = (n_rows - 1, n_columns - 1);
    loop {
        begins[row] = column;
        let step = match (row, column) {
            (0, _) => break begins[0] = 0,
            (_, 0) => Step::Row,
            _ => steps[row * n_columns + column],
        };
        row -= usize::from(step != Step::Column);
        column -= usize::from(step != Step::Row);
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention of one head that looks at one position a row.
    fn looking_at(positions: &[usize], s: usize, n_heard: usize) -> Attention {
        let mut attention = Attention::default();
        attention.reset(1, n_heard);
        let n = positions.len();
        let mut weights = vec![0.01; n * s];
        for (row, position) in positions.iter().enumerate() {
            // Wide enough to outlive the median filter.
            for at in position.saturating_sub(3)..(position + 4).min(s) {
                weights[row * s + at] = 1.0;
            }
        }
        attention.push(&weights, n, 0..n);
        attention
    }

    #[test]
    fn rows_begin_where_they_look() {
        let check = |positions: &[usize], first: usize| {
            let begins = looking_at(positions, 100, 80).begins(first);
            assert_eq!(begins.len(), positions.len() - first + 1);
            assert!(begins.is_sorted() && begins[0] == 0 && begins.last() == Some(&80), "{begins:?}");
            for (span, position) in begins.windows(2).zip(&positions[first..]) {
                assert!((span[0]..span[1]).contains(position), "{begins:?}, {positions:?} from {first}");
            }
        };
        check(&[5, 20, 40, 60], 0);
        check(&[3, 10, 17, 70], 0);
        check(&[70, 5, 20, 40, 60], 1);
        check(&[40], 0);
    }

    #[test]
    fn nothing_heard_or_said_has_times_all_the_same() {
        assert_eq!(looking_at(&[3], 10, 0).begins(0), vec![0]);
        assert_eq!(looking_at(&[], 10, 10).begins(0), vec![10]);
        assert_eq!(looking_at(&[1, 2, 3], 10, 1).begins(0), vec![0, 0, 0, 1]);
    }

    /// The cheapest way, found by trying all.
    #[test]
    fn warping_finds_the_cheapest_way() {
        fn cheapest(costs: &[f32], n: usize, m: usize, row: usize, column: usize) -> f32 {
            let here = costs[row * m + column];
            if (row, column) == (n - 1, m - 1) {
                return here;
            }
            let ways = [(row + 1, column), (row, column + 1), (row + 1, column + 1)];
            let open = ways.into_iter().filter(|(r, c)| *r < n && *c < m);
            here + open.map(|(r, c)| cheapest(costs, n, m, r, c)).fold(f32::INFINITY, f32::min)
        }
        for seed in 0..20_usize {
            let (n, m) = (1 + seed % 4, 1 + seed % 6);
            let costs: Vec<f32> = (0..n * m).map(|i| ((i * 7919 + seed * 104_729) % 101) as f32 / 10.0 - 5.0).collect();
            let begins = warp(&costs, n, m);
            // The way between two begins runs along the row, then down or across: the cheaper of the two.
            let mut total = 0.0;
            for row in 0..n {
                let end = if row + 1 < n { begins[row + 1] } else { m - 1 };
                let whole: f32 = costs[row * m + begins[row]..=row * m + end].iter().sum();
                let short = whole - costs[row * m + end];
                let may_stop_short = row + 1 < n && end > begins[row];
                total += if may_stop_short { whole.min(short) } else { whole };
            }
            let expected = cheapest(&costs, n, m, 0, 0);
            assert!((total - expected).abs() < 1e-3, "{n}x{m}: {total}, expected {expected}");
        }
    }
}
