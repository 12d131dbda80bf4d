//! The source kinds, one file each. See [`crate::registry`] for the list.

use gstreamer::{self as gst, glib, prelude::*};
use gstreamer_app as gst_app;

use crate::error::IngestError;

pub(crate) mod file;
pub(crate) mod generic;
pub(crate) mod http;
pub(crate) mod rtmp;
pub(crate) mod rtsp;
pub(crate) mod srt;
pub(crate) mod test;
pub(crate) mod udp;
pub(crate) mod v4l2;

/// Makes an element, or says which package has it.
pub(crate) fn make(factory: &str) -> Result<gst::Element, IngestError> {
    gst::ElementFactory::make(factory).build().map_err(|_| IngestError::MissingElement {
        element: factory.to_owned(),
        package: crate::doctor::package_of(factory),
    })
}

/// User and password of a URL, unescaped; the URL keeps neither. None when it has no user.
pub(crate) fn take_credentials(url: &mut url::Url) -> Option<(String, String)> {
    let (user, password) = (unescaped(url.username()), unescaped(url.password().unwrap_or_default()));
    // Fails only for URLs that cannot have a user.
    let taken = url.set_username("").and_then(|()| url.set_password(None)).is_ok();
    (taken && !user.is_empty()).then_some((user, password))
}

/// Resolves `%41`; what follows a `%` that is no code stays.
fn unescaped(text: &str) -> String {
    // As the value of a form, in which alone a plus sign would mean something else.
    let form = format!("v={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, v)| v.into_owned()).unwrap_or_default()
}

/// An `appsink` that hands on what comes, at once, and keeps nothing.
pub(crate) fn app_sink() -> Result<gst_app::AppSink, IngestError> {
    let missing =
        |_| IngestError::MissingElement { element: "appsink".into(), package: crate::doctor::package_of("appsink") };
    let sink = make("appsink")?.downcast::<gst_app::AppSink>().map_err(missing)?;
    sink.set_sync(false);
    sink.set_async(false);
    sink.set_max_buffers(1);
    sink.set_enable_last_sample(false);
    Ok(sink)
}

/// Chains of elements in one bin, with a pad for the end of each.
pub(crate) fn bin_of(chains: &[&[gst::Element]]) -> Result<gst::Element, String> {
    let text = |e: glib::BoolError| e.to_string();
    let bin = gst::Bin::new();
    for (i, chain) in chains.iter().enumerate() {
        bin.add_many(chain.iter()).map_err(text)?;
        gst::Element::link_many(chain.iter()).map_err(text)?;
        let end = chain.last().and_then(|e| e.static_pad("src")).ok_or("an element has no source pad")?;
        let pad = gst::GhostPad::builder_with_target(&end).map_err(text)?.name(format!("src_{i}")).build();
        bin.add_pad(&pad).map_err(text)?;
    }
    Ok(bin.upcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let mut url = url::Url::parse("rtsp://ad+min:p%40ss%2Fw@cam/1").expect("url");
        assert_eq!(take_credentials(&mut url), Some(("ad+min".into(), "p@ss/w".into())));
        assert_eq!(url.as_str(), "rtsp://cam/1");
        assert_eq!(take_credentials(&mut url), None);
    }
}
