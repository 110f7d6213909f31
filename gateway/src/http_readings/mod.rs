//! Readings over HTTP: `POST /v1/readings`, with the guarantee of a QoS 1 PUBLISH.
//!
//! Each line of the body becomes a message and is processed like one that arrived by MQTT: by the
//! same decoder, mappings, log and ledger. The response is sent when all lines are durable. It
//! lists each line that is not among the readings.
//!
//! - [`json_lines`], [`line_protocol`]: a line → topic and payload

mod json_lines;
mod line_protocol;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use service::rest::{PROBLEM_TYPE, Problem, ProblemDetails};
use telemetry::{DeadLetterReason, DeviceAddress, ZoneId, topic::check_level};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use utoipa::{IntoParams, ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    gateway::Gateway,
    ingest_queue::{DurableOutcome, IngestOutcome},
    message::{InboundMessage, now_ms},
};
use json_lines::parse_json_line;
use line_protocol::{TimestampPrecision, parse_line_protocol};

/// Largest body, bytes, as in every service.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Largest number of lines in one body.
const LINES_MAX: usize = 10_000;
/// Number of bodies that are processed at once. Further requests wait.
const BODIES_AT_ONCE: usize = 4;
/// Time after which no more lines are submitted or waited for. It is shorter than the HTTP
/// server's limit for a response, so that the response reports the outcome of each line.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Route `POST /v1/readings`.
pub(crate) fn readings_routes(gateway: Gateway) -> Router {
    let bodies = Arc::new(Semaphore::new(BODIES_AT_ONCE));
    let state = ReadingsEndpoint { gateway, bodies };
    Router::from(paths().with_state(state)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Describes the paths as OpenAPI 3.1.
pub(crate) fn openapi() -> OpenApi {
    paths().into_openapi()
}

fn paths() -> OpenApiRouter<ReadingsEndpoint> {
    OpenApiRouter::new().routes(routes!(post_readings))
}

#[derive(Clone)]
struct ReadingsEndpoint {
    gateway: Gateway,
    bodies: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BodyFormat {
    /// JSON lines.
    Json,
    /// Influx line protocol.
    Influx,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct ReadingsQuery {
    /// Format of the body. By default a body that begins with `{` is JSON lines, and any other is
    /// line protocol.
    format: Option<BodyFormat>,
    /// Precision of timestamps in line protocol.
    #[param(value_type = Option<TimestampPrecision>)]
    precision: TimestampPrecision,
    /// Site for lines that name none.
    site: Option<String>,
    /// Zone for lines that name none, without its site.
    #[param(pattern = "^[^/+#]{0,64}$")]
    zone: Option<String>,
}

/// The place of lines that do not name one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneDefaults {
    pub(crate) site: Option<String>,
    pub(crate) zone: Option<String>,
}

/// Returns the topic of a device in the gateway's own convention.
fn device_topic(
    place: &ZoneDefaults,
    device: &str,
    metric: Option<&str>,
) -> Result<String, RefusedLine> {
    let level = |name: &str, value: Option<&str>| {
        let value = value.ok_or_else(|| {
            RefusedLine::new(format!("no {name} is named"))
                .with_hint(format!("add `{name}` to the line, or ?{name}=… for all lines"))
        })?;
        check_level(value).map_err(|what| RefusedLine::new(format!("{name}: {what}")))?;
        Ok::<_, RefusedLine>(value.to_owned())
    };
    let zone =
        ZoneId::new(&level("site", place.site.as_deref())?, &level("zone", place.zone.as_deref())?);
    let device = level("device", Some(device))?.into();
    let metric = metric.map(|metric| level("metric", Some(metric))).transpose()?;
    Ok(DeviceAddress { zone, device, metric: metric.map(Into::into) }.to_topic())
}

/// The error for a line that is not a message.
#[derive(Debug, PartialEq, Eq)]
struct RefusedLine {
    message: String,
    hint: Option<String>,
}

impl RefusedLine {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RefusedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; hint: {hint}"))
    }
}

/// The response: the outcome of the lines.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ReadingsAnswer {
    /// The error, if not every line was accepted.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    problem: Option<ProblemDetails>,
    /// Number of lines that were read, without blank ones and comments.
    lines: u64,
    readings: ReadingCounts,
    /// Lines that are not, or not completely, durable among the readings. All other lines before
    /// `next_line` are.
    problems: Vec<LineProblem>,
    /// The first line that was not accepted. Send the body again from this line on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_line: Option<usize>,
}

/// Number of durable readings, by outcome.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ReadingCounts {
    logged: u64,
    dead_lettered: u64,
    duplicates: u64,
}

