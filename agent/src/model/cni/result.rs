//! What the plugins before this one gave a container.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::error::{CniError, Code};

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    ips: Vec<RawIp>,
    #[serde(default)]
    interfaces: Vec<RawInterface>,
}

#[derive(Deserialize)]
struct RawIp {
    address: String,
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct RawInterface {
    #[serde(default)]
    sandbox: String,
}

/// The most addresses that a container is expected to have.
const MOST_ADDRESSES: usize = 64;

/// The container's own addresses in a `prevResult`: those of interfaces inside its namespace, or of no named interface.
///
/// # Errors
/// When it is not a result of CNI 0.3 to 1.1, or names no address.
pub fn addresses(previous: &Value) -> Result<Vec<IpAddr>, CniError> {
    let wrong = |details: String| CniError::new(Code::Decoding, "prevResult cannot be read", details);
    let raw = Raw::deserialize(previous).map_err(|error| wrong(error.to_string()))?;
    if raw.ips.len() > MOST_ADDRESSES {
        return Err(wrong(format!("it has more than {MOST_ADDRESSES} addresses")));
    }
    let inside = |ip: &RawIp| {
        let interface = ip.interface.and_then(|index| raw.interfaces.get(index));
        interface.is_none_or(|interface| !interface.sandbox.is_empty())
    };
    let own = raw.ips.iter().filter(|ip| inside(ip)).map(|ip| {
        let address = ip.address.split_once('/').map_or(ip.address.as_str(), |(address, _)| address);
        address.parse().map_err(|_| wrong(format!("ips[].address {:?} is no address", shorten(&ip.address))))
    });
    let own: Vec<IpAddr> = own.collect::<Result<_, _>>()?;
    if own.is_empty() { Err(wrong("it gives the container no address".to_owned())) } else { Ok(own) }
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_containers_own_addresses_count() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [
                {"version": "4", "interface": 2, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"interface": 0, "address": "10.1.0.1/24"},
                {"interface": 2, "address": "fd00::5/64"},
            ],
        });
        let expected: Vec<IpAddr> = vec!["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(addresses(&result).unwrap(), expected);
    }

    #[test]
    fn an_address_of_no_interface_is_the_containers() {
        let result = json!({"ips": [{"address": "10.1.0.5/24"}, {"address": "10.1.0.6", "interface": 9}]});
        assert_eq!(addresses(&result).unwrap().len(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for result in [json!(null), json!({}), json!({"ips": [{"address": "x/24"}]}), json!({"ips": "10.1.0.5"})] {
            assert_eq!(addresses(&result).unwrap_err().code, Code::Decoding, "{result}");
        }
        let many: Vec<_> = (0..100).map(|_| json!({"address": "10.1.0.5/24"})).collect();
        assert!(addresses(&json!({"ips": many})).is_err());
    }
}
