//! Boxes, zones and lines drawn over a picture, in colours that stand out from any background. Pure.

use base::{
    event::{BoxInImage, Shape},
    media::{Image, PixelFormat},
};

/// Of 100.
const QUALITY: u8 = 85;
/// The longer side of a snapshot has at least so many pixels.
const LEAST_SIDE: u32 = 640;
/// A line is a part of the longer side this thin, and never thinner than two pixels.
const THIN: u32 = 320;
const BLACK: [u8; 3] = [0, 0, 0];
/// Of the objects.
const ORANGE: [u8; 3] = [255, 96, 0];
/// Of the rule's zones and lines.
const CYAN: [u8; 3] = [0, 224, 255];

/// Packed RGB, `u8 [height, width, 3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<u8>,
}

/// What is drawn over a picture.
#[derive(Debug, Clone, Default)]
pub(super) struct Annotation {
    /// In pixels of the source picture.
    pub(super) boxes: Vec<BoxInImage>,
    /// As parts of its sides.
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    /// A copy of the pixels, in RGB and without padding.
    pub(crate) fn copy_of(image: &Image) -> Self {
        let mut pixels = Vec::with_capacity(3 * image.width as usize * image.height as usize);
        (0..image.height).for_each(|y| pixels.extend_from_slice(image.row(y)));
        if image.format == PixelFormat::Bgr8 {
            pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Self { width: image.width, height: image.height, pixels }
    }

    /// The file's bytes.
    pub(crate) fn jpeg(&self) -> Result<Vec<u8>, String> {
        let side = |n: u32| u16::try_from(n).map_err(|_| format!("a picture of {n} pixels is too large for JPEG"));
        let mut out = Vec::new();
        jpeg_encoder::Encoder::new(&mut out, QUALITY)
            .encode(&self.pixels, side(self.width)?, side(self.height)?, jpeg_encoder::ColorType::Rgb)
            .map_err(|e| e.to_string())?;
        Ok(out)
    }

    /// In the proportions of a source of this size, at least [`LEAST_SIDE`] long, and otherwise as large as it is.
    pub(crate) fn in_proportion(self, source: (u32, u32)) -> Self {
        let (width, height) = (f64::from(source.0.max(1)), f64::from(source.1.max(1)));
        let longer = f64::from(self.width.max(self.height).max(LEAST_SIDE));
        let factor = longer / width.max(height);
        let side = |n: f64| ((n * factor).round() as u32).max(1);
        self.scaled(side(width), side(height))
    }

    /// Each axis on its own, between the four nearest pixels.
    fn scaled(self, width: u32, height: u32) -> Self {
        if (width, height) == (self.width, self.height) || self.pixels.is_empty() {
            return self;
        }
        let place = |n: u32, of: u32, from: u32| {
            let at = ((f64::from(n) + 0.5) * f64::from(from) / f64::from(of) - 0.5).clamp(0.0, f64::from(from - 1));
            let low = at as usize;
            (low, (low + 1).min(from as usize - 1), (at.fract() * 256.0) as u32)
        };
        let columns: Vec<_> = (0..width).map(|x| place(x, width, self.width)).collect();
        let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
        let pitch = 3 * self.width as usize;
        for y in 0..height {
            let (above, below, down) = place(y, height, self.height);
            for (left, right, across) in &columns {
                for colour in 0..3 {
                    let at = |row: usize, column: usize| u32::from(self.pixels[row * pitch + 3 * column + colour]);
                    let upper = at(above, *left) * (256 - across) + at(above, *right) * across;
                    let lower = at(below, *left) * (256 - across) + at(below, *right) * across;
                    pixels.push(((upper * (256 - down) + lower * down) >> 16) as u8);
                }
            }
        }
        Self { width, height, pixels }
    }

    /// Draws what an alert is about over it; `source` is the size in pixels that the boxes speak of.
    pub(super) fn annotate(&mut self, annotation: &Annotation, source: (u32, u32)) {
        let (across, down) = (self.width as f32 - 1.0, self.height as f32 - 1.0);
        for shape in &annotation.shapes {
            let corners: Vec<_> = shape.points.iter().map(|[x, y]| (x * across, y * down)).collect();
            self.stroke(&corners, shape.is_closed, CYAN);
        }
        let (by_x, by_y) = (self.width as f32 / source.0.max(1) as f32, self.height as f32 / source.1.max(1) as f32);
        for area in &annotation.boxes {
            let (left, top) = (area.x * by_x, area.y * by_y);
            let (right, bottom) = (left + area.width * by_x, top + area.height * by_y);
            self.stroke(&[(left, top), (right, top), (right, bottom), (left, bottom)], true, ORANGE);
        }
    }

    /// A line in this colour with a black rim, so that it shows on whatever is behind it.
    fn stroke(&mut self, corners: &[(f32, f32)], is_closed: bool, colour: [u8; 3]) {
        let thick = (self.width.max(self.height) / THIN).max(2);
        let (across, down) = (self.width as f32 - 1.0, self.height as f32 - 1.0);
        // What lies outside shows at the edge.
        let inside = |(x, y): (f32, f32)| (x.clamp(0.0, across.max(0.0)), y.clamp(0.0, down.max(0.0)));
        let corners: Vec<_> = corners.iter().copied().map(inside).collect();
        let last = corners.last().copied().filter(|_| is_closed && corners.len() > 2);
        let reach = thick / 2;
        for (reach, colour) in [(reach + reach.div_ceil(2), BLACK), (reach, colour)] {
            let mut from = last;
            for to in &corners {
                self.segment(from.unwrap_or(*to), *to, reach, colour);
                from = Some(*to);
            }
        }
    }

    fn segment(&mut self, from: (f32, f32), to: (f32, f32), reach: u32, colour: [u8; 3]) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let n_steps = dx.abs().max(dy.abs()).ceil().max(1.0);
        for step in 0..=n_steps as u32 {
            let part = step as f32 / n_steps;
            self.dot((from.0 + dx * part) as u32, (from.1 + dy * part) as u32, reach, colour);
        }
    }

