use sha2::{Digest, Sha256};

/// A kind of machine for which DuckDB's release has a library.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Platform {
    target: &'static str,
    /// End of the name of the npm package.
    pub(crate) npm: &'static str,
    /// Archive in DuckDB's own release.
    pub(crate) release: &'static str,
    pub(crate) file_name: &'static str,
    /// Size of the npm package.
    pub(crate) megabytes: u32,
    /// SHA-256 of the library itself, wherever it came from, as hexadecimal digits.
    sha256: &'static str,
}

/// `scripts/duckdb-pins` prints the checksums for another version.
const PLATFORMS: [Platform; 4] = [
    Platform {
        target: "x86_64-unknown-linux-gnu",
        npm: "linux-x64",
        release: "linux-amd64",
        file_name: "libduckdb.so",
        megabytes: 24,
        sha256: "3f4962cdd266eab2b479a5b5a4a6d063d279b2954ae814ed00385d553b747633",
    },
    Platform {
        target: "aarch64-unknown-linux-gnu",
        npm: "linux-arm64",
        release: "linux-arm64",
        file_name: "libduckdb.so",
        megabytes: 22,
        sha256: "23686593dba4ec22c6e581bb1c843b3964e84c4bc4d0063d8b4daddd2e20e30a",
    },
    Platform {
        target: "x86_64-apple-darwin",
        npm: "darwin-x64",
        release: "osx-universal",
        file_name: "libduckdb.dylib",
        megabytes: 37,
        sha256: "75a519cb914ae36ca22cff0995a8a2e8c9a46990b8c0a479514f741a0d93f344",
    },
    Platform {
        target: "aarch64-apple-darwin",
        npm: "darwin-arm64",
        release: "osx-universal",
        file_name: "libduckdb.dylib",
        megabytes: 37,
        sha256: "75a519cb914ae36ca22cff0995a8a2e8c9a46990b8c0a479514f741a0d93f344",
    },
];

impl Platform {
    /// Refuses what is not, to the byte, the library that this repository was tested with.
    pub(crate) fn verify(&self, library: &[u8]) -> Result<(), String> {
        let digest = Sha256::digest(library);
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.sha256 {
            Ok(())
        } else {
            Err(format!("its SHA-256 is {found}, expected {}", self.sha256))
        }
    }
}

pub(crate) fn of_target(target: &str) -> Option<&'static Platform> {
    PLATFORMS.iter().find(|platform| platform.target == target)
}

/// Name of a shared library of DuckDB on an operating system.
pub(crate) fn file_name(os: &str) -> &'static str {
    if os == "macos" { "libduckdb.dylib" } else { "libduckdb.so" }
}
