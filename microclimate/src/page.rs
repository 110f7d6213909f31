//! Page of the service: the files of `web/`, served unchanged. They are compressed once, carry an
//! entity tag of their contents, and forbid browsers to load anything from other origins.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use flate2::Compression;
use sha2::{Digest, Sha256};

use crate::compression::{accepts_gzip, gzip};

/// Content security policy: nothing inline, nothing from other origins, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const SECURITY_HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Files of the page: path, type, contents. A test compares the list with the folder.
macro_rules! page_files {
    ($($path:literal: $kind:expr,)*) => {
        [$((concat!("/", $path), $kind, include_bytes!(concat!("../web/", $path)).as_slice()),)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

const FILES: &[(&str, &str, &[u8])] = &page_files! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "js/api.js": SCRIPT,
    "js/chart.js": SCRIPT,
    "js/dom.js": SCRIPT,
    "js/format.js": SCRIPT,
    "js/i18n.js": SCRIPT,
    "js/live.js": SCRIPT,
    "js/main.js": SCRIPT,
    "js/parts.js": SCRIPT,
    "js/preferences.js": SCRIPT,
    "js/series.js": SCRIPT,
    "js/lang/de.js": SCRIPT,
    "js/lang/en.js": SCRIPT,
    "js/lang/fr.js": SCRIPT,
    "js/views/alerts.js": SCRIPT,
    "js/views/login.js": SCRIPT,
    "js/views/models.js": SCRIPT,
    "js/views/overview.js": SCRIPT,
    "js/views/pipeline.js": SCRIPT,
    "js/views/sensors.js": SCRIPT,
    "js/views/settings.js": SCRIPT,
    "js/views/zone.js": SCRIPT,
    "js/views/zone_cards.js": SCRIPT,
    "js/views/zone_readings.js": SCRIPT,
    "vendor/uplot/uPlot.iife.min.js": SCRIPT,
    "vendor/uplot/uPlot.min.css": CSS,
    "vendor/uplot/LICENSE": TEXT,
};

/// A file that is ready to be sent.
#[derive(Debug)]
struct PageFile {
    kind: &'static str,
    plain: &'static [u8],
    compressed: Bytes,
    /// Entity tag of the contents, in quotes.
    etag: HeaderValue,
}

impl PageFile {
    fn new(kind: &'static str, plain: &'static [u8]) -> Self {
        let compressed = gzip(plain, Compression::best()).expect("memory takes what is written");
        let digest = Sha256::digest(plain);
        let etag: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{etag}\"")).expect("it is of letters");
        Self { kind, plain, compressed: compressed.into(), etag }
    }

    fn response(&self, request: &HeaderMap) -> Response {
        let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = known.is_some_and(|known| {
            known.split(',').any(|own| self.etag == own.trim().trim_start_matches("W/"))
        });
        let is_compressed = accepts_gzip(request);
        let body = match (is_known, is_compressed) {
            (true, _) => Body::empty(),
            (false, true) => Body::from(self.compressed.clone()),
            (false, false) => Body::from(self.plain),
        };
        let mut response = Response::new(body);
        let own = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            own.insert(name, HeaderValue::from_static(value));
        }
        own.insert(header::ETAG, self.etag.clone());
        // A new version of the program is seen at once; what is unchanged is not sent again.
        own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        own.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        own.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if is_compressed {
            own.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// All files of the page, built at the first request.
static PAGE_FILES: LazyLock<Vec<(&'static str, Arc<PageFile>)>> = LazyLock::new(|| {
    FILES.iter().map(|(path, kind, plain)| (*path, Arc::new(PageFile::new(kind, plain)))).collect()
});

/// Returns the paths that are served without authentication, so that there is a page to sign in on.
pub(crate) fn public_paths() -> Vec<String> {
    FILES.iter().map(|(path, ..)| *path).chain(["/"]).map(str::to_owned).collect()
}

/// Routes `/` and all that it loads.
pub(crate) fn page_routes() -> Router {
    let mut router = Router::new();
    for (path, file) in PAGE_FILES.iter() {
        let route = get(serve_file).with_state(file.clone());
        if *path == "/index.html" {
            router = router.route("/", route.clone());
        }
        router = router.route(path, route);
    }
    router
}

async fn serve_file(State(file): State<Arc<PageFile>>, request: HeaderMap) -> Response {
    file.response(&request)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Largest size of the whole page as transferred, bytes.
    const PAGE_BYTES_MAX: usize = 200 * 1024;

    fn collect_files(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect_files(&path, found);
            } else {
                let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
                found.insert(format!("/{}", path.strip_prefix(web).unwrap().display()));
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_small() {
        let mut found = BTreeSet::new();
        collect_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("web"), &mut found);
        // For those who work on it.
        found.retain(|path| !path.ends_with(".d.ts") && path != "/jsconfig.json");
        let served: BTreeSet<String> =
            public_paths().into_iter().filter(|path| path != "/").collect();
        assert_eq!(served, found);
        let bytes: usize = PAGE_FILES.iter().map(|(_, file)| file.compressed.len()).sum();
        assert!(bytes <= PAGE_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let file = PageFile::new(SCRIPT, b"let x = 1;");
        let mut request = HeaderMap::new();
        assert_eq!(file.response(&request).status(), StatusCode::OK);
        request.insert(header::IF_NONE_MATCH, file.etag.clone());
        let again = file.response(&request);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(file.response(&request).status(), StatusCode::OK);
    }
}
