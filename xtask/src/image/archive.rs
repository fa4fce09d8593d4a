//! An image as one file that both `ctr images import` and `docker load` take: an OCI image layout (image-spec 1.0) with
//! Docker's own manifest beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Images are the same whenever they are made: what is in them has no date.
const EPOCH: &str = "1970-01-01T00:00:00Z";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image of one or more layers.
#[derive(Debug)]
pub(crate) struct Image {
    /// Name and tag, like `localhost/sotto:dev`.
    pub(crate) tag: String,
    /// What a container of it runs.
    pub(crate) start: Start,
    /// Its file system, the lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
}

/// What a container runs when the pod does not say.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// Kept when the pod gives arguments of its own (`ENTRYPOINT`).
    pub(crate) command: Vec<String>,
    /// Replaced by these (`CMD`).
    pub(crate) arguments: Vec<String>,
}

/// Files of an image, owned by root and without a date.
pub(crate) struct Layer {
    tar: Builder<Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Layer {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { tar: Builder::new(Vec::new()), folders: BTreeSet::new() }
    }

    /// A copy of a file of this machine; the folders above it are made.
    pub(crate) fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let executable = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
        self.put(path, EntryType::Regular, if executable { 0o755 } else { 0o644 }, &data)
    }

    /// A small file with this text.
    pub(crate) fn text(&mut self, path: &str, text: &str) -> Result<()> {
        self.put(path, EntryType::Regular, 0o644, text.as_bytes())
    }

    /// A folder and those above it.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        if !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.put(&format!("{path}/"), EntryType::Directory, mode, &[])
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.above(path)?;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.tar.append_link(&mut header, path, target)?)
    }

    /// The layer as a tar archive.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.tar.into_inner()?)
    }

    fn put(&mut self, path: &str, kind: EntryType, mode: u32, data: &[u8]) -> Result<()> {
        self.above(path.trim_end_matches('/'))?;
        let mut header = header(kind, mode, data.len() as u64);
        Ok(self.tar.append_data(&mut header, path, data)?)
    }

    fn above(&mut self, path: &str) -> Result<()> {
        path.rsplit_once('/').map_or(Ok(()), |(folder, _)| self.folder(folder, 0o755))
    }
}

impl Image {
    /// Writes the archive; another of that name is replaced when this one is whole.
    pub(crate) fn write(&self, place: &Path) -> Result<()> {
        let unfinished = place.with_extension("unfinished");
        let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        self.write_to(file)?;
        Ok(fs::rename(unfinished, place)?)
    }

    fn write_to(&self, output: impl Write) -> Result<()> {
        let mut tar = Builder::new(output);
        let mut blob = |data: &[u8]| -> Result<String> {
            let digest = sha256(data);
            add(&mut tar, &format!("blobs/sha256/{digest}"), data)?;
            Ok(digest)
        };
        let layers = self.layers.iter().map(|layer| Ok((blob(layer)?, layer.len()))).collect::<Result<Vec<_>>>()?;
        let config = self.config(&layers).to_string();
        let config_digest = blob(config.as_bytes())?;
        let described: Vec<_> = layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config_digest, config.len()), "layers": described,
        })
        .to_string();
        let manifest_digest = blob(manifest.as_bytes())?;

        let mut entry = descriptor(MANIFEST, &manifest_digest, manifest.len());
        let tag = self.tag.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({"io.containerd.image.name": self.tag, "org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        add(&mut tar, "index.json", index.to_string().as_bytes())?;
        add(&mut tar, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        let path = |digest: &str| format!("blobs/sha256/{digest}");
        let paths: Vec<_> = layers.iter().map(|(digest, _)| path(digest)).collect();
        let docker = json!([{"Config": path(&config_digest), "RepoTags": [self.tag], "Layers": paths}]);
        add(&mut tar, "manifest.json", docker.to_string().as_bytes())?;
        tar.into_inner()?.flush().context("cannot write the image")
    }

    fn config(&self, layers: &[(String, usize)]) -> Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let digests: Vec<_> = layers.iter().map(|(digest, _)| format!("sha256:{digest}")).collect();
        let history: Vec<_> = layers.iter().map(|_| json!({"created": EPOCH, "created_by": "cargo xtask"})).collect();
        let mut run = json!({"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"});
        for (field, words) in [("Entrypoint", &self.start.command), ("Cmd", &self.start.arguments)] {
            if !words.is_empty() {
                run[field] = json!(words);
            }
        }
        json!({
            "architecture": architecture, "os": "linux", "created": EPOCH, "config": run,
            "rootfs": {"type": "layers", "diff_ids": digests}, "history": history,
        })
    }
}

fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn add(tar: &mut Builder<impl Write>, path: &str, data: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o644, data.len() as u64);
    Ok(tar.append_data(&mut header, path, Cursor::new(data))?)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            (entry.path().unwrap().display().to_string(), data)
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn image() -> Image {
        let mut layer = Layer::new();
        layer.text("etc/passwd", "root:x:0:0::/:/bin/sh\n").unwrap();
        layer.text("etc/group", "root:x:0:\n").unwrap();
        layer.link("bin/sh", "busybox").unwrap();
        let start = Start { command: vec!["/bin/sh".into()], arguments: Vec::new() };
        Image { tag: "localhost/x:1".into(), start, layers: vec![layer.finish().unwrap()] }
    }

    #[test]
    fn every_blob_is_named_by_its_sum_and_found_from_both_manifests() {
        let mut archive = Vec::new();
        image().write_to(&mut archive).unwrap();
        let files = entries(&archive);
        let blobs: Vec<_> =
            files.iter().filter_map(|(path, data)| Some((path.strip_prefix("blobs/sha256/")?, data))).collect();
        assert_eq!(blobs.len(), 3);
        assert!(blobs.iter().all(|(name, data)| *name == sha256(data)));

        let read = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        let blob = |digest: &Value| read(&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/")));
        let manifest = blob(&read("index.json")["manifests"][0]["digest"]);
        let config = blob(&manifest["config"]["digest"]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/sh"]));
        assert!(config["config"].get("Cmd").is_none());
        let docker = read("manifest.json");
        assert_eq!(docker[0]["RepoTags"], json!(["localhost/x:1"]));
        assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()));
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let layer = &image().layers[0];
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(paths, ["etc/", "etc/passwd", "etc/group", "bin/", "bin/sh"]);
    }

    #[test]
    fn the_same_files_make_the_same_image() {
        let write = || {
            let mut archive = Vec::new();
            image().write_to(&mut archive).unwrap();
            archive
        };
        assert_eq!(write(), write());
    }
}