/// The outcome of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LineOutcome {
    /// It is not a message, and was not accepted.
    Refused,
    /// It is durable, and it or a part of it is a dead letter.
    DeadLettered,
    /// It was durable already: the device has sent it before.
    Duplicate,
    /// It was submitted and is not durable yet; it may still become so.
    Unknown,
}

#[derive(Debug, Serialize, ToSchema)]
struct LineProblem {
    /// The line's number, from 1.
    line: usize,
    outcome: LineOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    reason: Option<DeadLetterReason>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A line on its way to the log.
type SubmittedLine = (usize, oneshot::Receiver<IngestOutcome>);

/// Takes readings as JSON lines or Influx line protocol. The answer comes when they are durable.
#[utoipa::path(post, path = "/v1/readings", tag = "gateway", params(ReadingsQuery),
    request_body(content = Option<String>, content_type = "text/plain",
        description = "Lines of JSON as in MQTT with a `topic`, or of Influx line protocol."),
    responses((status = 200, body = ReadingsAnswer), (status = 400, body = ProblemDetails),
        (status = 413, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
async fn post_readings(
    State(door): State<ReadingsEndpoint>,
    query: Result<Query<ReadingsQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| {
        Problem::bad_request(error.body_text())
            .with_code("bad_query")
            .with_hint("as in ?format=influx&precision=ms&site=farm&zone=bay-1")
    })?;
    for (name, value) in [("site", &query.site), ("zone", &query.zone)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            check_level(value).map_err(|what| {
                Problem::bad_request(format!("{name}: {what}")).with_code("bad_query")
            })?;
        }
    }
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::bad_request("the body is compressed")
            .with_code("unsupported_encoding")
            .with_hint("send it as it is, without Content-Encoding"));
    }
    // The semaphore is never closed.
    let _permit = door.bodies.acquire().await;
    let body = read_body(request).await?;
    let answer = door.ingest_lines(&body, &query).await?;
    let status = match &answer {
        ReadingsAnswer { problem: None, .. } => return Ok(Json(answer).into_response()),
        answer if answer.is_incomplete() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Ok((status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], Json(answer)).into_response())
}

async fn read_body(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let what = format!("the body is above {BODY_BYTES_MAX} bytes");
            return Problem::too_large(what).with_hint("send it in parts");
        }
        Problem::bad_request(rejection.body_text()).with_code("bad_body")
    })
}

impl ReadingsEndpoint {
    async fn ingest_lines(
        &self,
        body: &[u8],
        query: &ReadingsQuery,
    ) -> Result<ReadingsAnswer, Problem> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let line = body[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            Problem::bad_request(format!("line {line} is not UTF-8; nothing was taken"))
                .with_code("bad_body")
        })?;
        if text.lines().count() > LINES_MAX {
            return Err(Problem::too_large(format!(
                "more than {LINES_MAX} lines; nothing was taken"
            ))
            .with_hint("send them in parts"));
        }
        let is_json = text.trim_start().starts_with('{');
        let format =
            query.format.unwrap_or(if is_json { BodyFormat::Json } else { BodyFormat::Influx });
        let place = ZoneDefaults { site: query.site.clone(), zone: query.zone.clone() };
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let mut answer = ReadingsAnswer::default();
        let mut submitted = VecDeque::new();
        for (line, text) in (1..).zip(text.lines()).map(|(line, text)| (line, text.trim())) {
            if text.is_empty() || (format == BodyFormat::Influx && text.starts_with('#')) {
                continue;
            }
            answer.lines += 1;
            let parsed = self.check_length(text).and_then(|()| match format {
                BodyFormat::Json => parse_json_line(text, &place),
                BodyFormat::Influx => parse_line_protocol(text, &place, query.precision),
            });
            match parsed {
                Ok((topic, payload)) => match self.submit_line(topic, payload, deadline).await {
                    Some(durable) => submitted.push_back((line, durable)),
                    None => {
                        answer.lines -= 1;
                        answer.next_line = Some(line);
                        break;
                    }
                },
                Err(refused) => answer.add_refused_line(line, refused),
            }
            answer.settle_ready(&mut submitted);
        }
        answer.settle_all(submitted, deadline).await;
        answer.problems.sort_by_key(|problem| problem.line);
        answer.problem = answer.to_problem().map(ProblemDetails::from);
        Ok(answer)
    }

    /// Limits a line like a packet of MQTT, so that its records fit into the log.
    fn check_length(&self, line: &str) -> Result<(), RefusedLine> {
        let bytes_max = self.gateway.0.current_settings().mqtt.packet_bytes_max as usize;
        if line.len() > bytes_max {
            let what = format!("{} bytes, expected at most {bytes_max}", line.len());
            return Err(RefusedLine::new(what).with_hint("raise mqtt.packet_bytes_max"));
        }
        Ok(())
    }

    /// Submits a message; `None` if there was no room for it in time.
    async fn submit_line(
        &self,
        topic: String,
        payload: String,
        deadline: Instant,
    ) -> Option<oneshot::Receiver<IngestOutcome>> {
        let message = InboundMessage {
            topic: topic.into(),
            payload: payload.into(),
            is_retained: false,
            is_redelivery: false,
            received_ms: now_ms(),
        };
        let ingest_queue = &self.gateway.0.ingest_queue;
        loop {
            if let Ok(durable) = ingest_queue.submit_message(message.clone()) {
                return Some(durable);
            }
            timeout_at(deadline, ingest_queue.wait_for_room(&message)).await.ok()?;
        }
    }
}

