//! Texts and address blocks, one by one.

use crate::model::identity::TrustDomain;
use crate::model::policy::authorization::{Action, AuthorizationPolicy};
use crate::model::policy::pattern::{IpBlock, PatternError, TextPattern};
use crate::model::policy::rule::{Attribute, Matcher, Rule};
use crate::model::policy::selector::Selector;
use crate::model::workload::ObjectName;

#[track_caller]
fn text(pattern: &str, value: &str, matches: bool) {
    let parsed: TextPattern = pattern.parse().unwrap();
    assert_eq!(parsed.matches(Some(value)), matches, "{pattern} against {value:?}");
    assert!(!parsed.matches(None), "{pattern} matches what is not there");
}

#[test]
fn texts_match_exactly_by_prefix_by_suffix_or_by_presence() {
    text("abc", "abc", true);
    text("abc", "abcd", false);
    text("abc", "ABC", false);
    text("abc*", "abc", true);
    text("abc*", "abcd", true);
    text("abc*", "xabc", false);
    text("*abc", "abc", true);
    text("*abc", "xabc", true);
    text("*abc", "abcd", false);
    text("*", "a", true);
    text("*", "", false);
}

#[test]
fn wildcards_have_their_places() {
    for bad in ["a*b", "**", "*a*", "a**", "***"] {
        assert_eq!(bad.parse::<TextPattern>(), Err(PatternError::Wildcard), "{bad}");
    }
    assert_eq!("".parse::<TextPattern>(), Err(PatternError::Empty));
}

#[track_caller]
fn block(block: &str, inside: &[&str], outside: &[&str]) {
    let parsed: IpBlock = block.parse().unwrap_or_else(|error| panic!("{block} {error}"));
    for ip in inside {
        assert!(parsed.contains(ip.parse().unwrap()), "{ip} is in {block}");
    }
    for ip in outside {
        assert!(!parsed.contains(ip.parse().unwrap()), "{ip} is not in {block}");
    }
}

#[test]
fn blocks_contain_their_addresses() {
    block("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1"], &["10.0.0.2", "::1", "a00:1::"]);
    block("10.0.0.0/8", &["10.255.255.255", "10.0.0.0"], &["11.0.0.0", "9.255.255.255"]);
    block("10.1.2.3/8", &["10.9.9.9"], &["11.1.2.3"]);
    block("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["::", "fd00::1"]);
    block("10.0.0.0/31", &["10.0.0.0", "10.0.0.1"], &["10.0.0.2"]);
    block("::/0", &["fd00::1", "::"], &["1.2.3.4"]);
    block("fd00:1::/32", &["fd00:1::1", "fd00:1:ffff::"], &["fd00:2::"]);
    block("fd00::1", &["fd00::1"], &["fd00::2"]);
    block("::ffff:10.0.0.0/104", &["10.1.2.3"], &["11.0.0.0", "::1"]);
    block("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]);
}

#[test]
fn impossible_blocks_are_refused() {
    for (bad, why) in [
        ("10.0.0.0/33", PatternError::Length(32)),
        ("10.0.0.0/4294967297", PatternError::Length(32)),
        ("fd00::/129", PatternError::Length(128)),
        ("10.0.0.0/", PatternError::Address),
        ("10.0.0.0/+8", PatternError::Address),
        ("10.0.0.0/-1", PatternError::Address),
        ("10.0.0/8", PatternError::Address),
        ("10.0.0.256", PatternError::Address),
        ("10.0.0.0/8/8", PatternError::Address),
        ("example.com", PatternError::Address),
        ("*", PatternError::Address),
        ("", PatternError::Address),
        ("fe80::1%eth0", PatternError::Address),
    ] {
        assert_eq!(bad.parse::<IpBlock>(), Err(why), "{bad}");
    }
}

#[test]
fn cluster_local_is_a_pointer_to_the_mesh_and_other_names_are_themselves() {
    let mesh = TrustDomain::new("prod.example").unwrap();
    for (written, meant) in [
        ("cluster.local/ns/a/sa/b", "prod.example/ns/a/sa/b"),
        ("cluster.local/ns/a/*", "prod.example/ns/a/*"),
        ("cluster.local/*", "prod.example/*"),
        ("cluster.local*", "cluster.local*"),
        ("cluster.localhost/ns/a/sa/b", "cluster.localhost/ns/a/sa/b"),
        ("other/ns/cluster.local/sa/b", "other/ns/cluster.local/sa/b"),
        ("*/ns/a/sa/b", "*/ns/a/sa/b"),
        ("*", "*"),
    ] {
        let principal = || Attribute::Principal(vec![written.parse().unwrap()]);
        let from = vec![vec![Matcher::is(principal())]];
        let rule = Rule { from, when: vec![Matcher::is_not(principal())], ..Rule::default() };
        let name = ObjectName::new("demo", "p");
        let policy = AuthorizationPolicy {
            rules: vec![rule],
            ..AuthorizationPolicy::closed(name, Selector::default(), Action::Allow)
        };
        let rule = policy.in_trust_domain(&mesh).rules.remove(0);
        for matcher in rule.from.iter().flatten().chain(&rule.when) {
            let Attribute::Principal(patterns) = &matcher.attribute else { panic!() };
            assert_eq!(patterns[0].to_string(), meant);
        }
    }
}
