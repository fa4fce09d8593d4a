//! Tokens of service accounts that no API server would issue.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::apiserver::ApiServer;

impl ApiServer {
    /// A token of this server's with other claims, signed with the server's own key.
    ///
    /// # Panics
    /// When it is none, or openssl fails.
    #[must_use]
    pub fn sign_again(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let parts: Vec<&str> = token.split('.').collect();
        let [head, claims, _] = parts[..] else { panic!("a token has three parts") };
        let padded =
            format!("{}{}", claims.replace('-', "+").replace('_', "/"), "=".repeat((4 - claims.len() % 4) % 4));
        let text = openssl(&["base64", "-d", "-A"], padded.as_bytes());
        let mut claims: Value = serde_json::from_slice(&text).expect("claims are JSON");
        change(&mut claims);
        let encode = |bytes: &[u8]| {
            let text = String::from_utf8(openssl(&["base64", "-A"], bytes)).expect("base64 is ASCII");
            text.trim_end_matches('=').replace('+', "-").replace('/', "_")
        };
        let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
        let key = self.path("sa.key").display().to_string();
        let signature = openssl(&["dgst", "-sha256", "-sign", &key], signed.as_bytes());
        format!("{signed}.{}", encode(&signature))
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("openssl can be started");
    child.stdin.take().expect("a pipe").write_all(input).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "{command:?}");
    output.stdout
}
