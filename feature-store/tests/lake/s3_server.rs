use std::{net::TcpListener, path::Path, process::Command};

use object_store::{Bucket, Settings};
use tempfile::TempDir;

/// A bucket of an S3-compatible server: the one that `MICROCLIMATE_S3` names, as in
/// `http://127.0.0.1:15000/microclimate`, or one that `scripts/s3` starts.
pub(crate) struct S3Server {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    /// Port and log folder of the server that this test has started and must stop.
    started: Option<(u16, TempDir)>,
}

fn s3_script(verb: &str, port: u16, dir: &Path) -> Command {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/s3"));
    script.args([verb, &port.to_string()]).arg(dir);
    script
}

impl S3Server {
    /// Returns the server; `None`, with the reason printed, if none exists or can be started.
    pub(crate) fn start() -> Option<Self> {
        let named = std::env::var("MICROCLIMATE_S3").ok();
        if let Some((endpoint, bucket)) = named.as_deref().and_then(|url| url.rsplit_once('/')) {
            let (endpoint, bucket) = (endpoint.to_owned(), bucket.to_owned());
            return Some(Self { endpoint, bucket, started: None });
        }
        let dir = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Not `output`: the server would keep the pipe open.
        let log = dir.path().join("start.log");
        let to = std::fs::File::create(&log).unwrap();
        let mut start = s3_script("start", port, dir.path());
        let started = start.stdout(to.try_clone().unwrap()).stderr(to).status();
        if !started.is_ok_and(|status| status.success()) {
            let log_text = std::fs::read_to_string(&log).unwrap_or_default();
            println!(
                "skipped: MICROCLIMATE_S3 names no S3-compatible store, and scripts/s3: {log_text}"
            );
            return None;
        }
        let endpoint = format!("http://127.0.0.1:{port}");
        Some(Self { endpoint, bucket: "microclimate".to_owned(), started: Some((port, dir)) })
    }

    /// Returns the address of a prefix in the bucket.
    pub(crate) fn open_bucket_folder(&self, prefix: &str) -> Bucket {
        let settings = Settings {
            endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            access_key: "key".to_owned(),
            secret_key: service::Secret::from("secret"),
            timeout_s: 30.0,
        };
        Bucket::open(&format!("s3://{}/{prefix}", self.bucket), &settings).unwrap()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some((port, dir)) = &self.started {
            let _ = s3_script("stop", *port, dir.path()).status();
        }
    }
}
