use std::{
    io::{Error, ErrorKind, Result},
    sync::OnceLock,
    time::Duration,
};

use reqwest::{Client, Method, StatusCode, Url};
use rusty_s3::{Bucket as Signer, Credentials, S3Action, UrlStyle, actions::ListObjectsV2};

use crate::{
    Settings,
    request::{SIGNED_FOR, refused, send, wait},
};

/// URL scheme of a bucket's address.
pub const SCHEME: &str = "s3://";
/// Key of an object that is written once, to test whether the store refuses to overwrite objects.
const PROBE: &str = ".created-once";
/// Header that creates an object only if it does not exist yet.
const ONCE: (&str, &str) = ("if-none-match", "*");
/// Largest number of pages of a listing, each of a thousand names.
const PAGES_MAX: usize = 1000;

/// Reason why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The endpoint is not a URL.
    #[error("s3.endpoint `{endpoint}`: {what}")]
    Endpoint {
        /// Configured endpoint.
        endpoint: String,
        /// Reason why the endpoint is refused.
        what: String,
    },
    /// The address names no bucket.
    #[error("`{address}`: {what}\nhint: as in s3://bucket/prefix")]
    Address {
        /// Configured address.
        address: String,
        /// Reason why the address is refused.
        what: String,
    },
    /// No access keys are configured.
    #[error(
        "s3.access_key and s3.secret_key are missing\nhint: set them in the environment, as <SERVICE>__S3__SECRET_KEY"
    )]
    NoKeys,
    /// The timeout is not a usable duration.
    #[error("s3.timeout_s = {found} is not a number of seconds")]
    Timeout {
        /// Configured timeout, s.
        found: f64,
    },
    /// No HTTP client could be built.
    #[error("s3: {0}")]
    Client(String),
}

/// A bucket, or a folder in one. Keys are relative to that folder, with `/` as separator.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) client: Client,
    pub(crate) signer: Signer,
    pub(crate) credentials: Credentials,
    pub(crate) timeout: Duration,
    /// Folder of the keys in the bucket: empty, or ending in `/`.
    prefix: String,
    /// Set once the store has refused to overwrite an object.
    creates_once: OnceLock<()>,
}

impl Bucket {
    /// Opens the bucket of an address, `s3://bucket` or `s3://bucket/prefix`. Sends no request yet.
    ///
    /// # Errors
    /// Fails if the address or the settings are invalid.
    pub fn open(address: &str, settings: &Settings) -> std::result::Result<Self, BucketError> {
        let below = address.strip_prefix(SCHEME).unwrap_or(address);
        let (name, prefix) = below.split_once('/').unwrap_or((below, ""));
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let Settings { endpoint, region, access_key, secret_key, timeout_s } = settings;
        let (endpoint, style) = match endpoint.as_str() {
            "" => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
            own => (own.to_owned(), UrlStyle::Path),
        };
        let url: Url = endpoint
            .parse()
            .map_err(|error| BucketError::Endpoint { endpoint, what: format!("{error}") })?;
        let signer = Signer::new(url, style, name.to_owned(), region.clone()).map_err(|error| {
            BucketError::Address { address: address.to_owned(), what: error.to_string() }
        })?;
        let secret = secret_key.expose_secret().unwrap_or_default();
        if access_key.is_empty() || secret.is_empty() {
            return Err(BucketError::NoKeys);
        }
        let timeout = Duration::try_from_secs_f64(*timeout_s)
            .map_err(|_| BucketError::Timeout { found: *timeout_s })?;
        let client = Client::builder().build();
        Ok(Self {
            client: client.map_err(|error| BucketError::Client(error.to_string()))?,
            signer,
            credentials: Credentials::new(access_key.clone(), secret),
            timeout,
            prefix,
            creates_once: OnceLock::new(),
        })
    }

