//! Which address asks, where proxies stand between. Pure.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Addresses whose word on where a request comes from is taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies(Vec<(IpAddr, u32)>);

impl Proxies {
    /// Of addresses and networks such as `10.0.0.0/8`; the first that is neither.
    pub(super) fn parse(texts: &[String]) -> Result<Self, &str> {
        texts.iter().map(|text| one(text).ok_or(text.as_str())).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(network, n_bits)| match (*network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same(network.to_bits().into(), address.to_bits().into(), 32, *n_bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => same(network.to_bits(), address.to_bits(), 128, *n_bits),
            _ => false,
        })
    }

    /// Who asks: the peer, or the last address before it that is no proxy of ours.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let said = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = said.flat_map(|value| value.split(',')).collect();
        for hop in hops.iter().rev() {
            if !self.has(client) {
                break;
            }
            let Some(address) = said_address(hop.trim()) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// An address, which some proxies write with its port, and of IPv6 in brackets.
fn said_address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse().ok().map(|with_port: SocketAddr| with_port.ip());
    hop.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

/// Whether the browser came by `https`, as far as a proxy says. It decides on nothing but that browser's own cookie, so
/// that any proxy may say it.
pub(super) fn came_by_https(headers: &HeaderMap) -> bool {
    let said = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split(',').next().is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

fn one(text: &str) -> Option<(IpAddr, u32)> {
    let (address, n_bits) = match text.split_once('/') {
        Some((address, n_bits)) => (address.parse::<IpAddr>().ok()?, Some(n_bits.parse::<u32>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let n_bits = n_bits.unwrap_or(most);
    (n_bits <= most).then_some((address, n_bits))
}

fn same(network: u128, address: u128, width: u32, n_bits: u32) -> bool {
    n_bits == 0 || (network ^ address) >> (width - n_bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let check = |text: &str, address: &str, expected: Option<bool>| {
            let proxies = Proxies::parse(&[text.to_owned()]).ok().map(|p| p.has(address.parse().expect("address")));
            assert_eq!(proxies, expected, "{text} {address}");
        };
        check("10.0.0.0/8", "10.255.1.2", Some(true));
        check("10.0.0.0/8", "11.0.0.1", Some(false));
        check("10.0.0.7", "10.0.0.7", Some(true));
        check("10.0.0.7", "10.0.0.6", Some(false));
        check("0.0.0.0/0", "203.0.113.9", Some(true));
        check("0.0.0.0/0", "2001:db8::1", Some(false));
        check("2001:db8::/32", "2001:db8:7::1", Some(true));
        check("2001:db8::/32", "2001:db9::1", Some(false));
        check("::/0", "::1", Some(true));
        for text in ["", "proxy.lan", "10.0.0.0/33", "10.0.0.0/x", "::/129"] {
            check(text, "::1", None);
        }
    }

    #[test]
    fn only_our_proxies_are_believed() {
        let proxies = Proxies::parse(&["127.0.0.1".into(), "10.0.0.0/8".into()]).expect("networks");
        let check = |peer: &str, said: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FORWARDED_FOR, value.parse().expect("value"));
            }
            let client = proxies.client(peer.parse().expect("address"), &headers);
            assert_eq!(client.to_string(), expected, "{peer} {said:?}");
        };
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("127.0.0.1", &[], "127.0.0.1");
        check("127.0.0.1", &["198.51.100.1"], "198.51.100.1");
        // What a client has written itself stands before what our proxies add.
        check("127.0.0.1", &["192.0.2.66, 198.51.100.1, 10.0.0.5"], "198.51.100.1");
        check("127.0.0.1", &["192.0.2.66", "198.51.100.1,10.1.1.1"], "198.51.100.1");
        check("::ffff:127.0.0.1", &["2001:db8::1"], "2001:db8::1");
        check("127.0.0.1", &["198.51.100.1:51234"], "198.51.100.1");
        check("127.0.0.1", &["[2001:db8::1]:443, [::ffff:10.0.0.5]"], "2001:db8::1");
        check("127.0.0.1", &["unknown"], "127.0.0.1");
        check("127.0.0.1", &["198.51.100.1, unknown"], "127.0.0.1");
    }

    #[test]
    fn https() {
        let check = |said: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(FORWARDED_PROTO, said.parse().expect("value"));
            }
            assert_eq!(came_by_https(&headers), expected, "{said:?}");
        };
        check(None, false);
        check(Some("http"), false);
        check(Some("HTTPS"), true);
        check(Some("https, http"), true);
        check(Some("http, https"), false);
    }
}
