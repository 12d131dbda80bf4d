//! From a frame to the body of a request. On the endpoint's encoding threads. Pure but for the memory it takes.

use std::borrow::Cow;

use base::media::{Frame, Image, PixelFormat};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::json;

use super::config::{Datatype, EndpointConfig, ImageFormat, Layout, Protocol};

/// What is posted for one frame.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) content_type: &'static str,
    /// Length of the JSON before the tensors (binary tensor data extension).
    pub(super) json_bytes: Option<usize>,
    pub(super) bytes: Bytes,
    /// Size in pixels of the picture in it.
    pub(super) size: (u32, u32),
}

/// The request's body for a frame.
///
/// # Errors
/// In words, when the picture cannot be encoded: sides of more than 65535 pixels as JPEG, say.
pub(super) fn body(config: &EndpointConfig, frame: &Frame) -> Result<Body, String> {
    let image = &frame.image;
    let size = (image.width, image.height);
    if config.protocol != Protocol::Kserve {
        let bytes = encoded(config, image)?.into();
        return Ok(Body { content_type: config.image.content_type(), json_bytes: None, bytes, size });
    }
    let kserve = &config.kserve;
    // For the server's logs, and because some servers answer none without.
    let id = format!("{}-{}", frame.session, frame.index);
    let (datatype, shape, tensor) = match kserve.datatype {
        Datatype::Bytes => ("BYTES", kserve.shape.clone(), encoded(config, image)?),
        Datatype::Uint8 => ("UINT8", shape(kserve.layout, size), planes(kserve.layout, image)),
    };
    let mut input = json!({ "name": kserve.input, "shape": shape, "datatype": datatype });
    if !kserve.binary {
        match kserve.datatype {
            Datatype::Bytes => {
                input["parameters"] = json!({ "content_type": "base64" });
                input["data"] = json!([STANDARD.encode(&tensor)]);
            }
            Datatype::Uint8 => input["data"] = json!(tensor),
        }
        let bytes = json!({ "id": id, "inputs": [input] }).to_string().into_bytes().into();
        return Ok(Body { content_type: "application/json", json_bytes: None, bytes, size });
    }
    // An element of BYTES is its length in four bytes, little endian, and the bytes.
    let length = match kserve.datatype {
        Datatype::Bytes => u32::try_from(tensor.len()).map_err(|e| e.to_string())?.to_le_bytes().to_vec(),
        Datatype::Uint8 => Vec::new(),
    };
    input["parameters"] = json!({ "binary_data_size": length.len() + tensor.len() });
    let parameters = json!({ "binary_data_output": true });
    let mut bytes = json!({ "id": id, "inputs": [input], "parameters": parameters }).to_string().into_bytes();
    let json_bytes = Some(bytes.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&tensor);
    Ok(Body { content_type: "application/octet-stream", json_bytes, bytes: bytes.into(), size })
}

fn encoded(config: &EndpointConfig, image: &Image) -> Result<Vec<u8>, String> {
    let pixels = rgb(image);
    let mut out = Vec::with_capacity(pixels.len() / 8);
    match config.image {
        ImageFormat::Jpeg => {
            let side = |side: u32| u16::try_from(side).map_err(|_| format!("a side of {side} pixels is too long"));
            jpeg_encoder::Encoder::new(&mut out, config.quality)
                .encode(&pixels, side(image.width)?, side(image.height)?, jpeg_encoder::ColorType::Rgb)
                .map_err(|e| e.to_string())?;
        }
        ImageFormat::Png => {
            let mut encoder = png::Encoder::new(&mut out, image.width, image.height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_compression(png::Compression::Fast);
            let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
            writer.write_image_data(&pixels).and_then(|()| writer.finish()).map_err(|e| e.to_string())?;
        }
    }
    Ok(out)
}

/// `u8 [height, width, 3]`, red first, without padding.
fn rgb(image: &Image) -> Cow<'_, [u8]> {
    let length = 3 * image.width as usize * image.height as usize;
    if image.format == PixelFormat::Rgb8 && image.stride == 3 * image.width as usize {
        return Cow::Borrowed(&image.data[..length]);
    }
    let mut pixels = Vec::with_capacity(length);
    (0..image.height).for_each(|y| pixels.extend_from_slice(image.row(y)));
    if image.format == PixelFormat::Bgr8 {
        pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
    }
    Cow::Owned(pixels)
}