    /// Returns the bucket's address, without a slash at its end.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{SCHEME}{}/{}", self.signer.name(), self.prefix).trim_end_matches('/').to_owned()
    }

    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Reads the object under `key`, or returns `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if the object cannot be read, or is larger than `bytes_max` bytes.
    pub fn get(&self, key: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let full = self.full(key);
        let url = self.signer.get_object(Some(&self.credentials), &full).sign(SIGNED_FOR);
        wait(async {
            let answer = send(&self.client, Method::GET, url, &[], None, self.timeout).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => {
                    let bytes_long = answer.content_length().unwrap_or_default();
                    if bytes_long > bytes_max as u64 {
                        let what = format!("{bytes_long} bytes, expected at most {bytes_max}");
                        return Err(Error::new(ErrorKind::FileTooLarge, what));
                    }
                    let bytes = answer.bytes().await.map_err(Error::other)?;
                    Ok(Some(bytes.to_vec()))
                }
                _ => Err(refused(answer).await),
            }
        })
    }

    /// Creates an object (`If-None-Match: *`). Returns false if it already exists; the existing
    /// object stays unchanged. Refuses a store that would overwrite objects, because processes
    /// would lose each other's decisions.
    ///
    /// # Errors
    /// Fails if the object cannot be written; it may exist nevertheless.
    pub fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        if self.creates_once.get().is_none() {
            let is_new = self.put_once(PROBE, b"")?;
            if is_new && self.put_once(PROBE, b"")? {
                let what = "the store ignores `If-None-Match: *`, so that processes could overwrite each other's decisions";
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
            let _ = self.creates_once.set(());
        }
        self.put_once(key, bytes)
    }

    fn put_once(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let full = self.full(key);
        let mut action = self.signer.put_object(Some(&self.credentials), &full);
        action.headers_mut().insert(ONCE.0, ONCE.1);
        let url = action.sign(SIGNED_FOR);
        wait(async {
            let body = Some(bytes.to_vec());
            let answer = send(&self.client, Method::PUT, url, &[ONCE], body, self.timeout).await?;
            match answer.status() {
                // Another is writing it at this moment, or has written it.
                StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Ok(false),
                status if status.is_success() => Ok(true),
                _ => Err(refused(answer).await),
            }
        })
    }

    /// Returns the names of objects and folders directly in a folder (`""` for the root), in no
    /// particular order; empty if the folder does not exist.
    ///
    /// # Errors
    /// Fails if the folder cannot be listed.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.pages(folder, Some("/"))
    }

    /// Returns the full keys of all objects below a folder, in no particular order.
    ///
    /// # Errors
    /// Fails if the folder cannot be listed.
    pub fn keys(&self, folder: &str) -> Result<Vec<String>> {
        let below = self.pages(folder, None)?;
        Ok(below.into_iter().map(|name| format!("{folder}/{name}")).collect())
    }

    fn pages(&self, folder: &str, delimiter: Option<&'static str>) -> Result<Vec<String>> {
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let prefix = self.full(&folder);
        let (mut names, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut action = self.signer.list_objects_v2(Some(&self.credentials));
            action.with_prefix(prefix.as_str());
            if let Some(delimiter) = delimiter {
                action.with_delimiter(delimiter);
            }
            if let Some(next) = next.take() {
                action.with_continuation_token(next);
            }
            let url = action.sign(SIGNED_FOR);
            let text = wait(async {
                let answer = send(&self.client, Method::GET, url, &[], None, self.timeout).await?;
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

    /// Removes an object if it exists.
    ///
    /// # Errors
    /// Fails if the object cannot be removed.
    pub fn remove(&self, key: &str) -> Result<()> {
        let full = self.full(key);
        let url = self.signer.delete_object(Some(&self.credentials), &full).sign(SIGNED_FOR);
        wait(async {
            let answer = send(&self.client, Method::DELETE, url, &[], None, self.timeout).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(()),
                status if status.is_success() => Ok(()),
                _ => Err(refused(answer).await),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(secret: &str) -> Settings {
        Settings {
            endpoint: String::new(),
            region: "eu-central-1".to_owned(),
            access_key: "key".to_owned(),
            secret_key: service::Secret::from(secret),
            timeout_s: 1.0,
        }
    }

    #[test]
    fn addresses() {
        let check = |address: &str, place: &str, full: &str| {
            let bucket = Bucket::open(address, &settings("secret")).unwrap();
            assert_eq!((bucket.place().as_str(), bucket.full("a").as_str()), (place, full));
        };
        check("s3://bucket", "s3://bucket", "a");
        check("s3://bucket/", "s3://bucket", "a");
        check("s3://bucket/lake/of/farm/", "s3://bucket/lake/of/farm", "lake/of/farm/a");
        let error = Bucket::open("s3://bucket", &settings("")).unwrap_err();
        assert!(error.to_string().contains("s3.secret_key"), "{error}");
        let wrong = Settings { endpoint: "nowhere".to_owned(), ..settings("secret") };
        let error = Bucket::open("s3://bucket", &wrong).unwrap_err();
        assert!(error.to_string().contains("s3.endpoint `nowhere`"), "{error}");
        let wrong = Settings { timeout_s: f64::NAN, ..settings("secret") };
        let error = Bucket::open("s3://bucket", &wrong).unwrap_err();
        assert!(error.to_string().contains("s3.timeout_s = NaN"), "{error}");
    }
}
