//! From decoded pictures to the model's input tensor: the one copy between the decoder and the network.
//!
//! `f32 [batch, 3, height, width]` (or `[batch, height, width, 3]`), values `(pixel * scale - mean) / std`. The buffer lives
//! as long as the engine; padding is written only when the picture's size changes. Runs on the inference thread.
//!
//! Bytes into a graph that casts and transposes itself took as long (10.7 ms a run of ssdlite-mbv2 both ways), so models
//! stay as they are and the copy converts.

use base::{
    event::BoxInImage,
    media::{Frame, Image, PictureRequest, PixelFormat},
};

use crate::{
    InferenceError,
    manifest::{Anchor, Axes, Color, Input, Range},
};

/// The input tensor of one engine, reused for every run.
pub(crate) struct InputTensor {
    request: PictureRequest,
    anchor: Anchor,
    axes: Axes,
    color: Color,
    /// Per channel of the tensor: value = pixel * gain + bias.
    gain: [f32; 3],
    bias: [f32; 3],
    pad: u8,
    data: Vec<f32>,
    /// Size of the picture last written into each place of the batch: its padding is still there.
    written: Vec<Option<(u32, u32)>>,
}

/// Where a source picture lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    left: f32,
    top: f32,
    /// Tensor pixels per source pixel.
    scale_x: f32,
    scale_y: f32,
    source_width: f32,
    source_height: f32,
}

impl InputTensor {
    /// A tensor for at most `max_batch` pictures of `request`'s size.
    pub(crate) fn new(input: &Input, request: PictureRequest, max_batch: usize) -> Self {
        let scale = match input.range {
            Range::Bytes => 1.0,
            Range::Unit => 1.0 / 255.0,
        };
        Self {
            request,
            anchor: input.anchor,
            axes: input.axes,
            color: input.color,
            gain: input.std.map(|s| scale / s),
            bias: std::array::from_fn(|c| -input.mean[c] / input.std[c]),
            pad: input.pad,
            data: vec![0.0; max_batch * 3 * request.width as usize * request.height as usize],
            written: vec![None; max_batch],
        }
    }

    /// The picture that `write` takes.
    pub(crate) fn request(&self) -> PictureRequest {
        self.request
    }

    /// Sides of the tensor for a batch of `n`.
    pub(crate) fn shape(&self, n: usize) -> [usize; 4] {
        let (w, h) = (self.request.width as usize, self.request.height as usize);
        match self.axes {
            Axes::Nchw => [n, 3, h, w],
            Axes::Nhwc => [n, h, w, 3],
        }
    }

    /// The values for a batch of `n`.
    pub(crate) fn values(&self, n: usize) -> &[f32] {
        &self.data[..n * self.len_of_one()]
    }

    fn len_of_one(&self) -> usize {
        3 * self.request.width as usize * self.request.height as usize
    }

    /// Left and top of a picture of `width` x `height` in the tensor.
    fn corner(&self, width: u32, height: u32) -> (u32, u32) {
        match self.anchor {
            Anchor::TopLeft => (0, 0),
            Anchor::Center => ((self.request.width - width) / 2, (self.request.height - height) / 2),
        }
    }

    /// Writes one picture into its place of the batch.
    ///
    /// # Errors
    /// [`InferenceError::WrongPicture`] when the picture is not of the size that was asked for; nothing is written then.
    pub(crate) fn write(&mut self, place: usize, frame: &Frame) -> Result<Placement, InferenceError> {
        let image = &frame.image;
        let wanted = self.request.scaled_size(frame.source_width, frame.source_height);
        let n_needed = image.stride * (image.height.max(1) as usize - 1) + 3 * image.width as usize;
        if (image.width, image.height) != wanted
            || image.stride < 3 * image.width as usize
            || image.data.len() < n_needed
        {
            return Err(InferenceError::WrongPicture {
                expected: format!("{}x{} pixels, 3 bytes each", wanted.0, wanted.1),
                found: format!("{image:?} in {} bytes", image.data.len()),
            });
        }
        if self.written[place] != Some(wanted) {
            self.fill_padding(place);
            self.written[place] = Some(wanted);
        }
        let (left, top) = self.corner(image.width, image.height);
        match self.axes {
            Axes::Nchw => self.write_planes(place, image, left as usize, top as usize),
            Axes::Nhwc => self.write_pixels(place, image, left as usize, top as usize),
        }
        Ok(Placement {
            left: left as f32,
            top: top as f32,
            scale_x: image.width as f32 / frame.source_width as f32,
            scale_y: image.height as f32 / frame.source_height as f32,
            source_width: frame.source_width as f32,
            source_height: frame.source_height as f32,
        })
    }

