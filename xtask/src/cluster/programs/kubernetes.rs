//! Kubernetes' servers, built from Debian's source package and kept in the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::{Archive, expect};
use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::on_path;

/// What the source package holds.
pub(super) const VERSION: &str = "1.20.2";
/// Raised when the way of building changes.
const REVISION: u32 = 1;
/// Without cloud providers and Docker's interface: 40 % less work, half the size, and no kubelet that waits for a cloud's
/// metadata.
const TAGS: &str = "providerless,dockerless";
/// The compiler, and a repair of one vendored library.
const GO: [&str; 3] = ["golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev"];
/// Where the compiler is in its package.
pub(super) const GO_ROOT: &str = "usr/lib/go-1.19";
/// Debian leaves out this generated file, which the API server needs.
const OPENAPI: &str = "pkg/generated/openapi/zz_generated.openapi.go";
/// The package's name inside of `GOPATH`.
const PACKAGE: &str = "k8s.io/kubernetes";

/// The folder in the cache for what is built.
pub(super) fn folder(cache: &Cache) -> Result<PathBuf> {
    cache.folder(&format!("kubernetes-{VERSION}-{}-r{REVISION}", std::env::consts::ARCH))
}

/// Builds those of `programs` that are not in the folder yet. What was built stays when a later one fails.
pub(super) fn ensure(cache: &Cache, programs: &[&str], all: &[&str]) -> Result<PathBuf> {
    let place = folder(cache)?;
    let absent = |programs: &[&str]| programs.iter().any(|program| !place.join(program).exists());
    if !absent(programs) {
        return Ok(place);
    }
    let _lock = cache.lock("kubernetes")?;
    if !absent(programs) {
        return Ok(place);
    }
    let workshop = Workshop::open(cache)?;
    for program in programs.iter().filter(|program| !place.join(program).exists()) {
        workshop.build(program, &place)?;
    }
    if !absent(all) {
        println!("everything is built: removing source, compiler and intermediate results (a gigabyte) …");
        fs::remove_dir_all(&workshop.folder)?;
    }
    Ok(place)
}

/// Source, compiler and what is built in between; kept until everything is built.
struct Workshop {
    folder: PathBuf,
    tree: PathBuf,
}

