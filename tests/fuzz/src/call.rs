//! Calls to the certificate service: bytes in, a claim or a refusal out.

use sotto::control::authority::issue::authorize::{Claim, Rules};
use sotto::control::authority::issue::caller::{BoundPod, Caller, ServiceAccount};
use sotto::drivers::grpc::service::Wanted;
use sotto::model::identity::TrustDomain;

pub(crate) const WORDS: &[&str] = &[
    "ImpersonatedIdentity",
    "spiffe://cluster.local/ns/a/sa/b",
    "\x0a",
    "\x12",
    "\x18",
    "\x1a",
    "\x22",
    "\x2a",
    "\x32",
];

/// A node agent, or somebody else when the first byte is odd, sends the rest.
pub(crate) fn call(data: &[u8]) {
    let Some((who, message)) = data.split_first() else { return };
    let Ok(wanted) = Wanted::decode(message) else { return };
    let agent = ServiceAccount { namespace: "mesh".into(), name: "agent".into() };
    let other = ServiceAccount { namespace: "a".into(), name: "b".into() };
    let rules = Rules { trust_domain: TrustDomain::default(), node_accounts: vec![agent.clone()] };
    let account = if who % 2 == 0 { agent.clone() } else { other };
    let pod = BoundPod { name: "p".into(), uid: "u".into(), node: None };
    let caller = Caller { account: account.clone(), pod: Some(pod) };
    match (rules.claim(&caller, wanted.impersonated.as_deref()), wanted.impersonated) {
        (Ok(Claim::Own { identity, .. }), None) => {
            assert_eq!((identity.namespace(), identity.service_account()), (&*account.namespace, &*account.name));
        }
        (Ok(Claim::OnBehalf { identity, .. }), Some(text)) => {
            assert_eq!(account, agent, "nobody else may ask for others");
            assert_eq!(identity.to_string(), text);
            assert_eq!(*identity.trust_domain(), TrustDomain::default());
        }
        (Ok(claim), wanted) => panic!("{claim:?} for {wanted:?}"),
        (Err(_), None) => panic!("everybody may ask for itself"),
        (Err(refusal), Some(_)) => assert!(refusal.to_string().len() < 2000),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let fields = |value: &[u8]| {
        let mut entry = b"\x0a\x14ImpersonatedIdentity\x12".to_vec();
        entry.push(u8::try_from(value.len()).expect("short"));
        entry.extend_from_slice(value);
        let mut message = b"\x00\x0a\x03PEM\x18\x80\xa3\x05\x22".to_vec();
        message.push(u8::try_from(entry.len() + 2).expect("short"));
        message.push(0x0a);
        message.push(u8::try_from(entry.len()).expect("short"));
        message.extend(entry);
        message
    };
    vec![
        fields(b"\x1a\x20spiffe://cluster.local/ns/a/sa/b"),
        fields(b"\x1a\x1aspiffe://other/ns/a/sa/bbb"),
        fields(b"\x20\x01"),
        fields(b"\x2a\x00"),
        b"\x00\x0a\x03PEM".to_vec(),
        b"\x01\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
    ]
}
