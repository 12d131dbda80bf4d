//! Points, lines and polygons in parts of the picture. Pure functions.

/// A point: parts of the picture's width and height, origin top left.
pub(super) type Point = [f32; 2];

/// Area of a polygon, always positive (the shoelace formula).
pub(super) fn area(polygon: &[Point]) -> f32 {
    let next = polygon.iter().cycle().skip(1);
    let twice: f32 = polygon.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum();
    twice.abs() / 2.0
}

/// Whether a point lies inside a polygon, by the even-odd rule.
pub(super) fn is_inside(polygon: &[Point], [x, y]: Point) -> bool {
    let mut inside = false;
    let next = polygon.iter().cycle().skip(1);
    for (a, b) in polygon.iter().zip(next) {
        if (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0] {
            inside = !inside;
        }
    }
    inside
}

/// Distance of a point from a stretch of a line.
pub(super) fn distance(point: Point, a: Point, b: Point) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    let (x, y) = (a[0] + along * dx - point[0], a[1] + along * dy - point[1]);
    x.hypot(y)
}

/// Whether a point lies inside a polygon or no farther outside than this.
pub(super) fn is_near(polygon: &[Point], point: Point, margin: f32) -> bool {
    let next = polygon.iter().cycle().skip(1);
    is_inside(polygon, point) || polygon.iter().zip(next).any(|(a, b)| distance(point, *a, *b) <= margin)
}

/// How far a point is to the right of a line as somebody sees it who goes from `a` to `b`; negative to the left. The line
/// goes on beyond its ends.
pub(super) fn right_of(a: Point, b: Point, point: Point) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx.hypot(dy);
    // The origin is at the top: y grows downwards, so that a positive cross product is on the right.
    if length > 0.0 { (dx * (point[1] - a[1]) - dy * (point[0] - a[0])) / length } else { 0.0 }
}

/// Whether the way from `p` to `q` crosses the stretch from `a` to `b`.
pub(super) fn crosses(p: Point, q: Point, a: Point, b: Point) -> bool {
    let side = |a, b, c| right_of(a, b, c);
    (side(a, b, p) > 0.0) != (side(a, b, q) > 0.0) && (side(p, q, a) > 0.0) != (side(p, q, b) > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: [Point; 4] = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]];
    /// A square with a notch in its right side.
    const NOTCHED: [Point; 5] = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [1.0, 1.0], [0.0, 1.0]];

    #[test]
    fn inside() {
        let check = |polygon: &[Point], point, expected| assert_eq!(is_inside(polygon, point), expected, "{point:?}");
        check(&SQUARE, [0.5, 0.5], true);
        check(&SQUARE, [0.1, 0.5], false);
        check(&SQUARE, [0.5, 0.9], false);
        check(&NOTCHED, [0.3, 0.5], true);
        check(&NOTCHED, [0.8, 0.5], false);
        check(&NOTCHED, [0.8, 0.1], true);
        assert!((area(&SQUARE) - 0.36).abs() < 1e-6 && area(&SQUARE[..2]) < 1e-6);
    }

    #[test]
    fn near() {
        assert!(is_near(&SQUARE, [0.19, 0.5], 0.02) && !is_near(&SQUARE, [0.17, 0.5], 0.02));
        assert!(is_near(&SQUARE, [0.5, 0.5], 0.0));
    }

    #[test]
    fn sides_and_crossings() {
        // Up the middle of the picture: the right half is on the right.
        let (a, b) = ([0.5, 1.0], [0.5, 0.0]);
        assert!(right_of(a, b, [0.7, 0.5]) > 0.19 && right_of(a, b, [0.3, 0.5]) < -0.19);
        assert!(crosses([0.4, 0.5], [0.6, 0.5], a, b) && crosses([0.6, 0.5], [0.4, 0.5], a, b));
        assert!(!crosses([0.3, 0.5], [0.4, 0.5], a, b));
        // Around its end.
        assert!(!crosses([0.4, 0.2], [0.6, 0.2], [0.5, 1.0], [0.5, 0.5]));
    }
}