impl Workshop {
    fn open(cache: &Cache) -> Result<Self> {
        let folder = cache.folder("kubernetes-build")?;
        // Go takes paths below GOPATH for names of packages, so the tree must lie at its own.
        let workshop = Self { tree: folder.join("gopath/src").join(PACKAGE), folder };
        let (go, ready) = (workshop.folder.join("go"), workshop.folder.join("ready"));
        if ready.exists() {
            return Ok(workshop);
        }
        for leftover in [&go, &workshop.tree] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
            fs::create_dir_all(leftover)?;
        }
        let archive = Archive::open(cache)?;
        archive.unpack(&GO, &go)?;
        archive.source("kubernetes", &workshop.tree)?;
        workshop.replace_reflection()?;
        workshop.generate_openapi()?;
        fs::write(ready, "")?;
        Ok(workshop)
    }

    /// reflect2 1.0.1 reads the runtime's maps as they were before Go 1.18: the API server dies at the first custom object.
    /// Debian's own package of the library is newer.
    fn replace_reflection(&self) -> Result<()> {
        let old = expect(&self.tree, "vendor/github.com/modern-go/reflect2")?;
        let new = expect(&self.folder, "go/usr/share/gocode/src/github.com/modern-go/reflect2")?;
        for path in sources_in(&old)? {
            fs::remove_file(path)?;
        }
        for path in sources_in(&new)? {
            fs::copy(&path, old.join(path.file_name().context("a listed file has a name")?))?;
        }
        Ok(())
    }

    /// Makes the file that is missing, from every package that is marked for it.
    fn generate_openapi(&self) -> Result<()> {
        let generator = self.folder.join("openapi-gen");
        let mut build = self.go();
        build.args(["build", "-o"]).arg(&generator).arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen");
        Task::new("build openapi-gen", build).progress()?;

        let mut marked = BTreeSet::new();
        for folder in ["pkg", "cmd", "plugin", "staging/src/k8s.io"] {
            find_marked(&self.tree, &self.tree.join(folder), &mut marked)?;
        }
        let report = self.folder.join("openapi-violations");
        let mut generate = self.environment(Command::new(&generator));
        generate.arg("-i").arg(marked.into_iter().collect::<Vec<_>>().join(","));
        generate.args(["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"]);
        generate.args(["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt", "-r"]).arg(&report);
        Task::new("generate the API server's OpenAPI definitions", generate).progress()?;
        expect(&self.tree, OPENAPI)?;
        // The tree lists the rules that its types break; other breaches would mean that other packages were read.
        let known = fs::read(self.tree.join("api/api-rules/violation_exceptions.list"))?;
        ensure!(fs::read(&report)? == known, "the OpenAPI definitions were generated from other types than upstream's");
        Ok(())
    }

    fn build(&self, program: &str, place: &Path) -> Result<()> {
        let unfinished = place.join(format!(".{program}.unfinished"));
        let mut command = self.go();
        // -v: it names each package when it begins with it, and is silent for minutes otherwise.
        command.args(["build", "-v", "-tags", TAGS, "-ldflags", &linker_flags(), "-o"]).arg(&unfinished);
        command.arg(format!("./cmd/{program}"));
        Task::new(format!("build {program} {VERSION} (once; minutes for the first)"), command)
            .remedy("it needs 1 GiB of memory and 2 GiB in the cache; what is built so far is kept")
            .progress()?;
        Ok(fs::rename(unfinished, place.join(program))?)
    }

    /// The unpacked compiler, as a polite neighbour.
    fn go(&self) -> Command {
        let go = self.folder.join("go").join(GO_ROOT).join("bin/go");
        let Some(nice) = on_path("nice") else { return self.environment(Command::new(go)) };
        let mut command = self.environment(Command::new(nice));
        command.arg(go);
        command
    }

    /// As upstream built this release: modules off, everything from the tree's own vendor folder.
    fn environment(&self, mut command: Command) -> Command {
        let root = self.folder.join("go").join(GO_ROOT);
        let mut path = std::ffi::OsString::from(root.join("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        // The tools ask where they are by PWD, which keeps the name below GOPATH.
        command.current_dir(&self.tree).env("PWD", &self.tree).env("PATH", path).env("GOROOT", root);
        command.env("GOPATH", self.folder.join("gopath")).env("GOCACHE", self.folder.join("gocache"));
        command.env("GO111MODULE", "off").env("CGO_ENABLED", "0").env("GOENV", "off").env_remove("GOFLAGS");
        command
    }
}

/// Sets the version in both libraries that tell it. With modules off they are below the vendor folder.
fn linker_flags() -> String {
    let mut parts = VERSION.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = String::from("-s -w");
    for library in ["component-base/version", "client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{VERSION}")),
            ("gitMajor", major.into()),
            ("gitMinor", minor.into()),
            ("gitTreeState", "clean".into()),
        ] {
            flags.push_str(&format!(" -X {PACKAGE}/vendor/k8s.io/{library}.{name}={value}"));
        }
    }
    flags
}

fn sources_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "go" || kind == "s")).collect())
}

/// Collects the names of packages below `folder` that ask for OpenAPI definitions.
fn find_marked(tree: &Path, folder: &Path, marked: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_marked(tree, &path, marked)?;
        } else if path.extension().is_some_and(|kind| kind == "go")
            && fs::read_to_string(&path)?.contains("+k8s:openapi-gen=")
        {
            marked.extend(package_of(folder.strip_prefix(tree)?));
        }
    }
    Ok(())
}

/// The name under which a folder of the tree is imported; none for generators, examples and data of tests.
fn package_of(folder: &Path) -> Option<String> {
    let folder = folder.to_str()?;
    let skipped =
        ["staging/src/k8s.io/code-generator/", "staging/src/k8s.io/sample-apiserver/", "/_examples/", "/testdata/"];
    if skipped.iter().any(|part| format!("{folder}/").contains(part)) {
        return None;
    }
    // Upstream's vendor folder links to the staged libraries.
    let staged = folder.strip_prefix("staging/src/").map(|rest| format!("vendor/{rest}"));
    Some(format!("{PACKAGE}/{}", staged.as_deref().unwrap_or(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_they_are_imported() {
        let name = |folder: &str| package_of(Path::new(folder));
        assert_eq!(name("pkg/apis/core").unwrap(), "k8s.io/kubernetes/pkg/apis/core");
        let staged = "staging/src/k8s.io/api/core/v1";
        assert_eq!(name(staged).unwrap(), "k8s.io/kubernetes/vendor/k8s.io/api/core/v1");
        assert_eq!(name("staging/src/k8s.io/code-generator/x"), None);
        assert_eq!(name("staging/src/k8s.io/apimachinery/testdata/x"), None);
    }

    #[test]
    fn the_version_is_set_where_the_vendor_folder_has_it() {
        let flags = linker_flags();
        assert!(
            flags.contains("-X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v1.20.2 "),
            "{flags}"
        );
        assert!(flags.contains("gitMinor=20 "), "{flags}");
    }
}
