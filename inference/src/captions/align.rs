//! Which shown word a word of the next revision takes the place of. Pure.

use super::phrase::bare;

/// For every new word the index of the old one whose place it takes: the same word, or a revision of it. Ascending. The
/// cheapest edit (Wagner and Fischer 1974), with a replacement cheaper than a word gone and another come.
pub(super) fn align(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    const GAP: u32 = 4;
    let n_same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let mut of_new: Vec<Option<usize>> = (0..n_same).map(Some).collect();
    let (old, new) = (&old[n_same..], &new[n_same..]);
    let (rows, columns) = (old.len(), new.len());
    if rows.saturating_mul(columns) > 1 << 20 {
        // No revision of speech looks like that: by position.
        of_new.extend((0..columns).map(|n| (n < rows).then_some(n_same + n)));
        return of_new;
    }
    let bare_old: Vec<String> = old.iter().map(|text| bare(text)).collect();
    let bare_new: Vec<String> = new.iter().map(|text| bare(text)).collect();
    let change = |o: usize, n: usize| match () {
        () if old[o] == new[n] => 0,
        () if bare_old[o] == bare_new[n] => 1,
        () => 6,
    };
    // cost[o][n]: of making the first n new words of the first o old ones.
    let width = columns + 1;
    let mut cost = vec![0; (rows + 1) * width];
    for o in 0..=rows {
        for n in 0..=columns {
            let from = |o: usize, n: usize, by: u32| cost[o * width + n] + by;
            let best = match (o, n) {
                (0, n) => n as u32 * GAP,
                (o, 0) => o as u32 * GAP,
                (o, n) => from(o - 1, n - 1, change(o - 1, n - 1)).min(from(o - 1, n, GAP)).min(from(o, n - 1, GAP)),
            };
            cost[o * width + n] = best;
        }
    }
    let mut tail = vec![None; columns];
    let (mut o, mut n) = (rows, columns);
    while o > 0 && n > 0 {
        let here = cost[o * width + n];
        // Of two ways that cost the same, the one that leaves earlier words where they are.
        if here == cost[o * width + n - 1] + GAP {
            n -= 1;
        } else if here == cost[(o - 1) * width + n] + GAP {
            o -= 1;
        } else {
            (o, n) = (o - 1, n - 1);
            tail[n] = Some(n_same + o);
        }
    }
    of_new.extend(tail);
    of_new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_take_the_places_of_those_they_revise() {
        let check = |old: &str, new: &str, expected: &str| {
            let split = |text: &'static str| -> Vec<&str> { text.split_whitespace().collect() };
            let (old, new) = (split(Box::leak(old.into())), split(Box::leak(new.into())));
            let shown: Vec<String> =
                align(&old, &new).into_iter().map(|o| o.map_or("-".into(), |o| o.to_string())).collect();
            assert_eq!(shown.join(" "), expected, "{old:?} -> {new:?}");
        };
        check("", "", "");
        check("", "a b", "- -");
        check("a b", "", "");
        check("a b c", "a b c d", "0 1 2 -");
        check("a b c", "a x c", "0 1 2");
        check("a b c", "a c", "0 2");
        check("a c", "a b c", "0 - 1");
        check("and so my fellow", "and so, my fellow Americans", "0 1 2 3 -");
        check("ask not what", "ask what", "0 2");
        check("I scream", "ice cream you", "0 1 -");
        check("one two three", "zero one two three", "- 0 1 2");
    }
}
