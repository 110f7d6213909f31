use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Result, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, StatusCode};
use rusty_s3::S3Action;

use crate::{
    Bucket,
    request::{SIGNED_FOR, refused, send, wait},
};

/// A larger file is not sent: each is in memory while it is.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Files on their way at once.
const AT_ONCE: usize = 8;
/// The slowest way that a file has time for, bytes a second.
const PACE: u64 = 250_000;

impl Bucket {
    /// Sends files, several at a time: each a key and the file of its content. Once this
    /// returns, they survive a loss of power; what lay under a key before is replaced.
    ///
    /// # Errors
    /// Where a file cannot be read or sent, or is above 512 MiB; others may be there then.
    pub fn upload(&self, files: &[(String, PathBuf)]) -> Result<()> {
        wait(all(files.iter().map(|(key, path)| self.send_file(key, path)).collect()))
    }

    /// Fetches objects into files, several at a time: each a key and where to. A file is
    /// there whole or not at all.
    ///
    /// # Errors
    /// Where an object is not there or cannot be fetched; others may be there then.
    pub fn download(&self, files: &[(String, PathBuf)]) -> Result<()> {
        wait(all(files.iter().map(|(key, path)| self.fetch_file(key, path)).collect()))
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / PACE)
    }

    async fn send_file(&self, key: &str, path: &Path) -> Result<()> {
        let of = |error: Error| about(key, &error);
        let bytes = fs::metadata(path).map_err(of)?.len();
        if bytes > FILE_BYTES_MAX {
            let what = format!("{key}: {bytes} bytes, expected at most {FILE_BYTES_MAX}");
            return Err(Error::new(ErrorKind::FileTooLarge, what));
        }
        let body = Some(fs::read(path).map_err(of)?);
        let full = self.full(key);
        let url = self.signer.put_object(Some(&self.credentials), &full).sign(SIGNED_FOR);
        let timeout = self.time_for(bytes);
        let answer = send(&self.client, Method::PUT, url, &[], body, timeout).await.map_err(of)?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(about(key, &refused(answer).await))
    }

    async fn fetch_file(&self, key: &str, path: &Path) -> Result<()> {
        let of = |error: Error| about(key, &error);
        let full = self.full(key);
        let url = self.signer.get_object(Some(&self.credentials), &full).sign(SIGNED_FOR);
        let timeout = self.time_for(FILE_BYTES_MAX);
        let sent = send(&self.client, Method::GET, url, &[], None, timeout).await;
        let mut answer = sent.map_err(of)?;
        match answer.status() {
            StatusCode::NOT_FOUND => {
                return Err(Error::new(ErrorKind::NotFound, format!("{key}: not there")));
            }
            status if status.is_success() => {}
            _ => return Err(about(key, &refused(answer).await)),
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(of)?;
        }
        let aside = path.with_extension("part");
        let mut file = File::create(&aside).map_err(of)?;
        // Of what is still to come: asked before it has come.
        let told = answer.content_length();
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.map_err(|error| of(Error::other(error)))? {
            bytes += chunk.len() as u64;
            file.write_all(&chunk).map_err(of)?;
        }
        // A connection that breaks may look like an end.
        if told.is_some_and(|told| told != bytes) {
            return Err(Error::new(ErrorKind::UnexpectedEof, format!("{key}: cut off")));
        }
        fs::rename(&aside, path).map_err(of)
    }
}

/// The first failure, after which no more are begun.
async fn all(files: Vec<impl Future<Output = Result<()>>>) -> Result<()> {
    stream::iter(files).buffer_unordered(AT_ONCE).try_collect().await
}

fn about(key: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{key}: {error}"))
}