    fn one(&mut self, place: usize) -> &mut [f32] {
        let n = self.len_of_one();
        &mut self.data[place * n..(place + 1) * n]
    }

    fn fill_padding(&mut self, place: usize) {
        let value: [f32; 3] = std::array::from_fn(|c| f32::from(self.pad) * self.gain[c] + self.bias[c]);
        let (axes, n) = (self.axes, self.len_of_one() / 3);
        let data = self.one(place);
        match axes {
            Axes::Nchw => data.chunks_exact_mut(n).zip(value).for_each(|(plane, v)| plane.fill(v)),
            Axes::Nhwc => data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&value)),
        }
    }

    /// Which byte of a pixel goes into which channel.
    fn byte_of_channel(&self, format: PixelFormat) -> [usize; 3] {
        match (self.color, format) {
            (Color::Rgb, PixelFormat::Rgb8) | (Color::Bgr, PixelFormat::Bgr8) => [0, 1, 2],
            _ => [2, 1, 0],
        }
    }

    fn write_planes(&mut self, place: usize, image: &Image, left: usize, top: usize) {
        let (gain, bias, from) = (self.gain, self.bias, self.byte_of_channel(image.format));
        let (w, n) = (self.request.width as usize, self.len_of_one() / 3);
        let (c0, rest) = self.one(place).split_at_mut(n);
        let (c1, c2) = rest.split_at_mut(n);
        for y in 0..image.height {
            let at = (top + y as usize) * w + left;
            let row = image.row(y).chunks_exact(3);
            let to = c0[at..].iter_mut().zip(&mut c1[at..]).zip(&mut c2[at..]);
            for (pixel, ((a, b), c)) in row.zip(to) {
                *a = f32::from(pixel[from[0]]) * gain[0] + bias[0];
                *b = f32::from(pixel[from[1]]) * gain[1] + bias[1];
                *c = f32::from(pixel[from[2]]) * gain[2] + bias[2];
            }
        }
    }

    fn write_pixels(&mut self, place: usize, image: &Image, left: usize, top: usize) {
        let (gain, bias, from) = (self.gain, self.bias, self.byte_of_channel(image.format));
        let w = self.request.width as usize;
        let data = self.one(place);
        for y in 0..image.height {
            let at = 3 * ((top + y as usize) * w + left);
            for (pixel, to) in image.row(y).chunks_exact(3).zip(data[at..].chunks_exact_mut(3)) {
                for c in 0..3 {
                    to[c] = f32::from(pixel[from[c]]) * gain[c] + bias[c];
                }
            }
        }
    }
}

