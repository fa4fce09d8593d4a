//! The source as it runs: real events, real time. Every wait is for a condition.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::mesh::source::directory::manifests::Manifests;
use crate::mesh::source::directory::watch::run;
use crate::mesh::source::state::MeshState;
use crate::model::workload::ObjectName;

use super::fixture::{config, pod};

/// Far beyond what any step takes; reached only if something is broken.
const TOO_LONG: Duration = Duration::from_secs(30);

type States = watch::Receiver<Arc<MeshState>>;

/// Runs the source over `directory` until `script` has played.
async fn play(directory: &Path, script: impl AsyncFnOnce(States)) {
    let manifests = Manifests::load(config(directory)).unwrap();
    let (sender, receiver) = watch::channel(manifests.state());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = run(manifests, sender, async { drop(stopped.await) });
    let scripted = async {
        script(receiver).await;
        drop(stop);
    };
    tokio::time::timeout(TOO_LONG, async { tokio::join!(running, scripted) }).await.unwrap();
}

async fn until(states: &mut States, condition: impl FnMut(&Arc<MeshState>) -> bool) {
    states.wait_for(condition).await.unwrap();
}

fn has(name: &'static str) -> impl Fn(&Arc<MeshState>) -> bool {
    move |state| state.view.workload(&ObjectName::new("demo", name)).is_some()
}

#[tokio::test]
async fn changes_on_disk_are_published() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("pods.yaml");
    fs::write(&file, pod("a", "10.0.0.1")).unwrap();
    play(root.path(), async |mut states| {
        assert!(has("a")(&states.borrow()));
        fs::write(&file, pod("b", "10.0.0.2")).unwrap();
        until(&mut states, has("b")).await;
        fs::write(&file, "kind: [").unwrap();
        until(&mut states, |state| state.problems.len() == 1).await;
        assert!(has("b")(&states.borrow()));
        fs::write(&file, pod("c", "10.0.0.3")).unwrap();
        until(&mut states, |state| has("c")(state) && state.problems.is_empty()).await;
        fs::remove_file(&file).unwrap();
        until(&mut states, |state| !has("c")(state)).await;
        let version = states.borrow().version;
        assert_eq!(version, 5, "one state for each change");
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("manifests");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), pod("a", "10.0.0.1")).unwrap();
    play(&directory, async |mut states| {
        fs::rename(&directory, root.path().join("away")).unwrap();
        until(&mut states, |state| state.problems.len() == 1).await;
        assert!(has("a")(&states.borrow()));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("b.yaml"), pod("b", "10.0.0.2")).unwrap();
        until(&mut states, |state| has("b")(state) && !has("a")(state) && state.problems.is_empty()).await;
        // The watch has moved along.
        fs::write(directory.join("c.yaml"), pod("c", "10.0.0.3")).unwrap();
        until(&mut states, has("c")).await;
    })
    .await;
}

#[tokio::test]
async fn the_target_of_a_link_is_watched_as_well() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("manifests");
    let target = root.path().join("elsewhere.yaml");
    fs::create_dir(&directory).unwrap();
    fs::write(&target, pod("a", "10.0.0.1")).unwrap();
    std::os::unix::fs::symlink(&target, directory.join("link.yaml")).unwrap();
    play(&directory, async |mut states| {
        assert!(has("a")(&states.borrow()));
        fs::write(&target, pod("b", "10.0.0.2")).unwrap();
        until(&mut states, has("b")).await;
    })
    .await;
}
