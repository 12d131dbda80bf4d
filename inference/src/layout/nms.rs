//! Class-aware greedy non-maximum suppression, the same on every machine: best score first, then the earlier anchor.

use super::Candidate;

/// Boxes of one picture at most; no scene of ours has more, and a broken model's thousands must not stall the others.
pub(crate) const MOST_BOXES: usize = 300;

/// Sorts by score, best first (equals in their order), and leaves out every box that overlaps a better one of its own
/// class by more than `iou` (intersection over union); keeps at most [`MOST_BOXES`]. Without `iou` it only sorts and cuts.
pub(crate) fn suppress(candidates: &mut Vec<Candidate>, iou: Option<f32>) {
    // A box that is no number overlaps with everything and nothing.
    candidates.retain(|c| c.box_in_tensor.iter().all(|v| v.is_finite()));
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(most) = iou {
        let mut n_kept = 0;
        for i in 0..candidates.len() {
            let candidate = candidates[i];
            let kept = &candidates[..n_kept];
            if kept.iter().all(|k| k.class != candidate.class || overlap(k, &candidate) <= most) {
                candidates[n_kept] = candidate;
                n_kept += 1;
                if n_kept == MOST_BOXES {
                    break;
                }
            }
        }
        candidates.truncate(n_kept);
    }
    candidates.truncate(MOST_BOXES);
}

fn overlap(a: &Candidate, b: &Candidate) -> f32 {
    let ([ax1, ay1, ax2, ay2], [bx1, by1, bx2, by2]) = (a.box_in_tensor, b.box_in_tensor);
    let w = ax2.min(bx2) - ax1.max(bx1);
    let h = ay2.min(by2) - ay1.max(by1);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let inter = w * h;
    inter / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(class: usize, score: f32, x: f32) -> Candidate {
        Candidate { class, score, box_in_tensor: [x, 0.0, x + 10.0, 10.0] }
    }

    #[test]
    fn only_boxes_of_the_same_class_suppress_each_other() {
        let check = |input: &[Candidate], iou, expected: &[Candidate]| {
            let mut got = input.to_vec();
            suppress(&mut got, iou);
            assert_eq!(got, expected);
        };
        let (a, b, far) = (candidate(0, 0.5, 0.0), candidate(0, 0.9, 1.0), candidate(0, 0.3, 50.0));
        check(&[a, b, far], Some(0.5), &[b, far]);
        check(&[a, b, far], None, &[b, a, far]);
        let other = candidate(1, 0.5, 0.0);
        check(&[other, b], Some(0.5), &[b, other]);
        let twin = candidate(0, 0.9, 1.5);
        check(&[twin, b], Some(0.5), &[twin]);
        check(&[], Some(0.5), &[]);
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0..3usize, 0.0..1.0f32, 0.0..40.0f32, 0.0..40.0f32, 1.0..30.0f32, 1.0..30.0f32)
            .prop_map(|(class, score, x, y, w, h)| Candidate { class, score, box_in_tensor: [x, y, x + w, y + h] });
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn survivors_are_apart_and_every_loser_has_a_better_survivor(input in any_candidates(), iou in 0.1..0.9f32) {
            let mut kept = input.clone();
            suppress(&mut kept, Some(iou));
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(input.contains(a));
                for b in &kept[i + 1..] {
                    prop_assert!(a.score >= b.score);
                    prop_assert!(a.class != b.class || overlap(a, b) <= iou);
                }
            }
            for loser in input.iter().filter(|c| !kept.contains(c)) {
                let better = |k: &&Candidate| k.class == loser.class && k.score >= loser.score && overlap(k, loser) > iou;
                prop_assert!(kept.iter().find(better).is_some());
            }
        }

        #[test]
        fn doing_it_twice_changes_nothing(input in any_candidates(), iou in 0.1..0.9f32) {
            let mut once = input;
            suppress(&mut once, Some(iou));
            let mut twice = once.clone();
            suppress(&mut twice, Some(iou));
            prop_assert_eq!(once, twice);
        }
    }
}