    /// A square of `2 * reach + 1` pixels, as far as it lies in the picture.
    fn dot(&mut self, x: u32, y: u32, reach: u32, colour: [u8; 3]) {
        for y in y.saturating_sub(reach)..=(y + reach).min(self.height.saturating_sub(1)) {
            let row = 3 * (y as usize * self.width as usize);
            let begin = row + 3 * x.saturating_sub(reach) as usize;
            let end = row + 3 * ((x + reach + 1).min(self.width)) as usize;
            if let Some(pixels) = self.pixels.get_mut(begin..end) {
                pixels.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32) -> Picture {
        Picture { width, height, pixels: vec![128; 3 * (width * height) as usize] }
    }

    impl Picture {
        fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
            let at = 3 * (y * self.width + x) as usize;
            [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
        }
    }

    #[test]
    fn pixels_are_taken_as_they_lie() {
        let image =
            |format| Image { width: 1, height: 2, stride: 4, format, data: vec![1, 2, 3, 0, 4, 5, 6, 0].into() };
        assert_eq!(Picture::copy_of(&image(PixelFormat::Rgb8)).pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(Picture::copy_of(&image(PixelFormat::Bgr8)).pixels, [3, 2, 1, 6, 5, 4]);
    }

    #[test]
    fn small_pictures_grow_and_get_the_proportions_of_the_source() {
        let check = |size: (u32, u32), source, expected| {
            let picture = grey(size.0, size.1).in_proportion(source);
            assert_eq!((picture.width, picture.height), expected, "{size:?} {source:?}");
            assert_eq!(picture.pixels, grey(expected.0, expected.1).pixels);
        };
        check((416, 416), (1920, 1080), (640, 360));
        check((64, 36), (1920, 1080), (640, 360));
        check((360, 640), (1080, 1920), (360, 640));
        check((1920, 1080), (1920, 1080), (1920, 1080));
        check((1, 1), (3000, 1), (640, 1));
        let two = Picture { width: 2, height: 1, pixels: vec![0, 0, 0, 200, 200, 200] }.in_proportion((2, 1));
        assert_eq!((two.pixel(0, 0), two.pixel(639, 319)), ([0; 3], [200; 3]));
        assert!((90..110).contains(&two.pixel(320, 100)[0]));
    }

    #[test]
    fn a_box_is_drawn_where_it_is() {
        let mut picture = grey(640, 360);
        let area = BoxInImage { x: 300.0, y: 300.0, width: 600.0, height: 300.0 };
        picture.annotate(&Annotation { boxes: vec![area], shapes: Vec::new() }, (1920, 1080));
        // A third of the source's size.
        for (x, y) in [(100, 100), (200, 100), (300, 150), (100, 199), (299, 200)] {
            assert_eq!(picture.pixel(x, y), ORANGE, "{x},{y}");
        }
        for (x, y) in [(200, 150), (90, 90), (310, 150), (200, 210)] {
            assert_eq!(picture.pixel(x, y), [128; 3], "{x},{y}");
        }
        // The rim on both sides.
        assert!((102..106).any(|x| picture.pixel(x, 150) == BLACK) && (95..99).any(|x| picture.pixel(x, 150) == BLACK));
    }

    #[test]
    fn zones_are_closed_and_lines_are_not() {
        let shape = |is_closed| Shape {
            name: None,
            points: [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75]].as_slice().into(),
            is_closed,
        };
        for is_closed in [true, false] {
            let mut picture = grey(640, 640);
            picture.annotate(&Annotation { boxes: Vec::new(), shapes: vec![shape(is_closed)] }, (1, 1));
            assert_eq!(picture.pixel(320, 159), CYAN);
            assert_eq!(picture.pixel(479, 320), CYAN);
            // From the last corner back to the first.
            assert_eq!(picture.pixel(320, 320) == [128; 3], !is_closed);
            assert_eq!(picture.pixel(10, 10), [128; 3]);
        }
    }

    #[test]
    fn what_lies_outside_breaks_nothing() {
        let wild = [f32::NAN, f32::INFINITY, -1e30, 1e30, 0.0];
        for x in wild {
            for width in wild {
                let mut picture = grey(9, 5);
                let area = BoxInImage { x, y: width, width, height: x };
                let shape = Shape { name: None, points: [[x, width]].as_slice().into(), is_closed: true };
                picture.annotate(&Annotation { boxes: vec![area], shapes: vec![shape] }, (0, 0));
                assert_eq!(picture.pixels.len(), 3 * 9 * 5);
            }
        }
        assert!(grey(70_000, 1).jpeg().is_err_and(|e| e.contains("70000")));
        assert_eq!(grey(16, 16).jpeg().expect("jpeg")[..2], [0xff, 0xd8]);
    }
}
