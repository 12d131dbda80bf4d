//! Signatures of the Standard Webhooks specification 1.0.0, "Signature scheme", symmetric: pure functions.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::ops::RangeInclusive;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret in base64 begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const N_BYTES: RangeInclusive<usize> = 24..=64;
/// Some tools leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key to sign with.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

/// What is wrong with a secret. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSecret {
    #[error("what follows `whsec_` is not base64")]
    NotBase64,
    #[error("a secret has 24 to 64 bytes, and this one has {0}; make one with `echo whsec_$(openssl rand -base64 32)`")]
    Length(usize),
}

impl Key {
    /// From `whsec_` and base64, or from any other text as it is.
    pub(super) fn parse(text: &str) -> Result<Self, BadSecret> {
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => LENIENT.decode(encoded).map_err(|_| BadSecret::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if !N_BYTES.contains(&bytes.len()) {
            return Err(BadSecret::Length(bytes.len()));
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| BadSecret::Length(bytes.len()))
    }
}

/// The value of `webhook-signature`: one signature a key. `at` is in seconds since 1970. `id` has no full stop in it.
pub(super) fn sign(keys: &[Key], id: &str, at: i64, body: &[u8]) -> String {
    let one = |key: &Key| {
        let mut mac = key.0.clone();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the specification's own libraries are tested with.
    #[test]
    fn as_specified() {
        let key = |text: &str| Key::parse(text).expect(text);
        let check = |keys: &[Key], expected: &str| {
            let got = sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
            assert_eq!(got, expected);
        };
        let first = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        check(std::slice::from_ref(&first), signature);
        // While a secret is replaced: one of each.
        check(&[first.clone(), first], &format!("{signature} {signature}"));
        check(&[], "");
    }

    #[test]
    fn secrets() {
        let check =
            |text: &str, expected: Result<(), BadSecret>| assert_eq!(Key::parse(text).map(drop), expected, "{text}");
        check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Ok(()));
        check("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA", Ok(()));
        check("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA==", Ok(()));
        check("whsec_MfKQ9r8G", Err(BadSecret::Length(6)));
        check("whsec_not base64", Err(BadSecret::NotBase64));
        check("twenty-three-characters", Err(BadSecret::Length(23)));
        check("twenty-four-characters-x", Ok(()));
        check(&"x".repeat(64), Ok(()));
        check(&"x".repeat(65), Err(BadSecret::Length(65)));
    }
}
