//! Single values as manifests write them: addresses, ports, names, labels.

use std::net::IpAddr;

use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::objects::meta::ObjectMeta;
use crate::mesh::source::problem::Fault;

/// An address that a pod or a service can have, in canonical form.
pub(super) fn address(text: &str, field: FieldPath) -> Result<IpAddr, Fault> {
    let fault = |why: &str| Fault::new(field.clone(), format!("{:?} {why}", shorten(text)));
    let ip: IpAddr = text.parse().map_err(|_| fault("is not an IP address"))?;
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Err(fault("cannot be reached by others (unspecified, loopback, link-local or multicast)"));
    }
    Ok(ip)
}

/// A TCP port number.
pub(super) fn port(number: i64, field: FieldPath) -> Result<u16, Fault> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Fault::new(field, format!("must be a port number from 1 to 65535, not {number}"))),
    }
}

/// Name, namespace and label values of any object.
pub(super) fn metadata(metadata: &ObjectMeta, name_is_label: bool, faults: &mut Vec<Fault>) {
    let name = FieldPath::of("metadata.name");
    if metadata.name.is_empty() {
        faults.push(Fault::new(name, "is missing"));
    } else if !is_subdomain(&metadata.name) || (name_is_label && !is_label(&metadata.name)) {
        let form = if name_is_label { "1 to 63 characters of a-z, 0-9 and '-'" } else { SUBDOMAIN };
        faults.push(Fault::new(name, format!("{:?} is not a valid name: {form}", shorten(&metadata.name))));
    }
    if !is_label(metadata.namespace_or_default()) {
        let message =
            format!("{:?} is not a valid name: 1 to 63 characters of a-z, 0-9 and '-'", shorten(&metadata.namespace));
        faults.push(Fault::new(FieldPath::of("metadata.namespace"), message));
    }
    for (key, value) in metadata.labels.iter() {
        if !is_label_value(value) {
            let message = format!(
                "{:?} is not a label value: up to 63 characters of A-Z, a-z, 0-9, '-', '_' and '.'",
                shorten(value)
            );
            faults.push(Fault::new(FieldPath::of("metadata.labels").key(key), message));
        }
    }
}

/// The form of most names (RFC 1123 subdomain).
pub(super) const SUBDOMAIN: &str = "1 to 253 characters of a-z, 0-9, '-' and '.'";

/// Whether a text has the form [`SUBDOMAIN`].
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

fn is_label_of_any_length(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(allowed)
}

/// Whether a text can be a label's value.
pub(super) fn is_label_value(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
