use std::{
    env, fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{DUCKDB_VERSION, platform::Platform};

/// Version of the npm packages with DuckDB 1.5.6.
const NPM_VERSION: &str = "1.5.6-r.1";
const RELEASES: &str = "https://github.com/duckdb/duckdb/releases/download";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const FETCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// No archive of DuckDB comes near this.
const BYTES_MAX: u64 = 512 << 20;
/// Where Debian and its like, and Fedora and its like, keep them.
const SYSTEM_CERTIFICATES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Where the library, or an archive with it, can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Url(String),
    /// By the client `npm`, with the user's registry, proxy and certificates.
    Npm,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Url(url) => write!(f, "from {}", without_password(url)),
            Self::Npm => write!(f, "by npm"),
        }
    }
}

/// Sources in the order in which they are asked: the one that is named, or all others.
pub(crate) fn sources(platform: &Platform, named: Option<&str>) -> Vec<Source> {
    if let Some(named) = named {
        let is_url = named.starts_with("https://") || named.starts_with("http://");
        let own = if is_url { Source::Url(named.to_owned()) } else { Source::File(named.into()) };
        return vec![own];
    }
    let mut sources = Vec::new();
    if has_npm() {
        sources.push(Source::Npm);
    } else if let Some(registry) = npm_registry() {
        let npm = platform.npm;
        sources.push(Source::Url(format!(
            "{}/@duckdb/node-bindings-{npm}/-/node-bindings-{npm}-{NPM_VERSION}.tgz",
            registry.trim_end_matches('/')
        )));
    }
    let release = platform.release;
    sources.push(Source::Url(format!("{RELEASES}/v{DUCKDB_VERSION}/libduckdb-{release}.zip")));
    sources
}

impl Source {
    /// Bytes of the library, or of an archive with it.
    pub(crate) fn fetch(&self, platform: &Platform, work: &Path) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => fs::read(path).map_err(|error| error.to_string()),
            Self::Url(url) => get(url),
            Self::Npm => npm_pack(platform, work),
        }
    }
}

/// An address as it may be shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let host_start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host_start..])
}

fn has_npm() -> bool {
    let mut npm = Command::new("npm");
    npm.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    npm.status().is_ok_and(|status| status.success())
}

fn npm_pack(platform: &Platform, work: &Path) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    if work.exists() {
        fs::remove_dir_all(work).map_err(text)?;
    }
    fs::create_dir_all(work).map_err(text)?;
    let log = work.join("npm.log");
    let mut npm = Command::new("npm");
    npm.arg("pack")
        .arg(format!("@duckdb/node-bindings-{}@{NPM_VERSION}", platform.npm))
        .args(["--ignore-scripts", "--silent", "--fetch-retries=1", "--pack-destination"])
        .arg(work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).map_err(text)?);
    let mut running = npm.spawn().map_err(text)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = running.try_wait().map_err(text)? {
            break status;
        }
        if started.elapsed() > FETCH_TIMEOUT {
            running.kill().map_err(text)?;
            return Err(format!("no answer in {} s", FETCH_TIMEOUT.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(format!("npm pack: {status} {said}").trim_end().to_owned());
    }
    let mut files = fs::read_dir(work).map_err(text)?.filter_map(Result::ok).map(|e| e.path());
    let package = files.find(|path| path.extension().is_some_and(|own| own == "tgz"));
    fs::read(package.ok_or("npm pack left no .tgz")?).map_err(text)
}

/// The registry that the user's npm configuration names, where there is no npm itself.
fn npm_registry() -> Option<String> {
    let set = |name: &str| env::var(name).ok().filter(|own| !own.is_empty());
    set("npm_config_registry").or_else(|| set("NPM_CONFIG_REGISTRY")).or_else(|| {
        let home = PathBuf::from(set("HOME")?);
        registry_of(&fs::read_to_string(home.join(".npmrc")).ok()?)
    })
}

/// The registry for DuckDB's packages in the text of an `.npmrc`.
pub(crate) fn registry_of(npmrc: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = npmrc.lines().filter_map(|line| line.split_once('='));
        lines.find(|(own, _)| own.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    value("@duckdb:registry").or_else(|| value("registry")).filter(|own| own.starts_with("http"))
}

/// Reads a URL. Proxies are those of the environment.
fn get(url: &str) -> Result<Vec<u8>, String> {
    if env::var("CARGO_NET_OFFLINE").is_ok_and(|own| own == "true" || own == "1") {
        return Err("CARGO_NET_OFFLINE is set".to_owned());
    }
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(FETCH_TIMEOUT));
    if let Some(certificates) = own_certificates() {
        config = config.tls_config(TlsConfig::builder().root_certs(certificates).build());
    }
    let mut answer = config.build().new_agent().get(url).call().map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let mut reader = answer.body_mut().as_reader().take(BYTES_MAX);
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Certificates that the user gave to cargo or OpenSSL, or that the system trusts, for networks
/// with an authority of their own; else those of Mozilla, which are compiled in.
fn own_certificates() -> Option<RootCerts> {
    let named = env::var_os("CARGO_HTTP_CAINFO").or_else(|| env::var_os("SSL_CERT_FILE"));
    let path = named
        .map(PathBuf::from)
        .or_else(|| SYSTEM_CERTIFICATES.iter().map(PathBuf::from).find(|path| path.is_file()))?;
    let pem = fs::read(path).ok()?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    (!certificates.is_empty()).then(|| certificates.into())
}
