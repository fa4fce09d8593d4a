//! Headers and names: what is accepted prints as text that reads back as the same thing.

use sotto::drivers::tunnel::Cause;
use sotto::model::authority::Authority;
use sotto::model::baggage::Baggage;
use sotto::model::forwarded::Forwarded;
use sotto::model::identity::{Identity, TrustDomain};
use sotto::model::traceparent::Traceparent;

/// Errors about hostile texts are this long at most, in bytes: 80 characters, each escaped, and words around them.
const LONGEST_ERROR: usize = 1200;

pub(crate) const ADDRESS_WORDS: &[&str] = &[
    "127.0.0.1",
    "::1",
    "[fd00::1]",
    "::ffff:",
    ":65535",
    ":0",
    "%eth0",
    ".svc.cluster.local",
    "spiffe://",
    "/ns/",
    "/sa/",
    "cluster.local",
    "@",
    "http://",
];

pub(crate) const HEADER_WORDS: &[&str] = &[
    "k8s.cluster.name=",
    "k8s.namespace.name=",
    "k8s.deployment.name=",
    "k8s.pod.name=",
    "k8s.job.name=",
    "service.name=",
    "service.version=",
    "cloud.region=",
    "cloud.availability_zone=",
    "for=",
    "host=",
    "\"",
    "\\",
    ";",
    ",",
    "=",
    "[::1]:1",
    "10.0.0.1:80",
    "error=",
    "connection_refused",
    "destination_not_found",
    "proxy_internal_error",
];

pub(crate) fn authority(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Authority>() {
        Ok(authority) => {
            assert_ne!(authority.port(), 0);
            let printed = authority.to_string();
            assert!(printed.len() <= 253 + 6 && !printed.contains(char::is_whitespace), "{printed:?}");
            assert_eq!(printed.parse::<Authority>(), Ok(authority));
        }
        Err(error) => bounded(&error.to_string()),
    }
}

pub(crate) fn authority_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "10.0.0.1:80",
        "[fd00::1]:443",
        "[::ffff:10.0.0.1]:80",
        "web.demo.svc.cluster.local:8080",
        "1.2.3:4",
        "a_b-c:1",
    ])
}

pub(crate) fn baggage(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let baggage = Baggage::parse(text);
    let printed = baggage.to_string();
    assert!(printed.bytes().all(|byte| byte.is_ascii_graphic()), "{printed:?} is no header");
    assert!(printed.len() < 4096, "{} bytes", printed.len());
    assert_eq!(baggage.is_empty(), printed.is_empty());
    assert_eq!(Baggage::parse(&printed), baggage);
}

pub(crate) fn baggage_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "k8s.cluster.name=c1,k8s.namespace.name=demo,k8s.deployment.name=web,service.name=web,service.version=v2,\
         cloud.region=r,cloud.availability_zone=z",
        "x=1, service.name = a ;p=1;q , =,==,,k8s.replicaset.name=r",
        "k8s.cronjob.name=a,k8s.pod.name=b",
    ])
}

pub(crate) fn forwarded(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let forwarded = Forwarded::parse(text);
    let printed = forwarded.to_string();
    assert!(printed.bytes().all(|byte| byte.is_ascii_graphic()), "{printed:?} is no header");
    assert!(printed.len() < 400, "{} bytes", printed.len());
    assert_eq!(Forwarded::parse(&printed), forwarded, "{printed:?}");
}

pub(crate) fn forwarded_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"for="10.0.0.9:999";host=web.demo.svc.cluster.local"#,
        r#"For="[fd00::1]:4711";host="web:80";proto=https, for=1.2.3.4"#,
        r#"for=unknown; host = "a\b" ;by=x"#,
        "for=\"[::1]\"",
    ])
}

pub(crate) fn traceparent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(traceparent) = text.parse::<Traceparent>() {
        assert_ne!(traceparent.trace_id(), 0);
        assert_eq!(traceparent.to_string(), text);
    }
}

pub(crate) fn traceparent_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
    ])
}

pub(crate) fn proxy_status(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if Cause::from_proxy_status(text) != Cause::Unknown {
        assert!(text.contains("error="), "{text:?} names no cause");
        let nearest = format!("a; error=connection_timeout, b; x=1, {text}");
        if nearest.len() <= 1024 {
            assert_eq!(Cause::from_proxy_status(&nearest), Cause::from_proxy_status(text), "{text:?}");
        }
    }
}

pub(crate) fn proxy_status_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "sotto; error=connection_refused",
        "a; error=connection_timeout, b; x=1 ;error=destination_not_found; details=\"x\"",
        "sotto; error=http_request_denied",
    ])
}

pub(crate) fn identity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Identity>() {
        // One identity has one spelling: who compares texts and who compares identities agree.
        Ok(identity) => {
            assert_eq!(identity.to_string(), text);
            let again =
                Identity::new(identity.trust_domain().clone(), identity.namespace(), identity.service_account());
            assert_eq!(again, Ok(identity));
        }
        Err(error) => bounded(&error.to_string()),
    }
    match TrustDomain::new(text) {
        Ok(domain) => assert_eq!(domain.as_str(), text),
        Err(error) => bounded(&error.to_string()),
    }
}

pub(crate) fn identity_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "spiffe://cluster.local/ns/demo/sa/web",
        "spiffe://td_1/ns/a/sa/b",
        "spiffe://x/ns/a/sa/b/c",
        "cluster.local",
    ])
}

fn bounded(error: &str) {
    assert!(error.len() <= LONGEST_ERROR && !error.contains(char::is_control), "{error:?} does not fit a log line");
}

pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