fn shape(layout: Layout, (width, height): (u32, u32)) -> Vec<u32> {
    match layout {
        Layout::Nhwc => vec![1, height, width, 3],
        Layout::Hwc => vec![height, width, 3],
        Layout::Nchw => vec![1, 3, height, width],
        Layout::Chw => vec![3, height, width],
    }
}

fn planes(layout: Layout, image: &Image) -> Vec<u8> {
    let pixels = rgb(image);
    match layout {
        Layout::Nhwc | Layout::Hwc => pixels.into_owned(),
        Layout::Nchw | Layout::Chw => {
            (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{media::SessionId, time::Pts};

    use super::*;

    /// 4x2, blue first, with padding: its left half is red, its right half green.
    fn frame() -> Frame {
        let row = [[0, 0, 255], [0, 0, 255], [0, 255, 0], [0, 255, 0]].concat();
        let data = [row.as_slice(), &[9; 4], &row, &[9; 4]].concat();
        Frame {
            session: SessionId::derived([]),
            index: 0,
            pts: Pts::ZERO,
            captured: None,
            decoded_at: Duration::ZERO,
            source_width: 8,
            source_height: 4,
            image: Image { width: 4, height: 2, stride: 16, format: PixelFormat::Bgr8, data: data.into() },
        }
    }

    fn config(protocol: Protocol) -> EndpointConfig {
        EndpointConfig::new("http://h", protocol)
    }

    #[test]
    fn pictures_come_out_as_they_went_in() {
        let png = EndpointConfig { image: ImageFormat::Png, ..config(Protocol::Sagemaker) };
        let got = body(&png, &frame()).expect("encoded");
        assert_eq!((got.content_type, got.size, got.json_bytes), ("image/png", (4, 2), None));
        let mut reader = png::Decoder::new(std::io::Cursor::new(&got.bytes)).read_info().expect("png");
        let mut pixels = vec![0; reader.output_buffer_size().expect("size")];
        reader.next_frame(&mut pixels).expect("pixels");
        let row = [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 255, 0]].concat();
        assert_eq!(pixels, [row.clone(), row].concat());
        let jpeg = body(&config(Protocol::Raw), &frame()).expect("encoded");
        assert_eq!((jpeg.content_type, &jpeg.bytes[..3]), ("image/jpeg", &[0xff, 0xd8, 0xff][..]));
    }

    #[test]
    fn tensors() {
        let check = |datatype, layout, binary, header: serde_json::Value, tail: &[u8]| {
            let mut config = config(Protocol::Kserve);
            (config.kserve.datatype, config.kserve.layout, config.kserve.binary) = (datatype, layout, binary);
            let got = body(&config, &frame()).expect("encoded");
            let (head, rest) = got.bytes.split_at(got.json_bytes.unwrap_or(got.bytes.len()));
            let head: serde_json::Value = serde_json::from_slice(head).expect("json");
            assert_eq!(head["inputs"][0], header);
            if datatype == Datatype::Uint8 {
                assert_eq!(rest, tail);
            } else if binary {
                let (length, picture) = rest.split_at(4);
                assert_eq!(length, u32::try_from(picture.len()).expect("small").to_le_bytes());
                assert_eq!(&picture[..3], tail);
            }
        };
        let planes = [[255, 255, 0, 0].repeat(2), [0, 0, 255, 255].repeat(2), [0; 8].to_vec()].concat();
        let packed = [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 255, 0]].concat().repeat(2);
        let sized = |shape: serde_json::Value, n| json!({ "name": "image", "shape": shape, "datatype": "UINT8", "parameters": { "binary_data_size": n } });
        check(Datatype::Uint8, Layout::Nchw, true, sized(json!([1, 3, 2, 4]), 24), &planes);
        check(Datatype::Uint8, Layout::Hwc, true, sized(json!([2, 4, 3]), 24), &packed);
        let written = json!({ "name": "image", "shape": [2, 4, 3], "datatype": "UINT8", "data": packed });
        check(Datatype::Uint8, Layout::Hwc, false, written, &[]);
        let jpeg = body(&config(Protocol::Raw), &frame()).expect("encoded").bytes;
        let bytes = json!({ "name": "image", "shape": [1], "datatype": "BYTES", "parameters": { "binary_data_size": jpeg.len() + 4 } });
        check(Datatype::Bytes, Layout::Hwc, true, bytes, &[0xff, 0xd8, 0xff]);
        let base64 = json!({ "name": "image", "shape": [1], "datatype": "BYTES", "parameters": { "content_type": "base64" }, "data": [STANDARD.encode(&jpeg)] });
        check(Datatype::Bytes, Layout::Hwc, false, base64, &[]);
    }
}
