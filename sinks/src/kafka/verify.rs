//! Why a broker's certificate is not accepted: librdkafka does not say whether it has expired, is for another host, or
//! comes from a stranger, so the handshake is made once more by a client that does.
//!
//! On a thread of its own, `kafka-verify`, or at start. Must never send a secret: if the certificate should be accepted
//! after all, what follows is an empty HTTP request, at which the broker hangs up.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use super::{connection::Access, reports::Shared};

const PATIENCE: Duration = Duration::from_secs(3);
/// What librdkafka says of every certificate that it does not accept.
const NOT_ACCEPTED: &str = "certificate verify failed";

/// Whether this text of librdkafka hides what is wrong with a certificate.
pub(crate) fn is_vague(trouble: &str) -> bool {
    trouble.contains(NOT_ACCEPTED) && trouble.contains("SSL handshake failed")
}

/// What is wrong with the certificate of the broker that `trouble` is about, in words that name it; none when that does
/// not show itself.
pub(crate) fn ask(access: &Access, trouble: &str) -> Option<String> {
    let (_, rest) = trouble.split_once("://")?;
    let (address, _) = rest.split_once('/')?;
    let mut client = reqwest::blocking::Client::builder().timeout(PATIENCE).no_proxy().https_only(true);
    let config = access.client().ok()?;
    if let Some(path) = config.get("ssl.ca.location").map(Path::new).filter(|path| path.is_file()) {
        for authority in reqwest::Certificate::from_pem_bundle(&std::fs::read(path).ok()?).ok()? {
            client = client.add_root_certificate(authority);
        }
    }
    let error = client.build().ok()?.head(format!("https://{address}/")).send().err()?;
    let mut cause: Option<&dyn Error> = Some(&error);
    let mut reason = None;
    while let Some(error) = cause {
        // OpenSSL's own words stand in brackets at the end.
        let text = error.to_string();
        if let Some((_, last)) = text.rsplit_once('(')
            && text.contains(NOT_ACCEPTED)
        {
            reason = Some(last.trim_end_matches(')').to_owned());
        }
        cause = error.source();
    }
    let reason = reason?;
    let advice = match reason.contains("issuer") || reason.contains("self-signed") {
        true => ": set properties.\"ssl.ca.location\" to the certificate of the authority that signed it",
        false => "",
    };
    Some(format!("{NOT_ACCEPTED} for the broker at {address}: {reason}{advice}"))
}

/// Asks on a thread of its own, and puts the answer in the place of the vague trouble.
pub(super) fn ask_later(access: &Access, shared: &Arc<Shared>, trouble: String) {
    let (access, into) = (access.clone(), Arc::clone(shared));
    let look = move || {
        let answer = ask(&access, &trouble);
        into.account.lock().certificate = answer;
    };
    if let Err(error) = std::thread::Builder::new().name("kafka-verify".into()).spawn(look) {
        tracing::debug!(sink = shared.name, %error, "no thread to look at a certificate");
    }
}
