//! The first page: zones, latest values and predictions, live.

use axum::{
    Router,
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};

/// `/` and what it loads. Nothing comes from elsewhere, and the browser is
/// told to allow nothing else.
pub(crate) fn page_routes() -> Router {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";
    let page = move || async move {
        ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page/index.html")))
    };
    Router::new()
        .route("/", get(page))
        .route(
            "/page.css",
            get(|| async { static_file("text/css", include_str!("page/page.css")) }),
        )
        .route(
            "/page.js",
            get(|| async { static_file("text/javascript", include_str!("page/page.js")) }),
        )
}

fn static_file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}
