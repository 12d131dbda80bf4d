//! A constant-velocity Kalman filter over a box: centre and size, each with its velocity. 8 states in all.
//!
//! Motion, process noise and measurement noise of ByteTrack's filter couple no two of the four measured quantities, so the
//! 8 x 8 filter falls exactly into four of two states; that is how it is written here. Time is in seconds, so that frame
//! rates may vary: noise grows with the time between frames. Pure arithmetic.

use base::event::BoxInImage;

/// Standard deviations as fractions of the box's size. Process noise is that of ByteTrack at 30 frames a second, with half
/// of its noise on the position itself.
const POSITION: f64 = 1.0 / 40.0;
const VELOCITY: f64 = 1.0 / 160.0;
const FRAME_SECS: f64 = 1.0 / 30.0;
/// Of a first box, and of the velocity (box sizes a second) of an object just seen.
const FIRST_POSITION: f64 = 1.0 / 5.0;
const FIRST_VELOCITY: f64 = 1.0;
/// Of a box of score 0; it falls with the score (Du et al. 2021, "GIAOTracker"): the edges of a weak box are less to be
/// trusted than those of a strong one.
const MEASUREMENT: f64 = 1.0 / 3.0;

/// One quantity and its velocity (per second), with their covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    value: f64,
    velocity: f64,
    var_value: f64,
    covariance: f64,
    var_velocity: f64,
}

impl Axis {
    fn new(measured: f64, size: f64) -> Self {
        Self {
            value: measured,
            velocity: 0.0,
            var_value: (FIRST_POSITION * size).powi(2),
            covariance: 0.0,
            var_velocity: (FIRST_VELOCITY * size).powi(2),
        }
    }

    fn predict(&mut self, secs: f64, size: f64) {
        let n_frames = secs / FRAME_SECS;
        self.value += self.velocity * secs;
        self.var_value +=
            secs * (2.0 * self.covariance + secs * self.var_velocity) + n_frames * (POSITION * size).powi(2);
        self.covariance += secs * self.var_velocity;
        self.var_velocity += n_frames * (VELOCITY * size / FRAME_SECS).powi(2);
    }

    fn update(&mut self, measured: f64, deviation: f64) {
        let innovation_var = self.var_value + deviation.powi(2);
        let (gain, gain_velocity) = (self.var_value / innovation_var, self.covariance / innovation_var);
        let innovation = measured - self.value;
        self.value += gain * innovation;
        self.velocity += gain_velocity * innovation;
        self.var_velocity -= gain_velocity * self.covariance;
        self.covariance -= gain * self.covariance;
        self.var_value -= gain * self.var_value;
    }
}

/// The filter of one track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    cx: Axis,
    cy: Axis,
    width: Axis,
    height: Axis,
}

/// Centre x and y, width, height.
fn measure(b: &BoxInImage) -> [f64; 4] {
    let [x, y, w, h] = [b.x, b.y, b.width, b.height].map(f64::from);
    [x + w / 2.0, y + h / 2.0, w, h]
}

impl Motion {
    /// Standing still at a box.
    pub(super) fn new(at: &BoxInImage) -> Self {
        let [cx, cy, w, h] = measure(at);
        Self { cx: Axis::new(cx, w), cy: Axis::new(cy, h), width: Axis::new(w, w), height: Axis::new(h, h) }
    }

    /// Moves on by so many seconds of stream time. A box that nobody sees does not go on growing or shrinking.
    pub(super) fn predict(&mut self, secs: f64, seen: bool) {
        if !seen {
            self.width.velocity = 0.0;
            self.height.velocity = 0.0;
        }
        let (w, h) = (self.width.value.max(1.0), self.height.value.max(1.0));
        self.cx.predict(secs, w);
        self.cy.predict(secs, h);
        self.width.predict(secs, w);
        self.height.predict(secs, h);
    }

    /// Takes a measured box of a score from 0 to 1 in.
    pub(super) fn update(&mut self, measured: &BoxInImage, score: f32) {
        let [cx, cy, w, h] = measure(measured);
        let doubt = MEASUREMENT * f64::from(1.0 - score).clamp(0.1, 1.0);
        let (deviation_w, deviation_h) = (doubt * self.width.value.max(1.0), doubt * self.height.value.max(1.0));
        self.cx.update(cx, deviation_w);
        self.cy.update(cy, deviation_h);
        self.width.update(w, deviation_w);
        self.height.update(h, deviation_h);
    }

    /// Where the box is now, in pixels of the source picture; at least one pixel wide and high.
    pub(super) fn box_in_image(&self) -> BoxInImage {
        let (w, h) = (self.width.value.max(1.0), self.height.value.max(1.0));
        BoxInImage {
            x: (self.cx.value - w / 2.0) as f32,
            y: (self.cy.value - h / 2.0) as f32,
            width: w as f32,
            height: h as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> BoxInImage {
        BoxInImage { x, y: 50.0, width: 20.0, height: 60.0 }
    }

    #[test]
    fn learns_a_velocity_whatever_the_frame_rate() {
        let check = |frame_secs: f64| {
            let mut motion = Motion::new(&at(0.0));
            let n = (4.0 / frame_secs) as usize;
            for i in 1..=n {
                motion.predict(frame_secs, true);
                motion.update(&at((30.0 * frame_secs * i as f64) as f32), 0.9);
            }
            let before = motion.box_in_image().x;
            motion.predict(1.0, false);
            let moved = motion.box_in_image().x - before;
            assert!((moved - 30.0).abs() < 3.0, "{moved} px in a second at {frame_secs} s a frame");
        };
        [1.0 / 30.0, 0.1, 0.5].into_iter().for_each(check);
    }

    #[test]
    fn no_time_no_motion_and_a_measurement_pulls() {
        let mut motion = Motion::new(&at(0.0));
        motion.predict(0.0, true);
        assert_eq!(motion, Motion::new(&at(0.0)));
        let pulled = |score| {
            let mut motion = motion;
            motion.update(&at(10.0), score);
            motion.box_in_image().x
        };
        let (weak, strong) = (pulled(0.1), pulled(0.9));
        assert!(0.0 < weak && weak < strong && strong < 10.0, "{weak} {strong}");
    }
}
