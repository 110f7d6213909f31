//! Puts DuckDB's library where the linker and the built programs find it.
//!
//! DuckDB is about 450 files of C++ and 35 CPU-minutes of compiling. The same library, built
//! by DuckDB's own release, is in an npm package and in DuckDB's releases: this script fetches
//! it from the first source that answers, verifies its SHA-256 against the one pinned in
//! `platform.rs`, and compiles DuckDB as before where no source answers or where there is no
//! such library for the machine. `libduckdb-sys` asks the linker for `-lduckdb`; this script
//! says in which folder that is.
//!
//! `MICROCLIMATE_DUCKDB` chooses: `auto` (default), `prebuilt` (never compile), `compile`
//! (never fetch), or the path or URL of a library or of an archive that contains it.
//! `DUCKDB_LIB_DIR` names a folder with a library of one's own, as for any user of `duckdb`.
//!
//! # Layout
//! - `platform`: machines for which there is a prebuilt library, with checksums
//! - `source`: where it is fetched
//! - `archive`: the library in what was fetched
//! - `compile`: DuckDB compiled into such a library
//! - `progress`: what a person sees meanwhile

mod archive;
mod compile;
mod platform;
mod progress;
mod source;

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use platform::Platform;

/// Version of DuckDB that the crate `duckdb` 1.10506 is made for.
const DUCKDB_VERSION: &str = "1.5.6";
const CHOICE: &str = "MICROCLIMATE_DUCKDB";

fn main() {
    println!("cargo::rerun-if-changed=build");
    for name in [CHOICE, "DUCKDB_LIB_DIR", "DUCKDB_DOWNLOAD_LIB", "XDG_CACHE_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(error) = place_library() {
        println!("cargo::error={}", error.replace('\n', " "));
        process::exit(1);
    }
}

fn place_library() -> Result<(), String> {
    // `libduckdb-sys` compiles DuckDB into the program, by whichever feature.
    if env::var_os("CARGO_FEATURE_BUNDLED").is_some() || env::var_os("DEP_DUCKDB_LIB_DIR").is_some()
    {
        announce_origin("bundled");
        return Ok(());
    }
    // The user's own library: `libduckdb-sys` links it, programs must find it.
    if let Some(folder) = env::var_os("DUCKDB_LIB_DIR") {
        announce_folder(Path::new(&folder));
        announce_origin("DUCKDB_LIB_DIR");
        return Ok(());
    }
    if env::var("DUCKDB_DOWNLOAD_LIB").is_ok_and(|own| own == "1" || own == "true") {
        if let Some(folder) = env::var_os("DEP_DUCKDB_INCLUDE") {
            announce_folder(Path::new(&folder));
        }
        announce_origin("DUCKDB_DOWNLOAD_LIB");
        return Ok(());
    }
    if env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|own| own.split(',').any(|own| own == "crt-static"))
    {
        return Err("a static program cannot load a library; add --features bundled".to_owned());
    }
    let (library, origin) = library()?;
    let folder = PathBuf::from(variable("OUT_DIR")?).join("lib");
    let place = folder.join(platform::file_name(&variable("CARGO_CFG_TARGET_OS")?));
    copy(&library, &place).map_err(|error| format!("{}: {error}", place.display()))?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    announce_folder(&folder);
    announce_origin(origin);
    Ok(())
}

