//! The registry under `kill -9`, and with several processes at once.

use std::{
    io::{BufRead, BufReader, Read, Result},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use microclimate_models::{
    ModelRegistry,
    registry::store::{FolderStore, RegistryStore},
};
use tempfile::TempDir;

use super::registry::{BY, artifact};

/// Environment of the child: folder of the registry, and operation at which the child dies.
const DIR: &str = "REGISTRY_CRASH_DIR";
const DIES_AT: &str = "REGISTRY_CRASH_AT";

/// Folder whose process dies before or after one operation.
#[derive(Debug)]
struct Mortal {
    folder: FolderStore,
    left: AtomicUsize,
}

impl Mortal {
    fn step(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
    }

    fn between<T>(&self, work: impl FnOnce() -> T) -> T {
        self.step();
        let done = work();
        self.step();
        done
    }
}

impl RegistryStore for Mortal {
    fn location(&self) -> String {
        self.folder.location()
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.between(|| self.folder.get(key))
    }

    fn create_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.between(|| self.folder.create_new(key, bytes))
    }

    fn list_names(&self, folder: &str) -> Result<Vec<String>> {
        self.between(|| self.folder.list_names(folder))
    }

    fn remove_key(&self, key: &str) -> Result<()> {
        self.between(|| self.folder.remove_key(key))
    }

    fn remove_unfinished(&self, folder: &str) -> Result<usize> {
        self.between(|| self.folder.remove_unfinished(folder))
    }
}

/// The child: promotes one version after the other, rolls back, and adds more. It writes a line
/// after each promotion.
#[test]
#[ignore = "a process of its own, started by the other tests"]
fn decides_until_it_dies() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let left = std::env::var(DIES_AT).map_or(usize::MAX, |at| at.parse().unwrap());
    let folder = FolderStore::new(Path::new(&dir));
    let registry =
        ModelRegistry::in_store(Arc::new(Mortal { folder, left: AtomicUsize::new(left) }));
    for round in 0.. {
        registry.promote_version("test", 1 + round % 2, BY, true).unwrap();
        println!("promoted");
        if round % 3 == 2 {
            // Another process may have rolled back before this one.
            let _ = registry.rollback_champion("test", BY);
        }
        if round % 5 == 4 {
            registry.add_version(&artifact("ridge"), BY).unwrap();
            let surplus = registry.surplus_versions("test", 2).unwrap();
            registry.remove_versions("test", &surplus, BY).unwrap();
        }
    }
}

fn child(dir: &Path, dies_at: Option<usize>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::decides_until_it_dies", "--ignored", "--nocapture"]);
    if let Some(at) = dies_at {
        command.env(DIES_AT, at.to_string());
    }
    command.env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn two_versions() -> (TempDir, ModelRegistry) {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    for version in 1..=2 {
        assert_eq!(registry.add_version(&artifact("ridge"), BY).unwrap(), version);
    }
    registry.promote_version("test", 1, BY, true).unwrap();
    (dir, registry)
}

/// Checks that there is a champion, that every version loads, and that the log has no gap.
fn check(registry: &ModelRegistry, what: &str) {
    let champion = registry.champion_version("test").unwrap().expect(what);
    assert_eq!(registry.load_artifact("test", champion).unwrap().card.model, "ridge", "{what}");
    let log = registry.recent_decisions("test", usize::MAX).unwrap();
    assert!(log.windows(2).all(|pair| pair[0].number == pair[1].number + 1), "{what}");
    for version in registry.list_versions("test").unwrap() {
        registry.load_artifact("test", version).unwrap();
    }
}

#[test]
fn dying_between_any_two_steps_leaves_a_champion() {
    let (dir, registry) = two_versions();
    for at in 0..60 {
        let status = child(dir.path(), Some(at)).wait().unwrap();
        assert!(!status.success(), "it dies at step {at}");
        check(&registry, &format!("after dying at step {at}"));
    }
    // The registry can still be used.
    registry.promote_version("test", 2, BY, true).unwrap();
    assert_eq!(registry.champion_version("test").unwrap(), Some(2));
}

#[test]
fn kill_9_at_any_time_leaves_a_champion() {
    let (dir, registry) = two_versions();
    for lines in 1..25 {
        let mut child = child(dir.path(), None);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        for _ in 0..lines {
            output.read_line(&mut line).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        check(&registry, &format!("after a kill at line {lines}"));
    }
}

#[test]
fn several_processes_decide_one_after_the_other() {
    let (dir, registry) = two_versions();
    let mut children: Vec<Child> = (0..3).map(|_| child(dir.path(), Some(400))).collect();
    for child in &mut children {
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        child.wait().unwrap();
        assert!(output.matches("promoted").count() > 5, "{output}");
    }
    check(&registry, "after three processes");
}
