//! The page in a real browser. Without Chromium each test says that it is skipped;
//! `MICROCLIMATE_BROWSER=required` makes that a failure, and `MICROCLIMATE_AXE` names axe-core's
//! `axe.min.js` for the tests of accessibility.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    browser::{Browser, BrowserPage},
    support::{ChildProcess, free_port, program_path, publish_messages, wait_until_ready},
};

/// A zone's card on the overview.
const CARD: &str = "document.querySelector('.zone')";
const TOKEN: &str = "correct-horse-battery-staple";

struct Site {
    process: ChildProcess,
    url: String,
    mqtt_port: u16,
    _dir: tempfile::TempDir,
}

impl Site {
    async fn start(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rest = format!("127.0.0.1:{}", free_port());
        let mqtt_port = free_port();
        let own =
            [format!("rest.listen={rest}"), format!("gateway.mqtt.listen=127.0.0.1:{mqtt_port}")];
        let mut command = Command::new(program_path("microclimate"));
        command.args(["up", "--data-dir"]).arg(dir.path().join("data"));
        for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        let process = ChildProcess::start(&mut command);
        let url = format!("http://{rest}");
        wait_until_ready(&format!("{url}/readyz")).await;
        Self { process, url, mqtt_port, _dir: dir }
    }

    /// Sends lines of readings, and waits until each is durable.
    async fn send(&self, lines: String) {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/readings", self.url))
            .header("Content-Type", "application/x-ndjson")
            .bearer_auth(TOKEN)
            .body(lines);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

fn reading(zone: &str, metric: &str, value: f64, at_ms: i64) -> String {
    let (site, zone) = zone.split_once('/').unwrap();
    let line = json!({"site": site, "zone": zone, "device": "probe-1", "metric": metric, "value": value, "ts": at_ms});
    format!("{line}\n")
}

/// Two hours of a zone with a gap of half an hour, one implausible reading among them.
fn two_hours(zone: &str, now_ms: i64) -> String {
    let mut lines = String::new();
    for minute in (0..120).rev().filter(|minute| !(40..70).contains(minute)) {
        let at_ms = now_ms - minute * 60_000;
        for (metric, value) in
            [("temperature", 22.0 - minute as f64 / 100.0), ("soil_moisture", 21.0)]
        {
            lines += &reading(zone, metric, value, at_ms);
        }
    }
    lines + &reading(zone, "temperature", 579.0, now_ms - 90 * 60_000)
}

fn open(url: &str, width: u32) -> Option<BrowserPage> {
    let mut page = Browser::start()?.open_page(width, 900);
    page.go_to(url);
    Some(page)
}

/// Findings of axe-core in what is shown; none where `MICROCLIMATE_AXE` is not set.
fn accessibility_findings(page: &mut BrowserPage) -> Vec<String> {
    let Some(path) = std::env::var_os("MICROCLIMATE_AXE") else {
        println!("skipped: MICROCLIMATE_AXE does not name axe-core's axe.min.js");
        return Vec::new();
    };
    page.evaluate(&std::fs::read_to_string(Path::new(&path)).unwrap());
    let found = page.evaluate("axe.run(document).then(({violations}) => violations.map((v) => `${v.id}: ${v.nodes[0].html}`))");
    serde_json::from_value(found).unwrap()
}

#[tokio::test]
async fn from_no_reading_to_a_zone_with_its_course() {
    let site = Site::start(&[]).await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until("document.querySelector('.empty')");
    assert!(page.text().contains("mosquitto_pub"), "an empty page says how to begin");
    page.wait_until("document.querySelector('.link-state').textContent.startsWith('Connected')");

    site.send(two_hours("farm/bay-1", now_ms())).await;
    // The first reading brings the zone, without a reload.
    page.wait_until(CARD);
    page.wait_until("document.querySelector('.zone.alarm')");
    assert!(page.text().contains("Soil too dry: 21.0"), "{}", page.text());
    page.wait_until("document.querySelector('.link-state.live')");
    site.send(reading("farm/bay-1", "temperature", 23.4, now_ms())).await;
    page.wait_until("document.querySelector('.zone').innerText.includes('23.4')");
    assert_eq!(accessibility_findings(&mut page), [""; 0]);

    page.evaluate("document.querySelector('.zone a').click()");
    page.wait_until("document.querySelectorAll('.chart canvas').length >= 2");
    // The reading is in the chart once it is stored.
    page.wait_until(
        "document.querySelector('.chart-canvas').getAttribute('aria-label').includes('last 23.4')",
    );
    let chart = page.evaluate("document.querySelector('.chart-canvas').getAttribute('aria-label')");
    assert!(chart.as_str().unwrap().contains("Temperature"), "{chart}");
    page.evaluate("document.querySelector('main details:has(table) summary').click()");
    page.wait_until("document.querySelector('tbody').innerText.includes('no value')");
    page.evaluate("[...document.querySelectorAll('main button')].find((own) => own.textContent === 'Show readings').click()");
    page.wait_until("document.querySelector('dialog tbody tr')");
    assert_eq!(accessibility_findings(&mut page), [""; 0]);
    assert_eq!(page.complaints, [""; 0]);
}

#[tokio::test]
async fn an_alert_is_shown_acknowledged_and_found_again_among_past_ones() {
    let rules = r#"alerts.rules=[{name="frost",for_s=0}]"#;
    let site = Site::start(&[rules]).await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until("document.querySelector('.empty')");
    let topic = "sensors/farm/bay-1/probe/temperature";
    publish_messages(site.mqtt_port, topic, &["1.0".to_owned()]).await;
    // The badge tells of it on every page, without a reload.
    page.wait_until("document.querySelector('nav .badge:not([hidden])')");
    page.wait_until(
        "document.querySelector('.zone.alarm .zone-alerts')?.textContent.includes('Close to freezing')",
    );
    page.evaluate("document.querySelector('nav a[href=\"#/alerts\"]').click()");
    page.wait_until("document.querySelector('.alert.alarm')");
    assert!(page.text().contains("farm/bay-1: Temperature at 1"), "{}", page.text());
    page.wait_until("document.querySelectorAll('main table tbody tr').length >= 10");
    assert_eq!(accessibility_findings(&mut page), [""; 0]);
    page.evaluate("document.querySelector('.alert button').click()");
    page.wait_until("document.querySelector('.alert .tag')");
    page.wait_until("document.querySelector('nav .badge').hidden");
    assert!(page.text().contains("Acknowledged"), "{}", page.text());
    publish_messages(site.mqtt_port, topic, &vec!["25.0".to_owned(); 20]).await;
    page.wait_until("!document.querySelector('.alert')");
    page.wait_until(
        "document.querySelector('main table tbody tr').innerText.includes('Close to freezing')",
    );
    assert_eq!(accessibility_findings(&mut page), [""; 0]);
    assert_eq!(page.complaints, [""; 0]);
}

#[tokio::test]
async fn every_view_on_a_desk_and_a_phone_in_three_languages() {
    let site = Site::start(&[]).await;
    site.send(two_hours("farm/bay-1", now_ms()) + &reading("house/hall", "co2", 1900.0, now_ms()))
        .await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until(CARD);
    for (width, is_dark, language, heading) in [
        (1200, false, "en", "Pipeline"),
        (390, true, "de", "Empfangen"),
        (390, false, "fr", "Flux"),
    ] {
        page.resize(width, 844);
        page.prefer_dark(is_dark);
        let preferences = json!({ "language": language }).to_string();
        page.evaluate(&format!(
            "localStorage.setItem('microclimate.preferences', {preferences:?})"
        ));
        for view in [
            "",
            "zone/farm/bay-1",
            "alerts",
            "sensors",
            "models",
            "models/temperature-10m",
            "pipeline",
            "settings",
        ] {
            page.go_to(&format!("{}/?{language}-{}#/{view}", site.url, view.replace('/', "-")));
            page.wait_until("document.readyState === 'complete' && document.querySelector('h1') && !document.querySelector('main .loading')");
            let wide = page.evaluate("document.documentElement.scrollWidth - innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{language} {view} is {wide} px too wide");
            assert_eq!(accessibility_findings(&mut page), [""; 0], "{language} {view}");
            if view == "pipeline" {
                assert!(page.text().contains(heading), "{}", page.text());
            }
        }
    }
    assert_eq!(page.complaints, [""; 0]);
}

#[tokio::test]
async fn old_readings_are_not_called_live_and_a_lost_server_is_told() {
    let mut site = Site::start(&[]).await;
    site.send(two_hours("farm/bay-1", now_ms() - 3 * 3_600_000)).await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until("document.querySelector('.zone.stale')");
    page.wait_until("document.querySelector('.link-state.stale')");
    let link = page.evaluate("document.querySelector('.link-state').textContent");
    assert!(link.as_str().unwrap().contains("3 h ago"), "{link}");

    page.set_offline(true);
    page.evaluate("dispatchEvent(new Event('offline'))");
    page.wait_until("document.querySelector('.link-state.lost')");
    page.wait_until("!document.querySelector('.banner').hidden");
    page.set_offline(false);
    page.evaluate("dispatchEvent(new Event('online'))");
    page.wait_until(
        "document.querySelector('.link-state.stale') && document.querySelector('.banner').hidden",
    );

    site.process.kill();
    page.wait_until("document.querySelector('.link-state.lost')");
    assert!(page.evaluate("document.querySelector('.zone') !== null") == json!(true));
}

#[tokio::test]
async fn a_token_is_asked_for_and_a_session_takes_its_place() {
    let site = Site::start(&[&format!("rest.token={TOKEN}")]).await;
    site.send(reading("farm/bay-1", "temperature", 21.0, now_ms())).await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until("document.querySelector('#login-token')");
    assert_eq!(accessibility_findings(&mut page), [""; 0]);
    let enter = |token: &str| {
        format!(
            "document.querySelector('#login-token').value = '{token}'; document.querySelector('form').requestSubmit()"
        )
    };
    page.evaluate(&enter("wrong"));
    page.wait_until("document.querySelector('#login-problem').textContent");
    page.evaluate(&enter(TOKEN));
    page.wait_until(CARD);
    assert_eq!(page.evaluate("document.cookie"), json!(""), "no script sees the session");
    page.wait_until("document.querySelector('.link-state.live')");
    // The session outlives the page, and ends where it is left.
    page.go_to(&format!("{}/?again#/pipeline", site.url));
    page.wait_until("document.querySelector('.flow')");
    // The way out is there once the page knows of the session.
    let sign_out = "[...document.querySelectorAll('#top button')].find((own) => !own.hidden)";
    page.wait_until(sign_out);
    page.evaluate(&format!("{sign_out}.click()"));
    page.wait_until("document.querySelector('#login-token')");
    let status = page.evaluate("fetch('/v1/overview').then(({status}) => status)");
    assert_eq!(status, json!(401));
    assert_eq!(page.complaints, [""; 0]);
}

#[tokio::test]
async fn five_hundred_zones_come_with_one_request_and_one_stream() {
    let site = Site::start(&[]).await;
    let now = now_ms();
    let mut lines = String::new();
    for zone in 0..500 {
        for (metric, value) in [("temperature", 21.0), ("humidity", 50.0), ("co2", 700.0)] {
            let value = if zone == 321 && metric == "temperature" { 30.0 } else { value };
            let _ =
                write!(lines, "{}", reading(&format!("tower/room-{zone:03}"), metric, value, now));
        }
    }
    site.send(lines).await;
    crate::support::wait_for_json(
        &format!("{}/v1/overview?limit=1", site.url),
        "500 zones",
        |answer| answer["total"] == 500,
    )
    .await;
    let Some(mut page) = open(&site.url, 1200) else { return };
    page.wait_until("document.querySelectorAll('.zone').length === 500");
    let first = page.evaluate("document.querySelector('.zone').innerText");
    assert!(first.as_str().unwrap().contains("room-321"), "the most urgent is first: {first}");
    let requests = page.evaluate("performance.getEntriesByType('resource').map(({name}) => new URL(name).pathname).filter((path) => path.startsWith('/v1/'))");
    let asked: Vec<&str> = requests.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(asked.iter().filter(|path| **path == "/v1/overview").count(), 1, "{asked:?}");
    assert!(asked.len() <= 3, "{asked:?}");

    page.evaluate("const search = document.querySelector('input[type=search]'); search.value = 'room-12'; search.dispatchEvent(new Event('input'))");
    page.wait_until("document.querySelectorAll('.zone').length === 10");
    assert_eq!(page.complaints, [""; 0]);
}
