//! Where the registry is: a local folder, or an S3-compatible store.

use std::{
    io::{Error, ErrorKind, Result},
    sync::{Arc, OnceLock},
    time::Duration,
};

use models::{Registry, artifact::BYTES_MAX, registry::store::Store};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions::ListObjectsV2};

use crate::{error::TrainError, serve::settings, settings::Settings};

/// Requests are signed for so long.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Begins a `registry_dir` that is a bucket.
const SCHEME: &str = "s3://";
/// Written once, to learn whether the store creates objects only once. The dot
/// makes it no name of a task.
const PROBE: &str = ".created-once";
/// Pages of a thousand names that a listing may have.
const PAGES_MAX: usize = 1000;
/// What an answer says of an error, characters.
const SAID_MAX: usize = 300;

/// The registry that the settings name.
///
/// # Errors
/// [`TrainError::ObjectStore`] where the address of a store cannot be used.
pub fn registry(settings: &Settings) -> std::result::Result<Registry, TrainError> {
    let dir = settings.registry_dir.to_string_lossy();
    match dir.strip_prefix(SCHEME) {
        None => Ok(Registry::new(&settings.registry_dir)),
        Some(address) => {
            let store = S3::new(address, &settings.s3).map_err(TrainError::ObjectStore)?;
            Ok(Registry::in_store(Arc::new(store)))
        }
    }
}

/// A bucket, or a folder in one. Objects are created with `If-None-Match: *`,
/// which Amazon's S3, MinIO, Ceph and others obey.
#[derive(Debug)]
struct S3 {
    client: Client,
    bucket: Bucket,
    credentials: Credentials,
    /// Empty, or ending in `/`.
    prefix: String,
    /// Whether the store was found to create objects only once.
    creates_once: OnceLock<()>,
}