/// The library, fetched or compiled now or earlier, and a word on where it comes from.
fn library() -> Result<(PathBuf, &'static str), String> {
    let (target, os) = (variable("TARGET")?, variable("CARGO_CFG_TARGET_OS")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let cache = cache_folder().unwrap_or_else(|| out.join("cache"));
    let cache = cache.join(format!("duckdb-{DUCKDB_VERSION}")).join(&target);
    let file_name = platform::file_name(&os);
    let (prebuilt, compiled) =
        (cache.join("prebuilt").join(file_name), cache.join("compiled").join(file_name));
    let choice = env::var(CHOICE).unwrap_or_else(|_| "auto".to_owned());
    let platform = platform::of_target(&target);

    let mut why_not = Vec::new();
    if choice != "compile" {
        match platform {
            Some(platform) if is_pinned(&prebuilt, platform) => {
                return Ok((prebuilt, "prebuilt"));
            }
            // A compiled one of an earlier build saves waiting for sources that do not answer.
            Some(_) if choice == "auto" && compiled.is_file() => {
                return Ok((compiled, "compiled"));
            }
            Some(platform) => {
                let named = (!["auto", "prebuilt"].contains(&choice.as_str())).then_some(&*choice);
                match fetch(platform, named, &out.join("fetch"), &prebuilt) {
                    Ok(()) => return Ok((prebuilt, "prebuilt")),
                    Err(reasons) => why_not = reasons,
                }
            }
            None => why_not.push(format!("there is none for {target}")),
        }
        if choice != "auto" {
            return Err(format!(
                "no prebuilt DuckDB {DUCKDB_VERSION} ({}); {CHOICE}=auto compiles it instead",
                why_not.join("; ")
            ));
        }
    }
    if !compiled.is_file() {
        if !why_not.is_empty() {
            println!(
                "cargo::warning=no prebuilt DuckDB {DUCKDB_VERSION} could be had ({}): it was \
                 compiled, which takes about 35 CPU-minutes, once",
                why_not.join("; ")
            );
        }
        progress::say(
            "Compiling",
            &format!("DuckDB {DUCKDB_VERSION} from its C++, once: about 35 CPU-minutes"),
        );
        compile::compile(&out.join("compile"), &compiled, &os)?;
    }
    Ok((compiled, "compiled"))
}

/// Fetches the library from the first source that answers with the pinned one.
fn fetch(
    platform: &Platform,
    named: Option<&str>,
    work: &Path,
    place: &Path,
) -> Result<(), Vec<String>> {
    let mut why_not = Vec::new();
    for source in source::sources(platform, named) {
        let megabytes = platform.megabytes;
        progress::say(
            "Fetching",
            &format!("DuckDB {DUCKDB_VERSION}, about {megabytes} MB, {source}"),
        );
        let fetched = source.fetch(platform, work).and_then(|bytes| {
            let library = archive::library(bytes, platform.file_name)?;
            platform.verify(&library)?;
            write(place, &library).map_err(|error| format!("{}: {error}", place.display()))
        });
        match fetched {
            Ok(()) => return Ok(()),
            Err(reason) => why_not.push(format!("{source}: {reason}")),
        }
    }
    Err(why_not)
}

fn is_pinned(path: &Path, platform: &Platform) -> bool {
    fs::read(path).is_ok_and(|library| platform.verify(&library).is_ok())
}

/// Tells the build scripts of packages with programs where the library is.
fn announce_folder(folder: &Path) {
    println!("cargo::metadata=LIB_DIR={}", folder.display());
}

fn announce_origin(origin: &str) {
    println!("cargo::rustc-env=MICROCLIMATE_DUCKDB_ORIGIN={origin}");
    println!("cargo::metadata=ORIGIN={origin}");
}

/// Libraries are shared by clones, profiles and target folders.
fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|own: &OsString| !own.is_empty());
    let cache = match set("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(set("HOME")?).join(".cache"),
    };
    let folder = cache.join("microclimate");
    // Some builds run where nothing but the target folder can be written.
    fs::create_dir_all(&folder).ok()?;
    let probe = folder.join(format!(".{}", process::id()));
    fs::write(&probe, b"").ok()?;
    fs::remove_file(probe).ok()?;
    Some(folder)
}

/// Writes a whole file or none.
fn write(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = part_of(place)?;
    fs::write(&part, bytes)?;
    fs::rename(part, place)
}

fn copy(from: &Path, place: &Path) -> io::Result<()> {
    let part = part_of(place)?;
    if fs::hard_link(from, &part).is_err() {
        fs::copy(from, &part)?;
    }
    fs::rename(part, place)
}

fn part_of(place: &Path) -> io::Result<PathBuf> {
    let part = place.with_extension(format!("part-{}", process::id()));
    fs::create_dir_all(place.parent().unwrap_or(Path::new(".")))?;
    if part.exists() {
        fs::remove_file(&part)?;
    }
    Ok(part)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: cargo runs this script"))
}
