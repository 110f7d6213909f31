//! The description of a service's REST interface, for programs and for people.

use std::{fmt::Write as _, sync::Arc};

use axum::{Json, Router, extract::State, response::Html, routing::get};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, OpenApi, Ref, RefOr, Response,
        path::{Operation, Parameter, ParameterIn, PathItem},
        schema::{KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type},
        security::{
            ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
        },
    },
};

use crate::rest::{OPEN_PATHS, PROBLEM_TYPE, ProblemDetails, SESSION_COOKIE};

/// Name under which the body of errors is described.
const PROBLEM_SCHEMA: &str = "ProblemDetails";
/// Prefix of the Open Inference Protocol, whose errors have a form of their own.
const INFERENCE_PREFIX: &str = "/v2";

/// Completes the description of a service by what holds for all paths: how a client proves who it
/// is, what parameters of a name mean everywhere, and that every error is [`ProblemDetails`].
#[must_use]
pub fn complete_document(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let mut schemas = Vec::new();
    ProblemDetails::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.schemas.insert(PROBLEM_SCHEMA.to_owned(), ProblemDetails::schema());
    let bearer = SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of `rest.token`. None is needed where none is set."))
            .build(),
    );
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
        SESSION_COOKIE,
        "The session of a page, from `POST /v1/session` with the token.",
    )));
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("session", session);
    let none = <[String; 0]>::default;
    document.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("bearer", none()),
        SecurityRequirement::new("session", none()),
    ]);
    for (path, item) in &mut document.paths.paths {
        for operation in operations_mut(item) {
            if OPEN_PATHS.contains(&path.as_str()) {
                operation.security = Some(Vec::new());
            }
            operation.parameters.iter_mut().flatten().for_each(limit_parameter);
            if !path.starts_with(INFERENCE_PREFIX) {
                describe_errors(operation);
            }
        }
    }
    document
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Largest `limit` of any path, and the largest `step_s`.
const LIMIT_MAX: i64 = 100_000;
const STEP_S_MAX: i64 = 31 * 86_400;
/// A zone as in `farm/bay-1`; several are separated by commas.
const ZONE_PATTERN: &str = "^[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}$";
const ZONES_PATTERN: &str =
    "^([A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}(,[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}){0,99})?$";
/// Parameters that are times.
const TIME_PARAMETERS: [&str; 5] = ["from", "to", "at", "baseline_from", "baseline_to"];
/// End of 2099, seconds since 1970.
const LAST_SECOND: i64 = 4_102_444_799;
const DURATION_PATTERN: &str = "^([1-9]|1[0-9]|2[0-4])h$";

/// States the range or form of a parameter that has one and the same meaning in every path. Times
/// and zones may be written in more ways than the description states.
fn limit_parameter(parameter: &mut Parameter) {
    if parameter.parameter_in != ParameterIn::Query {
        return;
    }
    if TIME_PARAMETERS.contains(&parameter.name.as_str()) {
        parameter.schema = Some(time_schema());
        return;
    }
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    let Object { minimum, maximum, pattern, format, .. } = schema;
    let mut set_range = |low: i64, high: i64| {
        minimum.get_or_insert(low.into());
        maximum.get_or_insert(high.into());
    };
    match parameter.name.as_str() {
        "limit" => set_range(1, LIMIT_MAX),
        "step_s" => set_range(1, STEP_S_MAX),
        "before" => set_range(0, 4_102_444_800_000),
        "version" => set_range(1, i64::from(i32::MAX)),
        "explain" => set_range(0, 50),
        "zone" => _ = pattern.get_or_insert_with(|| ZONE_PATTERN.to_owned()),
        "zones" => _ = pattern.get_or_insert_with(|| ZONES_PATTERN.to_owned()),
        "horizon" => _ = pattern.get_or_insert_with(|| DURATION_PATTERN.to_owned()),
        "date" => *format = Some(SchemaFormat::KnownFormat(KnownFormat::Date)),
        _ => {}
    }
}

/// A time with an offset, or seconds since 1970. Further ways to write one are accepted.
fn time_schema() -> RefOr<Schema> {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let number =
        ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(LAST_SECOND));
    OneOfBuilder::new().item(text).item(number).into()
}

/// Gives every error of an operation problem details as its body, and adds the errors that any
/// path may answer.
fn describe_errors(operation: &mut Operation) {
    let problem = || Content::new(Some(Ref::from_schema_name(PROBLEM_SCHEMA)));
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            // An answer of its own form has the members of problem details too.
            let own = response.content.shift_remove("application/json");
            response.content.insert(PROBLEM_TYPE.to_owned(), own.unwrap_or_else(problem));
        }
    }
    responses.entry("default".to_owned()).or_insert_with(|| {
        let mut any = Response::new("Any other error: problem details (RFC 9457).");
        any.content.insert(PROBLEM_TYPE.to_owned(), problem());
        RefOr::T(any)
    });
}

/// Routes `GET /openapi.json`, and `GET /docs`, the same document as a page. The document should be
/// [complete](complete_document).
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