impl S3 {
    fn new(address: &str, settings: &settings::S3) -> std::result::Result<Self, String> {
        let (name, prefix) = address.split_once('/').unwrap_or((address, ""));
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let settings::S3 { endpoint, region, access_key, secret_key, timeout_s } = settings;
        let (endpoint, style) = match endpoint.as_str() {
            "" => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
            own => (own.to_owned(), UrlStyle::Path),
        };
        let url: Url =
            endpoint.parse().map_err(|error| format!("s3.endpoint `{endpoint}`: {error}"))?;
        let bucket = Bucket::new(url, style, name.to_owned(), region.clone())
            .map_err(|error| format!("`{SCHEME}{address}`: {error}"))?;
        let secret = secret_key.reveal().unwrap_or_default();
        if access_key.is_empty() || secret.is_empty() {
            return Err("s3.access_key and s3.secret_key are missing\nhint: set them in the environment, as TRAINER__S3__SECRET_KEY".to_owned());
        }
        let timeout = Duration::from_secs_f64(*timeout_s);
        let client = Client::builder().timeout(timeout).build().map_err(|e| e.to_string())?;
        let credentials = Credentials::new(access_key.clone(), secret);
        Ok(Self { client, bucket, credentials, prefix, creates_once: OnceLock::new() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn send(&self, method: Method, url: Url, put: Option<&[u8]>) -> Result<Response> {
        let mut request = self.client.request(method, url);
        if let Some(bytes) = put {
            request = request.header("if-none-match", "*").body(bytes.to_vec());
        }
        request.send().await.map_err(|error| Error::other(error.without_url()))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let key = self.key(key);
        let mut action = self.bucket.put_object(Some(&self.credentials), &key);
        action.headers_mut().insert("if-none-match", "*");
        let url = action.sign(SIGNED_FOR);
        wait(async {
            let answer = self.send(Method::PUT, url, Some(bytes)).await?;
            match answer.status() {
                // Another is writing it at this moment, or has written it.
                StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Ok(false),
                status if status.is_success() => Ok(true),
                _ => Err(refused(answer).await),
            }
        })
    }

    /// A store that overwrote what is there would lose decisions of other
    /// processes: it is refused.
    fn check_creates_once(&self) -> Result<()> {
        if self.creates_once.get().is_none() {
            let is_new = self.put(PROBE, b"")?;
            if is_new && self.put(PROBE, b"")? {
                let what = "the store ignores `If-None-Match: *`, so that processes could overwrite each other's decisions";
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
            let _ = self.creates_once.set(());
        }
        Ok(())
    }
}

async fn refused(answer: Response) -> Error {
    let status = answer.status();
    let said = answer.text().await.unwrap_or_default();
    Error::other(format!("{status}: {}", said.chars().take(SAID_MAX).collect::<String>()))
}

impl Store for S3 {
    fn place(&self) -> String {
        format!("{SCHEME}{}/{}", self.bucket.name(), self.prefix).trim_end_matches('/').to_owned()
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(key);
        let url = self.bucket.get_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        wait(async {
            let answer = self.send(Method::GET, url, None).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => {
                    let bytes_long = answer.content_length().unwrap_or_default();
                    if bytes_long > BYTES_MAX as u64 {
                        let what = format!("{bytes_long} bytes, expected at most {BYTES_MAX}");
                        return Err(Error::new(ErrorKind::FileTooLarge, what));
                    }
                    let bytes = answer.bytes().await.map_err(Error::other)?;
                    Ok(Some(bytes.to_vec()))
                }
                _ => Err(refused(answer).await),
            }
        })
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.check_creates_once()?;
        self.put(key, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let prefix = self.key(&folder);
        let (mut names, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(prefix.as_str());
            action.with_delimiter("/");
            if let Some(next) = next.take() {
                action.with_continuation_token(next);
            }
            let url = action.sign(SIGNED_FOR);
            let text = wait(async {
                let answer = self.send(Method::GET, url, None).await?;
                match answer.status().is_success() {
                    true => answer.text().await.map_err(Error::other),
                    false => Err(refused(answer).await),
                }
            })?;
            let page = ListObjectsV2::parse_response(&text).map_err(Error::other)?;
            let keys = page.contents.into_iter().map(|object| object.key);
            let folders = page.common_prefixes.into_iter().map(|folder| folder.prefix);
            for key in keys.chain(folders) {
                let name = key.strip_prefix(&prefix).unwrap_or(&key).trim_end_matches('/');
                if !name.is_empty() {
                    names.push(name.to_owned());
                }
            }
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(names);
            }
        }
        Err(Error::other(format!("{prefix}: more than {PAGES_MAX} pages of names")))
    }

    fn remove(&self, key: &str) -> Result<()> {
        let key = self.key(key);
        let url = self.bucket.delete_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        wait(async {
            let answer = self.send(Method::DELETE, url, None).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(()),
                status if status.is_success() => Ok(()),
                _ => Err(refused(answer).await),
            }
        })
    }

    /// Objects are there whole or not at all: nothing is left unfinished.
    fn tidy(&self, _: &str) -> Result<usize> {
        Ok(0)
    }
}

/// Waits for a request. The registry is asked rarely, and from threads
/// that may belong to a runtime already, which must not be blocked by
/// another: so this one has a thread of its own.
fn wait<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work)
        });
        waiting.join().unwrap_or_else(|_| Err(Error::other("the request panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |dir: &str, keys: bool, expect: std::result::Result<(), &str>| {
            let mut settings = Settings { registry_dir: dir.into(), ..Settings::default() };
            if keys {
                settings.s3.access_key = "key".to_owned();
                settings.s3.secret_key = serde_json::from_str("\"secret\"").unwrap();
            }
            match (registry(&settings), expect) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{dir}: {error}");
                }
                (got, expect) => panic!("{dir}: {got:?}, expected {expect:?}"),
            }
        };
        check("var/models", false, Ok(()));
        check("s3://bucket/models", true, Ok(()));
        check("s3://bucket", true, Ok(()));
        check("s3://bucket/models", false, Err("s3.secret_key"));
    }
}