impl Placement {
    /// A box of the tensor in source pixels, cut at the picture's edge; none when nothing of it is inside.
    pub(crate) fn box_in_image(&self, box_in_tensor: [f32; 4]) -> Option<BoxInImage> {
        let [x1, y1, x2, y2] = box_in_tensor;
        let x = |v: f32| ((v - self.left) / self.scale_x).clamp(0.0, self.source_width);
        let y = |v: f32| ((v - self.top) / self.scale_y).clamp(0.0, self.source_height);
        let (left, top) = (x(x1), y(y1));
        let (width, height) = (x(x2) - left, y(y2) - top);
        // Written so that NaN is left out too.
        (width > 0.0 && height > 0.0).then_some(BoxInImage { x: left, y: top, width, height })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{
        media::{Fit, SessionId},
        time::Pts,
    };

    use super::*;
    use crate::manifest::FitTo;

    fn input() -> Input {
        Input {
            width: 4,
            height: 4,
            multiple_of: None,
            color: Color::Rgb,
            range: Range::Bytes,
            mean: [0.0; 3],
            std: [1.0; 3],
            fit: FitTo::Letterbox,
            anchor: Anchor::TopLeft,
            pad: 114,
            axes: Axes::Nchw,
        }
    }

    /// A 4x2 picture (of a source of 8x4) whose pixel i is (10 i, 10 i + 1, 10 i + 2), with two bytes of stride padding.
    fn frame() -> Frame {
        let mut data = Vec::new();
        for y in 0..2_u8 {
            (0..4).for_each(|x| (0..3).for_each(|c| data.push((y * 4 + x) * 10 + c)));
            data.extend([255, 255]);
        }
        Frame {
            session: SessionId::derived([]),
            index: 0,
            pts: Pts::ZERO,
            captured: None,
            decoded_at: Duration::ZERO,
            source_width: 8,
            source_height: 4,
            image: Image { width: 4, height: 2, stride: 14, format: PixelFormat::Rgb8, data: data.into() },
        }
    }

    fn written(input: &Input) -> (InputTensor, Placement) {
        let mut tensor = InputTensor::new(input, input.picture_request(4, 4), 2);
        let placement = tensor.write(1, &frame()).expect("fits");
        (tensor, placement)
    }

    #[test]
    fn planes_with_padding() {
        let plane = |c: f32, pad: [bool; 4]| -> Vec<f32> {
            let mut i = -10.0;
            let mut row = |padded: bool| -> Vec<f32> {
                let mut value = || {
                    i += 10.0;
                    i + c
                };
                (0..4).map(|_| if padded { 114.0 } else { value() }).collect()
            };
            pad.into_iter().flat_map(&mut row).collect()
        };
        let check = |input: Input, channels: [f32; 3], pad: [bool; 4]| {
            let (tensor, _) = written(&input);
            let expected: Vec<f32> = channels.into_iter().flat_map(|c| plane(c, pad)).collect();
            assert_eq!(tensor.values(2)[48..], expected);
            assert_eq!(tensor.shape(2), [2, 3, 4, 4]);
        };
        let below = [false, false, true, true];
        check(input(), [0.0, 1.0, 2.0], below);
        check(Input { color: Color::Bgr, ..input() }, [2.0, 1.0, 0.0], below);
        check(Input { anchor: Anchor::Center, ..input() }, [0.0, 1.0, 2.0], [true, false, false, true]);
    }

    #[test]
    fn range_mean_and_pixels() {
        let check = |input: Input, first: [f32; 3]| {
            let (tensor, _) = written(&input);
            let got = &tensor.values(2)[48 + 3..48 + 6];
            assert!(got.iter().zip(first).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {first:?}");
        };
        let nhwc = Input { axes: Axes::Nhwc, ..input() };
        check(nhwc.clone(), [10.0, 11.0, 12.0]);
        check(Input { range: Range::Unit, ..nhwc.clone() }, [10.0 / 255.0, 11.0 / 255.0, 12.0 / 255.0]);
        check(Input { mean: [10.0, 1.0, 0.0], std: [2.0, 5.0, 4.0], ..nhwc }, [0.0, 2.0, 3.0]);
    }

    #[test]
    fn padding_is_renewed_when_the_size_changes() {
        let mut tensor = InputTensor::new(&input(), input().picture_request(4, 4), 1);
        let tall = Frame { source_width: 4, source_height: 8, ..frame() };
        let tall = Frame {
            image: Image { width: 2, height: 4, stride: 6, data: vec![7; 24].into(), ..tall.image.clone() },
            ..tall
        };
        tensor.write(0, &frame()).expect("fits");
        tensor.write(0, &tall).expect("fits");
        assert_eq!(tensor.values(1)[..8], [7., 7., 114., 114., 7., 7., 114., 114.]);
        tensor.write(0, &frame()).expect("fits");
        assert_eq!(tensor.values(1)[8..16], [114.0; 8]);
    }

    #[test]
    fn boxes_go_back_to_the_source() {
        let check = |anchor, b: [f32; 4], expected: Option<[f32; 4]>| {
            let (_, placement) = written(&Input { anchor, ..input() });
            let expected = expected.map(|[x, y, width, height]| BoxInImage { x, y, width, height });
            assert_eq!(placement.box_in_image(b), expected, "{anchor:?} {b:?}");
        };
        check(Anchor::TopLeft, [1., 1., 3., 2.], Some([2., 2., 4., 2.]));
        check(Anchor::Center, [1., 1., 3., 2.], Some([2., 0., 4., 2.]));
        check(Anchor::TopLeft, [-3., -3., 9., 9.], Some([0., 0., 8., 4.]));
        check(Anchor::TopLeft, [1., 3., 3., 4.], None);
        check(Anchor::TopLeft, [f32::NAN, 0., 3., 4.], None);
    }

    #[test]
    fn a_wrong_picture_is_refused() {
        let mut tensor = InputTensor::new(&input(), input().picture_request(4, 4), 1);
        let good = frame();
        let check = |image: Image| {
            let refused = tensor.write(0, &Frame { image, ..frame() });
            assert!(matches!(refused, Err(InferenceError::WrongPicture { .. })), "{refused:?}");
        };
        [
            Image { width: 3, ..good.image.clone() },
            Image { height: 3, ..good.image.clone() },
            Image { stride: 11, ..good.image.clone() },
            Image { data: good.image.data.slice(..20), ..good.image.clone() },
        ]
        .into_iter()
        .for_each(check);
        assert_eq!(input().picture_request(4, 4).fit, Fit::Letterbox);
    }
}
