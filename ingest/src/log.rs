//! Starts GStreamer once and sends all it has to say to `tracing`, free of secrets. Runs on whatever thread speaks;
//! must never write to standard error itself.

use std::sync::OnceLock;

use base::redact::scrub_urls;
use gstreamer::{self as gst, glib};

use crate::error::IngestError;

/// `tracing` target of everything that GStreamer says.
const TARGET: &str = "gstreamer";

/// Starts GStreamer; further calls do nothing. Its debug log goes to `tracing` under the target `gstreamer`: its errors
/// as `warn` (the error itself is told as a notice of the stream), warnings as `debug`, the rest as `trace`.
/// What it logs at all is set with the variable `GST_DEBUG`; without it, errors and warnings.
pub fn init() -> Result<(), IngestError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        glib::log_set_default_handler(glib_line);
        gst::init().map_err(|e| e.to_string())?;
        gst::log::remove_default_log_function();
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::set_default_threshold(gst::DebugLevel::Warning);
        }
        gst::log::set_active(true);
        gst::log::add_log_function(|category, level, _file, _function, _line, object, message| {
            if !tracing::enabled!(target: TARGET, tracing::Level::WARN) {
                return;
            }
            let text = message.get().map(|m| clean(&m)).unwrap_or_default();
            let name = object.map(|o| o.to_string()).unwrap_or_default();
            let (category, name) = (category.name(), scrub_urls(&name));
            match level {
                gst::DebugLevel::Error => tracing::warn!(target: TARGET, category, element = name, "{text}"),
                gst::DebugLevel::Warning => tracing::debug!(target: TARGET, category, element = name, "{text}"),
                _ => tracing::trace!(target: TARGET, category, element = name, "{text}"),
            }
        });
        Ok(())
    });
    done.clone().map_err(|cause| IngestError::Init { cause })
}

/// Lines of GLib and of libraries that log through it.
fn glib_line(domain: Option<&str>, level: glib::LogLevel, message: &str) {
    let (domain, text) = (domain.unwrap_or_default(), clean(message));
    match level {
        glib::LogLevel::Error | glib::LogLevel::Critical => tracing::warn!(target: TARGET, domain, "{text}"),
        glib::LogLevel::Warning => tracing::debug!(target: TARGET, domain, "{text}"),
        _ => tracing::trace!(target: TARGET, domain, "{text}"),
    }
}

/// Takes secrets out. GStreamer's most talkative levels print whole RTSP messages with their credentials' headers, and
/// the properties in which a source's password is set: such lines are left out whole.
fn clean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if ["authorization", "user-pw", "proxy-pw", "passphrase"].iter().any(|word| lower.contains(word)) {
        return "(line with credentials left out)".into();
    }
    scrub_urls(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out() {
        assert_eq!(clean("key: 'Authorization', value: 'Basic YTpi'"), "(line with credentials left out)");
        assert_eq!(clean("opening rtsp://a:b@c/d"), "opening rtsp://***@c/d");
    }
}
