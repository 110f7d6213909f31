use std::collections::BTreeMap;

use alerts::{
    AcknowledgedBy, AlertHistoryQuery, AlertId, AlertRule, AlertSeverity, AlertState,
    mute::MuteSchedule, notify::AlertView,
};
use axum::{
    Router,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};
use service::rest::{JsonBody, Problem, ProblemDetails, QueryParams};
use telemetry::{ZoneId, time::parse_bound_ms};
use utoipa::{IntoParams, ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::AlertService;
use crate::{compression::json_response, overview::now_ms};

/// Largest number of alerts in one answer, and the number without `limit`.
const ALERTS_MAX: usize = 1000;
const ALERTS_DEFAULT: usize = 100;
/// Longest name and note of who acknowledges, characters.
const NAME_LETTERS_MAX: usize = 100;
const NOTE_LETTERS_MAX: usize = 1000;

/// Routes `/v1/alerts` and those below it.
pub(crate) fn alert_routes(service: AlertService) -> Router {
    Router::from(paths().with_state(service))
}

/// Returns the OpenAPI description of these paths.
pub(crate) fn openapi() -> OpenApi {
    paths().into_openapi()
}

fn paths() -> OpenApiRouter<AlertService> {
    OpenApiRouter::new()
        .routes(routes!(list_alerts))
        .routes(routes!(list_past_alerts))
        .routes(routes!(list_rules))
        .routes(routes!(acknowledge_alert, unacknowledge_alert))
}

/// Active alerts, and counts of all of them.
#[derive(Debug, Serialize, ToSchema)]
struct ActiveAlerts {
    /// The server's clock, UTC ms.
    now_ms: i64,
    /// Active alerts by state, whatever was asked for.
    #[schema(value_type = BTreeMap<String, usize>)]
    counts: BTreeMap<&'static str, usize>,
    /// Alerts for which there is no room (`alerts.active_max`).
    refused: usize,
    /// Alerts that match, on all pages.
    total: usize,
    /// Firing ones first, the most urgent first.
    alerts: Vec<AlertView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ActiveAlertParams {
    /// Only alerts in this state: `pending`, `firing` or `acknowledged`.
    #[param(example = "firing")]
    state: Option<AlertState>,
    /// Only alerts of this severity: `info`, `warning` or `critical`.
    severity: Option<AlertSeverity>,
    /// Only alerts of this site.
    site: Option<String>,
    /// Only alerts of this zone.
    #[param(example = "farm/bay-1")]
    zone: Option<String>,
    /// Only alerts of this rule.
    rule: Option<String>,
    /// From 0.
    #[serde(default)]
    page: usize,
    /// Alerts of a page, 100 without it, at most 1000.
    limit: Option<usize>,
}

/// Active alerts: pending, firing and acknowledged.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", params(ActiveAlertParams),
    responses((status = 200, body = ActiveAlerts), (status = 400, body = ProblemDetails)))]
async fn list_alerts(
    State(service): State<AlertService>,
    headers: HeaderMap,
    QueryParams(params): QueryParams<ActiveAlertParams>,
) -> Result<Response, Problem> {
    let limit = check_limit(params.limit)?;
    let zone = parse_zone(params.zone.as_deref())?;
    let all = service.active_alerts();
    let states = [AlertState::Pending, AlertState::Firing, AlertState::Acknowledged];
    let count = |state| all.iter().filter(|own| own.state == state).count();
    let counts = states.into_iter().map(|state| (state.as_str(), count(state))).collect();
    let is_wanted = |own: &&AlertView| {
        let site = own.zone.as_ref().map(|zone| zone.site.as_str());
        params.state.is_none_or(|state| own.state == state)
            && params.severity.is_none_or(|severity| own.severity == severity)
            && params.site.as_deref().is_none_or(|wanted| site == Some(wanted))
            && zone.as_ref().is_none_or(|zone| own.zone.as_ref() == Some(zone))
            && params.rule.as_ref().is_none_or(|rule| own.rule == *rule)
    };
    let found: Vec<&AlertView> = all.iter().filter(is_wanted).collect();
    let first = params.page.saturating_mul(limit);
    let answer = ActiveAlerts {
        now_ms: now_ms(),
        counts,
        refused: service.refused_count(),
        total: found.len(),
        alerts: found.into_iter().skip(first).take(limit).cloned().collect(),
    };
    json_response(&headers, &answer).map_err(Problem::internal)
}

/// Past alerts.
#[derive(Debug, Serialize, ToSchema)]
struct PastAlerts {
    /// Newest end first.
    alerts: Vec<AlertView>,
    /// Whether the next page has more.
    has_more: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PastAlertParams {
    /// Only alerts of this site.
    site: Option<String>,
    /// Only alerts of this zone.
    #[param(example = "farm/bay-1")]
    zone: Option<String>,
    /// Only alerts of this rule.
    rule: Option<String>,
    /// Earliest end, included: a date, a time (UTC without an offset) or a number since 1970.
    from: Option<String>,
    /// Latest end, included.
    to: Option<String>,
    /// From 0.
    #[serde(default)]
    page: usize,
    /// Alerts of a page, 100 without it, at most 1000.
    limit: Option<usize>,
}

/// Alerts that fired and have ended, also those that were found in readings of the past.
#[utoipa::path(get, path = "/v1/alerts/history", tag = "alerts", params(PastAlertParams),
    responses((status = 200, body = PastAlerts), (status = 400, body = ProblemDetails)))]
