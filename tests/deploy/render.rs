//! Running the renderer and `kubectl kustomize`, and finding objects in what they print.

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// The program that renders; a test without one says so, and ends.
#[derive(Debug)]
pub(crate) struct Renderer(PathBuf);

impl Renderer {
    /// The one that the environment names.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn of_tier(test: &str) -> Option<Self> {
        let program = env::var_os("SOTTO_CHART_RENDERER").filter(|program| !program.is_empty());
        if program.is_none() {
            eprintln!("{test}: skipped: SOTTO_CHART_RENDERER is not set; run `cargo xtask test deploy`");
        }
        program.map(|program| Self(program.into()))
    }

    /// The chart's objects with these values over its own.
    pub(crate) fn chart(&self, namespace: &str, values: &str) -> Objects {
        objects(&self.try_chart(namespace, values).unwrap_or_else(|error| panic!("{values}: {error}")))
    }

    /// Why these values are refused.
    pub(crate) fn refusal(&self, values: &str) -> String {
        self.try_chart("mesh", values).expect_err(values)
    }

    /// The objects of a stream of YAML.
    pub(crate) fn parsed(&self, yaml: &str) -> Objects {
        objects(&self.run(&["--json".as_ref()], yaml).unwrap())
    }

    fn try_chart(&self, namespace: &str, values: &str) -> Result<String, String> {
        self.run(&[&deploy("helm/sotto"), namespace.as_ref()], values)
    }

    fn run(&self, arguments: &[&Path], input: &str) -> Result<String, String> {
        let output = self.output(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn output(&self, arguments: &[&Path], input: &str) -> Output {
        let mut command = Command::new(&self.0);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

/// What `kubectl kustomize` makes of a folder; nothing where there is no kubectl.
#[expect(clippy::print_stderr, reason = "a comparison that is skipped says so")]
pub(crate) fn kustomized(folder: &str) -> Option<String> {
    let Ok(output) = Command::new("kubectl").arg("kustomize").arg(deploy(folder)).output() else {
        eprintln!("{folder}: not compared: there is no kubectl");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A path below `deploy`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(path)
}

fn objects(json: &str) -> Objects {
    let list: Vec<Value> = serde_json::from_str(json).unwrap();
    let mut objects = Objects::new();
    for object in list {
        let name = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reference = format!("{} {}", name("/kind"), name("/metadata/name"));
        assert!(objects.insert(reference.clone(), object).is_none(), "{reference} is there twice");
    }
    objects
}
