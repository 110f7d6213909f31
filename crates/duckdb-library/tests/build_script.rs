//! The parts of the build script, tried without a network.

#[path = "../build/archive.rs"]
mod archive;
#[path = "../build/compile.rs"]
#[allow(dead_code, reason = "compiling takes half an hour")]
mod compile;
#[path = "../build/platform.rs"]
#[allow(dead_code, reason = "the build script uses the rest")]
mod platform;
#[path = "../build/source.rs"]
#[allow(dead_code, reason = "the build script uses the rest")]
mod source;

use std::{io::Write, path::Path};

use source::{Source, registry_of, sources};

const DUCKDB_VERSION: &str = "1.5.6";
const NAME: &str = "libduckdb.so";

fn linux() -> &'static platform::Platform {
    platform::of_target("x86_64-unknown-linux-gnu").unwrap()
}

fn tgz(path: &str, content: &[u8]) -> Vec<u8> {
    let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(packer);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

fn zipped(path: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(content).unwrap();
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_library_is_found_in_every_kind_of_archive() {
    let check = |fetched: Vec<u8>, expect: Result<&[u8], &str>| {
        let found = archive::library(fetched, NAME);
        match expect {
            Ok(library) => assert_eq!(found.as_deref(), Ok(library)),
            Err(reason) => assert!(found.as_ref().unwrap_err().contains(reason), "{found:?}"),
        }
    };
    check(tgz("package/libduckdb.so", b"elf"), Ok(b"elf"));
    check(zipped("libduckdb.so", b"elf"), Ok(b"elf"));
    check(b"\x7fELF".to_vec(), Ok(b"\x7fELF"));
    check(tgz("package/duckdb.node", b"elf"), Err("no libduckdb.so in the package"));
    check(zipped("duckdb.h", b"c"), Err("libduckdb.so in the archive"));
    check(vec![0x1f, 0x8b, 0, 0], Err("not a .tgz"));
    check(b"PK\x03\x04".to_vec(), Err("libduckdb.so in the archive"));
}

#[test]
fn another_library_than_the_pinned_one_is_refused() {
    let refused = linux().verify(b"some other library").unwrap_err();
    assert!(refused.starts_with("its SHA-256 is ") && refused.contains("expected 3f4962cd"));
}

#[test]
fn machines_without_a_prebuilt_library_have_none() {
    for target in ["x86_64-unknown-linux-musl", "riscv64gc-unknown-linux-gnu"] {
        assert!(platform::of_target(target).is_none(), "{target}");
    }
}

#[test]
fn a_named_source_is_the_only_one() {
    let check = |named: &str, expect: Source| {
        assert_eq!(sources(linux(), Some(named)), [expect]);
    };
    check("/tmp/libduckdb.so", Source::File("/tmp/libduckdb.so".into()));
    check("https://mirror.example/x.zip", Source::Url("https://mirror.example/x.zip".into()));
    let last = sources(linux(), None).pop().unwrap().to_string();
    assert!(last.ends_with("/v1.5.6/libduckdb-linux-amd64.zip"), "{last}");
}

#[test]
fn a_registry_is_read_from_npmrc() {
    let check = |npmrc: &str, expect: Option<&str>| {
        assert_eq!(registry_of(npmrc).as_deref(), expect, "{npmrc}");
    };
    check("registry=https://npm.example/", Some("https://npm.example/"));
    check("fund=false\n registry = https://npm.example ", Some("https://npm.example"));
    check(
        "registry=https://a.example\n@duckdb:registry=https://b.example",
        Some("https://b.example"),
    );
    check("registry=${REGISTRY}", None);
    check("", None);
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let check = |url: &str, expect: &str| {
        assert_eq!(Source::Url(url.into()).to_string(), expect);
    };
    check("https://me:secret@npm.example/x.tgz", "from https://npm.example/x.tgz");
    check("https://me:s@npm.example/@duckdb/x", "from https://npm.example/@duckdb/x");
    check("https://npm.example/@duckdb/x", "from https://npm.example/@duckdb/x");
}

#[test]
fn a_library_has_everything_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("probe.c"), "int duckdb_probe(void) { return 7; }").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        let status = command.args(arguments).current_dir(folder.path()).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    };
    run("cc", &["-c", "-fPIC", "probe.c"]);
    run("ar", &["rcs", "libduckdb.a", "probe.o"]);
    let place = path("compiled/libduckdb.so");
    compile::link(&path("libduckdb.a"), &place, std::env::consts::OS).unwrap();
    let library = std::fs::read(&place).unwrap();
    assert!(library.windows(12).any(|own| own == b"duckdb_probe"));
    assert!(compile::link(&path("none.a"), &place, std::env::consts::OS).is_err());
}

#[test]
fn the_archive_is_found_in_the_messages_of_cargo() {
    let messages = r#"{"reason":"compiler-artifact"}
not json
{"reason":"build-script-executed","package_id":"registry#libduckdb-sys@1.10506.0","out_dir":"/t/out"}"#;
    assert_eq!(compile::archive_in(messages).as_deref(), Some(Path::new("/t/out/libduckdb.a")));
    assert_eq!(compile::archive_in(""), None);
}
