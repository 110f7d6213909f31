//! Messages to receivers that really listen: an SMTP server, an Alertmanager, a webhook.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, http::StatusCode, routing::post};
use microclimate_alerts::{
    ActiveAlert, AlertBatch, AlertBook, AlertHistoryQuery, AlertObservation, AlertSettings,
    AlertStore, AlertStoreError, ConditionLevel, PastAlert, StoredAlerts,
    alert::AlertKey,
    notify::{AlertView, delivery::AlertDelivery, outbox::OutboxMessage},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// Remembers which messages were settled.
#[derive(Debug, Default)]
struct SettledMessages(Mutex<Vec<(String, String)>>);

impl AlertStore for SettledMessages {
    fn load_alerts(&self) -> Result<StoredAlerts, AlertStoreError> {
        Ok(StoredAlerts::default())
    }

    fn save_batch(&self, batch: &AlertBatch) -> Result<(), AlertStoreError> {
        self.0.lock().unwrap().extend(batch.settled.clone());
        Ok(())
    }

    fn read_past_alerts(&self, _: &AlertHistoryQuery) -> Result<Vec<PastAlert>, AlertStoreError> {
        Ok(Vec::new())
    }

    fn trim_history(&self, _: i64, _: u64) -> Result<(), AlertStoreError> {
        Ok(())
    }
}

/// An alert that fires, and the message about it.
fn fire(delivery: &AlertDelivery, settings: &AlertSettings) -> (AlertView, Vec<OutboxMessage>) {
    let rules = settings.check().unwrap().rules;
    let frost = rules.iter().find(|rule| rule.name == "frost").unwrap();
    let key = AlertKey::for_zone(&frost.name, &"farm/bay-1".parse().unwrap(), "temperature");
    let mut book = AlertBook::new(10, Vec::<ActiveAlert>::new());
    let mut change = None;
    for minute in [0, 10] {
        let observation = AlertObservation {
            event_ms: 1_764_504_000_000 + minute * 60_000,
            is_live: true,
            level: ConditionLevel::Exceeded,
            value: Some(0.5),
            limit: Some(2.0),
            detail: "".into(),
        };
        change = book.observe(frost, &key, &observation);
    }
    let change = change.expect("it fires");
    let view = AlertView::from_active(&change.alert, Some(frost), false, &|_| Some("°C".into()));
    (view.clone(), delivery.messages_about(&change, &view, 0))
}

fn delivery_to(settings: &AlertSettings) -> (Arc<AlertDelivery>, Arc<SettledMessages>) {
    let store = Arc::new(SettledMessages::default());
    let checked = Arc::new(settings.check().unwrap());
    let delivery = AlertDelivery::new(checked, store.clone(), &[]).unwrap();
    (Arc::new(delivery), store)
}

/// A server that speaks as much of SMTP as one message needs.
async fn receive_mail(listener: TcpListener) -> String {
    let (socket, _) = listener.accept().await.unwrap();
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut mail = String::new();
    let mut is_data = false;
    write.write_all(b"220 test\r\n").await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        if is_data {
            if line == "." {
                write.write_all(b"250 ok\r\n").await.unwrap();
                return mail;
            }
            mail += &line;
            mail += "\n";
            continue;
        }
        is_data = line.eq_ignore_ascii_case("DATA");
        let answer: &[u8] = if is_data { b"354 go on\r\n" } else { b"250 ok\r\n" };
        write.write_all(answer).await.unwrap();
    }
    mail
}

#[tokio::test]
async fn an_email_says_what_was_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = AlertSettings::default();
    settings.notify.group_wait_s = 0.0;
    settings.email.host = "127.0.0.1".into();
    settings.email.port = listener.local_addr().unwrap().port();
    settings.email.encryption = microclimate_alerts::settings::SmtpEncryption::None;
    settings.email.from = "Farm <farm@example.org>".into();
    settings.email.to = vec!["ada@example.org".into()];
    settings.notify.retry_h = 720.0;
    let (delivery, store) = delivery_to(&settings);
    let (_, mut messages) = fire(&delivery, &settings);
    let stop = CancellationToken::new();
    messages.iter_mut().for_each(|own| own.queued_ms = now_ms());
    delivery.enqueue(&messages);
    let running = tokio::spawn(delivery.run(stop.clone()));
    let mail = receive_mail(listener).await;
    for part in
        ["To: ada@example.org", "frost fired at farm/bay-1", "temperature is 0.5", "@microclimate>"]
    {
        assert!(mail.contains(part), "{part:?} is not in {mail}");
    }
    while store.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.0.lock().unwrap()[0].1, "email");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn alertmanager_gets_labels_and_times() {
    let (sender, mut posted) = mpsc::unbounded_channel();
    let take = move |Json(body): Json<Value>| async move {
        sender.send(body).unwrap();
        StatusCode::OK
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = AlertSettings::default();
    settings.alertmanager.url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/api/v2/alerts", post(take))).await
    });
    let (delivery, _) = delivery_to(&settings);
    let (view, _) = fire(&delivery, &settings);
    delivery.set_alerts(vec![view], Vec::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(delivery.run(stop.clone()));
    let body = posted.recv().await.unwrap();
    let labels = &body[0]["labels"];
    assert_eq!(labels["alertname"], "frost");
    assert_eq!((&labels["site"], &labels["zone"]), (&"farm".into(), &"farm/bay-1".into()));
    assert_eq!(body[0]["startsAt"], "2025-11-30T12:10:00Z");
    assert!(body[0]["endsAt"].as_str() > body[0]["startsAt"].as_str());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_refused_for_good_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = AlertSettings::default();
    settings.notify.group_wait_s = 0.0;
    settings.webhook.url =
        format!("http://{}/hook", listener.local_addr().unwrap()).as_str().into();
    tokio::spawn(async move {
        let gone = post(|| async { StatusCode::GONE });
        axum::serve(listener, Router::new().route("/hook", gone)).await
    });
    let (delivery, store) = delivery_to(&settings);
    let (_, mut messages) = fire(&delivery, &settings);
    messages.iter_mut().for_each(|own| own.queued_ms = now_ms());
    delivery.enqueue(&messages);
    let stop = CancellationToken::new();
    let running = tokio::spawn(delivery.clone().run(stop.clone()));
    while store.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let counts = delivery.counts();
    let given_up = counts[0].1.by_outcome().into_iter().find(|(name, _)| *name == "given_up");
    assert_eq!(given_up, Some(("given_up", 1)));
    stop.cancel();
    running.await.unwrap();
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}