async fn list_past_alerts(
    State(service): State<AlertService>,
    headers: HeaderMap,
    QueryParams(params): QueryParams<PastAlertParams>,
) -> Result<Response, Problem> {
    let limit = check_limit(params.limit)?;
    let time =
        |text: Option<&str>| text.map(parse_bound_ms).transpose().map_err(Problem::bad_request);
    let query = AlertHistoryQuery {
        site: params.site,
        zone: parse_zone(params.zone.as_deref())?,
        rule: params.rule,
        from_ms: time(params.from.as_deref())?,
        to_ms: time(params.to.as_deref())?,
        offset: params.page.saturating_mul(limit) as u64,
        // One more shows whether there are more.
        limit: limit as u64 + 1,
    };
    let mut alerts = service.read_history(query).await?;
    let has_more = alerts.len() > limit;
    alerts.truncate(limit);
    json_response(&headers, &PastAlerts { alerts, has_more }).map_err(Problem::internal)
}

/// A rule as it is applied.
#[derive(Debug, Serialize, ToSchema)]
struct RuleDescription {
    name: String,
    summary: String,
    severity: AlertSeverity,
    kind: &'static str,
    /// The condition, in words.
    condition: String,
    /// How long the condition must hold, s.
    for_s: f64,
    /// Zones to which it applies; empty for all.
    zones: Vec<String>,
    /// When nobody is notified.
    mute: Vec<String>,
    is_built_in: bool,
    is_enabled: bool,
    /// Active alerts of the rule that fire.
    firing: usize,
}

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
struct RuleList {
    /// Built-in ones first.
    rules: Vec<RuleDescription>,
    /// When nobody is notified, of any rule.
    mute: Vec<String>,
    /// Who is notified: `mqtt`, `webhook`, `email`, `alertmanager`.
    receivers: Vec<&'static str>,
}

/// The rules, those that are turned off too, and who is notified.
#[utoipa::path(get, path = "/v1/alerts/rules", tag = "alerts",
    responses((status = 200, body = RuleList)))]
async fn list_rules(
    State(service): State<AlertService>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let checked = service.checked();
    let active = service.active_alerts();
    let describe = |rule: &AlertRule| RuleDescription {
        name: rule.name.to_string(),
        summary: rule.summary.clone(),
        severity: rule.severity,
        kind: rule.condition.kind(),
        condition: rule.condition.describe(),
        for_s: rule.for_s,
        zones: rule.zones.iter().map(ToString::to_string).collect(),
        mute: rule.mute.iter().map(MuteSchedule::describe).collect(),
        is_built_in: rule.is_built_in,
        is_enabled: rule.is_enabled && checked.raw.enabled,
        firing: active
            .iter()
            .filter(|own| own.rule == rule.name && own.state != AlertState::Pending)
            .count(),
    };
    let raw = &checked.raw;
    let receivers = [
        ("mqtt", raw.mqtt.enabled),
        ("webhook", raw.webhook.url.expose_secret().is_some()),
        ("email", !raw.email.host.is_empty()),
        ("alertmanager", !raw.alertmanager.url.is_empty()),
    ];
    let answer = RuleList {
        rules: checked.rules.iter().map(describe).collect(),
        mute: checked.mute.iter().map(MuteSchedule::describe).collect(),
        receivers: receivers
            .into_iter()
            .filter(|(_, is_on)| *is_on)
            .map(|(name, _)| name)
            .collect(),
    };
    json_response(&headers, &answer).map_err(Problem::internal)
}

/// Who acknowledges, and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct AcknowledgeRequest {
    /// Name of the person.
    #[schema(example = "Ada")]
    by: String,
    /// Note for others.
    #[schema(example = "A new battery is on its way.")]
    note: String,
}

/// Acknowledges a firing alert: others see that somebody takes care of it. The body is JSON, `{}`
/// at least.
#[utoipa::path(post, path = "/v1/alerts/{id}/acknowledge", tag = "alerts",
    params(("id" = String, Path, description = "Identifier of the alert")),
    request_body = AcknowledgeRequest,
    responses((status = 200, body = AlertView), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
async fn acknowledge_alert(
    State(service): State<AlertService>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<AcknowledgeRequest>,
) -> Result<Response, Problem> {
    let lengths =
        [("by", &request.by, NAME_LETTERS_MAX), ("note", &request.note, NOTE_LETTERS_MAX)];
    for (key, text, letters_max) in lengths {
        if text.chars().count() > letters_max {
            return Err(Problem::bad_request(format!(
                "{key} has more than {letters_max} characters"
            )));
        }
    }
    let AcknowledgeRequest { by, note } = request;
    let by = AcknowledgedBy { at_ms: now_ms(), by, note };
    let alert = service.acknowledge(AlertId::from(id.as_str()), Some(by)).await?;
    json_response(&headers, &alert).map_err(Problem::internal)
}

/// Takes an acknowledgement back.
#[utoipa::path(delete, path = "/v1/alerts/{id}/acknowledge", tag = "alerts",
    params(("id" = String, Path, description = "Identifier of the alert")),
    responses((status = 200, body = AlertView), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
async fn unacknowledge_alert(
    State(service): State<AlertService>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let alert = service.acknowledge(AlertId::from(id.as_str()), None).await?;
    json_response(&headers, &alert).map_err(Problem::internal)
}

fn check_limit(limit: Option<usize>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(ALERTS_DEFAULT);
    if (1..=ALERTS_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::bad_request(format!("limit {limit}, expected 1 to {ALERTS_MAX}")))
    }
}

fn parse_zone(text: Option<&str>) -> Result<Option<ZoneId>, Problem> {
    let zone = text.map(str::parse).transpose();
    zone.map_err(|error| Problem::bad_request(format!("zone: {error}")))
}