impl ReadingsAnswer {
    fn add_refused_line(&mut self, line: usize, RefusedLine { message, hint }: RefusedLine) {
        let outcome = LineOutcome::Refused;
        self.problems.push(LineProblem { line, outcome, reason: None, message, hint });
    }

    fn settle_line(&mut self, line: usize, done: Option<IngestOutcome>) {
        let (outcome, reason, message) = match done {
            Some(IngestOutcome::Durable(DurableOutcome { tally, dead_letter })) => {
                self.readings.logged += tally.logged;
                self.readings.dead_lettered += tally.dead_lettered;
                self.readings.duplicates += tally.duplicates;
                match dead_letter {
                    Some((reason, detail)) => (LineOutcome::DeadLettered, Some(reason), detail),
                    None if tally.duplicates > 0 => {
                        let what = "the device has sent this number and payload before".to_owned();
                        (LineOutcome::Duplicate, None, what)
                    }
                    None => return,
                }
            }
            // The second outcome is for dead letters alone, which are not submitted here.
            None | Some(IngestOutcome::StillDead(..)) => {
                (LineOutcome::Unknown, None, "not durable yet; it may still become so".to_owned())
            }
        };
        self.problems.push(LineProblem { line, outcome, reason, message, hint: None });
    }

    /// Settles the lines that are already durable, so that they do not pile up.
    fn settle_ready(&mut self, submitted: &mut VecDeque<SubmittedLine>) {
        while let Some((line, durable)) = submitted.front_mut() {
            match durable.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                done => {
                    let line = *line;
                    submitted.pop_front();
                    self.settle_line(line, done.ok());
                }
            }
        }
    }

    async fn settle_all(&mut self, submitted: VecDeque<SubmittedLine>, deadline: Instant) {
        for (line, durable) in submitted {
            let done = timeout_at(deadline, durable).await;
            self.settle_line(line, done.ok().and_then(Result::ok));
        }
    }

    fn has_outcome(&self, outcome: LineOutcome) -> bool {
        self.problems.iter().any(|problem| problem.outcome == outcome)
    }

    /// Whether lines were not accepted, or not durable in time.
    fn is_incomplete(&self) -> bool {
        self.next_line.is_some() || self.has_outcome(LineOutcome::Unknown)
    }

    fn to_problem(&self) -> Option<Problem> {
        if self.is_incomplete() {
            let what = "the log is too far behind: not all lines are durable";
            let hint = "send the lines from `next_line` on again, and those with the outcome \
                        `unknown`; those may then be logged twice";
            return Some(Problem::unavailable(what).with_code("not_durable").with_hint(hint));
        }
        self.has_outcome(LineOutcome::Refused).then(|| {
            let what = "lines were refused; all others are durable";
            Problem::bad_request(what).with_code("lines_refused").with_hint("see `problems`")
        })
    }
}
