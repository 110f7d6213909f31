use std::{
    io::{Error, Result},
    time::Duration,
};

use reqwest::{Client, Method, Response, Url};

/// Validity of a signed request.
pub(crate) const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Longest part of an error response that is reported, characters.
const SAID_MAX: usize = 300;

/// Sends a signed request with a body and headers that are part of the signature.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    url: Url,
    headers: &[(&'static str, &'static str)],
    body: Option<Vec<u8>>,
    timeout: Duration,
) -> Result<Response> {
    let mut request = client.request(method, url).timeout(timeout);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    // The address has the signature in it, which is for no log.
    request.send().await.map_err(|error| Error::other(error.without_url()))
}

/// Returns the error for a request that the store refused, with the status and the beginning of its
/// response.
pub(crate) async fn refused(answer: Response) -> Error {
    let status = answer.status();
    let said = answer.text().await.unwrap_or_default();
    Error::other(format!("{status}: {}", said.chars().take(SAID_MAX).collect::<String>()))
}

/// Blocks until requests are done. They run on a thread of their own, because the caller's thread
/// may belong to a runtime, which another runtime must not block.
pub(crate) fn wait<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work)
        });
        waiting.join().unwrap_or_else(|_| Err(Error::other("the request panicked")))
    })
}
