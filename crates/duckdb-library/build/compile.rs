use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Compiles DuckDB with cargo itself, exactly as the feature `bundled` does, and makes a
/// shared library of it, so that one build differs from the other in nothing else.
pub(crate) fn compile(work: &Path, place: &Path, os: &str) -> Result<(), String> {
    link(&compile_archive(work)?, place, os)?;
    // The objects are of no further use.
    fs::remove_dir_all(work).map_err(|error| format!("{}: {error}", work.display()))
}

/// Makes a shared library of everything in an archive.
pub(crate) fn link(archive: &Path, place: &Path, os: &str) -> Result<(), String> {
    let folder = place.parent().ok_or("no folder for the library")?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let part = place.with_extension("part");
    let mut link = Command::new(compiler());
    if os == "macos" {
        let mut force = OsString::from("-Wl,-force_load,");
        force.push(archive);
        link.arg("-dynamiclib").arg(force).arg("-Wl,-install_name,@rpath/libduckdb.dylib");
    } else {
        link.args(["-shared", "-Wl,-soname,libduckdb.so", "-Wl,--strip-debug"])
            .arg("-Wl,--whole-archive")
            .arg(archive)
            .args(["-Wl,--no-whole-archive", "-lpthread", "-ldl"]);
    }
    run(link.arg("-o").arg(&part))?;
    fs::rename(&part, place).map_err(|error| format!("{}: {error}", place.display()))
}

/// Path of `libduckdb.a`, which a cargo inside this one's builds.
fn compile_archive(work: &Path) -> Result<PathBuf, String> {
    let set = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let mut cargo = Command::new(set("CARGO")?);
    cargo
        .args(["build", "--locked", "--features", "bundled", "--message-format", "json"])
        .arg("--manifest-path")
        .arg(Path::new(&set("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(work)
        .stdin(Stdio::null());
    let (target, host) = (set("TARGET")?, set("HOST")?);
    if target != host {
        cargo.args(["--target", &target]);
    }
    // What this build says of itself is not so of the inner one.
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let is_of_this_build = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "DEP_"]
            .iter()
            .any(|start| text.starts_with(start));
        let others = [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET_DIR",
            "DUCKDB_STATIC",
        ];
        if is_of_this_build || others.contains(&text) {
            cargo.env_remove(&name);
        }
    }
    let messages = run(&mut cargo)?;
    archive_in(&messages).ok_or_else(|| "cargo did not say where DuckDB was compiled".to_owned())
}

/// The archive's path in the messages of cargo.
pub(crate) fn archive_in(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut folders = messages
        .filter(|message| message["reason"] == "build-script-executed")
        .filter(|message| {
            message["package_id"].as_str().is_some_and(|own| own.contains("libduckdb-sys"))
        })
        .filter_map(|message| message["out_dir"].as_str().map(PathBuf::from));
    folders.next().map(|folder| folder.join("libduckdb.a"))
}

fn compiler() -> OsString {
    env::var_os("CXX").unwrap_or_else(|| "c++".into())
}

fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(20).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{program}: {}: {}", output.status, last.join(" | ")))
}
