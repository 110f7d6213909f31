//! The description of a service's REST interface, for programs and for people.

use std::{fmt::Write as _, sync::Arc};

use axum::{Json, Router, extract::State, response::Html, routing::get};
use utoipa::openapi::{OpenApi, path::Operation};

/// Routes `GET /openapi.json`, and `GET /docs`, the same document as a page.
pub fn openapi_routes(document: OpenApi) -> Router {
    Router::new()
        .route("/openapi.json", get(serve_document))
        .route("/docs", get(serve_page))
        .with_state(Arc::new(document))
}

async fn serve_document(State(document): State<Arc<OpenApi>>) -> Json<OpenApi> {
    Json((*document).clone())
}

async fn serve_page(State(document): State<Arc<OpenApi>>) -> Html<String> {
    Html(render_html(&document))
}

/// Renders every path with its parameters as a page without scripts.
fn render_html(document: &OpenApi) -> String {
    let title = escape_html(&document.info.title);
    let mut out = format!(
        "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title>"
    );
    out.push_str(
        "<style>body{font:15px/1.5 system-ui;max-width:52rem;margin:2rem auto;\
         padding:0 1rem}code{background:#8881;padding:0 .2em}dt{margin-top:.3rem}dd{margin-left:1.5rem}\
         h2{margin-top:2rem}</style>",
    );
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<h1>{title}</h1><p>{}</p><p>For programs: <a href=\"/openapi.json\">/openapi.json</a>.</p>",
        escape_html(document.info.description.as_deref().unwrap_or_default()),
    );
    for (path, item) in &document.paths.paths {
        for (method, operation) in [("GET", &item.get), ("POST", &item.post)] {
            if let Some(operation) = operation {
                write_operation(&mut out, method, path, operation);
            }
        }
    }
    out
}

fn write_operation(out: &mut String, method: &str, path: &str, operation: &Operation) {
    let _ = write!(out, "<h2><code>{method} {}</code></h2>", escape_html(path));
    for text in [&operation.summary, &operation.description].into_iter().flatten() {
        let _ = write!(out, "<p>{}</p>", escape_html(text));
    }
    let Some(parameters) = operation.parameters.as_ref().filter(|all| !all.is_empty()) else {
        return;
    };
    out.push_str("<dl>");
    for parameter in parameters {
        let _ = write!(
            out,
            "<dt><code>{}</code></dt><dd>{}</dd>",
            escape_html(&parameter.name),
            escape_html(parameter.description.as_deref().unwrap_or_default()),
        );
    }
    out.push_str("</dl>");
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
