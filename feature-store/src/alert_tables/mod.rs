//! Alerts in the DuckDB file. Each batch is one transaction, written while nothing else is, so
//! that the file has one writer at a time.

use alerts::{
    AcknowledgedBy, ActiveAlert, AlertBatch, AlertHistoryQuery, AlertId, AlertKey, AlertOutcome,
    AlertSeverity, AlertStore, AlertStoreError, PastAlert, StoredAlerts,
    notify::outbox::OutboxMessage, store::ZoneCursor,
};
use duckdb::{Connection, Row, Transaction, params, params_from_iter, types::Value};
use telemetry::{SmolStr, ZoneId};

use crate::{FeatureStore, StoreError};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

/// Columns of an alert, as they are read.
const ALERT_COLUMNS: &str = "id, rule, severity, site, zone, subject, epoch_ms(started), \
    epoch_ms(fired), epoch_ms(observed), value, peak, \"limit\", detail, is_recorded, \
    epoch_ms(acknowledged), acknowledged_by, acknowledged_note";
/// Number of these columns.
const ALERT_COLUMN_COUNT: usize = 17;
/// Values of an alert, as they are written.
const ALERT_VALUES: &str = "?, ?, ?, ?, ?, ?, make_timestamp_ms(?), make_timestamp_ms(?), \
    make_timestamp_ms(?), ?, ?, ?, ?, ?, make_timestamp_ms(?), ?, ?";

impl AlertStore for FeatureStore {
    fn load_alerts(&self) -> Result<StoredAlerts, AlertStoreError> {
        let connection = self.0.new_connection().map_err(store_failed)?;
        read_stored(&connection).map_err(|error| store_failed(error.into()))
    }

    fn save_batch(&self, batch: &AlertBatch) -> Result<(), AlertStoreError> {
        let write = || -> Result<(), StoreError> {
            let mut connection = self.0.new_connection()?;
            let _writing = self.0.lock_file();
            let transaction = connection.transaction()?;
            write_batch(&transaction, batch)?;
            Ok(transaction.commit()?)
        };
        write().map_err(store_failed)
    }

    fn read_past_alerts(
        &self,
        query: &AlertHistoryQuery,
    ) -> Result<Vec<PastAlert>, AlertStoreError> {
        let connection = self.0.new_connection().map_err(store_failed)?;
        read_past(&connection, query).map_err(|error| store_failed(error.into()))
    }

    fn trim_history(&self, before_ms: i64, past_max: u64) -> Result<(), AlertStoreError> {
        let write = || -> Result<(), StoreError> {
            let connection = self.0.new_connection()?;
            let _writing = self.0.lock_file();
            connection.execute(
                "DELETE FROM alerts.history WHERE resolved < make_timestamp_ms(?) OR resolved < (
                     SELECT min(resolved) FROM (
                         SELECT resolved FROM alerts.history ORDER BY resolved DESC LIMIT ?))",
                params![before_ms, past_max],
            )?;
            Ok(())
        };
        write().map_err(store_failed)
    }
}

fn store_failed(error: StoreError) -> AlertStoreError {
    AlertStoreError(error.to_string())
}

fn write_batch(transaction: &Transaction<'_>, batch: &AlertBatch) -> Result<(), duckdb::Error> {
    let mut forget = transaction.prepare("DELETE FROM alerts.active WHERE id = ?")?;
    for id in batch.active.iter().map(|alert| &alert.id).chain(&batch.ended) {
        forget.execute([id.as_str()])?;
    }
    let mut insert =
        transaction.prepare(&format!("INSERT INTO alerts.active VALUES ({ALERT_VALUES})"))?;
    for alert in &batch.active {
        insert.execute(params_from_iter(alert_values(alert)))?;
    }
    // The same alert may end again after a crash, under the same id.
    let mut forget = transaction.prepare("DELETE FROM alerts.history WHERE id = ?")?;
    let mut insert = transaction.prepare(&format!(
        "INSERT INTO alerts.history VALUES ({ALERT_VALUES}, make_timestamp_ms(?), ?)"
    ))?;
    for past in &batch.past {
        forget.execute([past.alert.id.as_str()])?;
        let end = [Value::BigInt(past.resolved_ms), text_value(past.outcome.as_str())];
        insert.execute(params_from_iter(alert_values(&past.alert).into_iter().chain(end)))?;
    }
    let mut forget = transaction.prepare("DELETE FROM alerts.zones WHERE site = ? AND zone = ?")?;
    let mut insert = transaction.prepare(
        "INSERT INTO alerts.zones
         VALUES (?, ?, make_timestamp_ms(?), make_timestamp_ms(?), make_timestamp_ms(?))",
    )?;
    for ZoneCursor { zone, evaluated_ms, anomalies_ms, live_ms } in &batch.cursors {
        forget.execute([zone.site.as_str(), zone.zone.as_str()])?;
        let (site, name) = (zone.site.as_str(), zone.zone.as_str());
        insert.execute(params![site, name, evaluated_ms, anomalies_ms, live_ms])?;
    }
    let mut insert =
        transaction.prepare("INSERT INTO alerts.outbox VALUES (?, ?, make_timestamp_ms(?), ?)")?;
    for message in &batch.queued {
        let json = serde_json::to_string(message).expect("a message has a JSON form");
        insert.execute(params![message.id, message.receiver, message.queued_ms, json])?;
    }
    let mut forget =
        transaction.prepare("DELETE FROM alerts.outbox WHERE id = ? AND receiver = ?")?;
    for (id, receiver) in &batch.settled {
        forget.execute([id, receiver])?;
    }
    Ok(())
}

fn alert_values(alert: &ActiveAlert) -> Vec<Value> {
    let text = |value: Option<&str>| value.map_or(Value::Null, text_value);
    let time = |ms: Option<i64>| ms.map_or(Value::Null, Value::BigInt);
    let number = |value: Option<f64>| value.map_or(Value::Null, Value::Double);
    let zone = alert.key.zone.as_ref();
    let by = alert.acknowledged.as_ref();
    let values = vec![
        text_value(alert.id.as_str()),
        text_value(&alert.key.rule),
        text_value(alert.severity.as_str()),
        text(zone.map(|zone| zone.site.as_str())),
        text(zone.map(|zone| zone.zone.as_str())),
        text_value(&alert.key.subject),
        Value::BigInt(alert.started_ms),
        time(alert.fired_ms),
        Value::BigInt(alert.observed_ms),
        number(alert.value),
        number(alert.peak),
        number(alert.limit),
        text_value(&alert.detail),
        Value::Boolean(alert.is_recorded),
        time(by.map(|by| by.at_ms)),
        text(by.map(|by| by.by.as_str())),
        text(by.map(|by| by.note.as_str())),
    ];
    debug_assert_eq!(values.len(), ALERT_COLUMN_COUNT);
    values
}

fn text_value(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn read_stored(connection: &Connection) -> Result<StoredAlerts, duckdb::Error> {
    let mut stored = StoredAlerts::default();
    let mut select = connection.prepare(&format!("SELECT {ALERT_COLUMNS} FROM alerts.active"))?;
    for alert in select.query_map([], read_alert)? {
        stored.active.push(alert?);
    }
    let mut select = connection.prepare(
        "SELECT site, zone, epoch_ms(evaluated), epoch_ms(anomalies), epoch_ms(live)
         FROM alerts.zones",
    )?;
    let cursors = select.query_map([], |row| {
        Ok(ZoneCursor {
            zone: ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
            evaluated_ms: row.get(2)?,
            anomalies_ms: row.get(3)?,
            live_ms: row.get(4)?,
        })
    })?;
    for cursor in cursors {
        stored.cursors.push(cursor?);
    }
    let mut select =
        connection.prepare("SELECT message FROM alerts.outbox ORDER BY queued, id, receiver")?;
    for message in select.query_map([], |row| row.get::<_, String>(0))? {
        match serde_json::from_str::<OutboxMessage>(&message?) {
            Ok(message) => stored.outbox.push(message),
            Err(error) => tracing::warn!(%error, "a message about an alert cannot be read"),
        }
    }
    Ok(stored)
}

fn read_alert(row: &Row<'_>) -> Result<ActiveAlert, duckdb::Error> {
    let text = |i: usize| row.get::<_, String>(i);
    let name = |i: usize| text(i).map(SmolStr::from);
    let zone = match (row.get::<_, Option<String>>(3)?, row.get::<_, Option<String>>(4)?) {
        (Some(site), Some(zone)) => Some(ZoneId::new(site, zone)),
        _ => None,
    };
    let severity = text(2)?;
    let severity = AlertSeverity::ALL.into_iter().find(|own| own.as_str() == severity);
    let acknowledged = match row.get::<_, Option<i64>>(14)? {
        Some(at_ms) => Some(AcknowledgedBy {
            at_ms,
            by: row.get::<_, Option<String>>(15)?.unwrap_or_default(),
            note: row.get::<_, Option<String>>(16)?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(ActiveAlert {
        id: AlertId::from(text(0)?.as_str()),
        key: AlertKey { rule: name(1)?, zone, subject: name(5)? },
        severity: severity.unwrap_or(AlertSeverity::Warning),
        started_ms: row.get(6)?,
        fired_ms: row.get(7)?,
        observed_ms: row.get(8)?,
        value: row.get(9)?,
        peak: row.get(10)?,
        limit: row.get(11)?,
        detail: name(12)?,
        is_recorded: row.get(13)?,
        acknowledged,
    })
}

fn read_past(
    connection: &Connection,
    query: &AlertHistoryQuery,
) -> Result<Vec<PastAlert>, duckdb::Error> {
    let mut conditions = vec!["true"];
    let mut values = Vec::new();
    let mut add = |condition: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    };
    let zone = query.zone.as_ref();
    add("site = ?", query.site.as_deref().map(text_value));
    add("site = ?", zone.map(|zone| text_value(&zone.site)));
    add("zone = ?", zone.map(|zone| text_value(&zone.zone)));
    add("rule = ?", query.rule.as_deref().map(text_value));
    add("resolved >= make_timestamp_ms(?)", query.from_ms.map(Value::BigInt));
    add("resolved <= make_timestamp_ms(?)", query.to_ms.map(Value::BigInt));
    let sql = format!(
        "SELECT {ALERT_COLUMNS}, epoch_ms(resolved), outcome FROM alerts.history WHERE {}
         ORDER BY resolved DESC, id LIMIT {} OFFSET {}",
        conditions.join(" AND "),
        query.limit,
        query.offset
    );
    let mut select = connection.prepare(&sql)?;
    let found = select.query_map(params_from_iter(values), |row| {
        let outcome: String = row.get(ALERT_COLUMN_COUNT + 1)?;
        let outcome = AlertOutcome::ALL.into_iter().find(|own| own.as_str() == outcome);
        Ok(PastAlert {
            alert: read_alert(row)?,
            resolved_ms: row.get(ALERT_COLUMN_COUNT)?,
            outcome: outcome.unwrap_or(AlertOutcome::Cleared),
        })
    })?;
    found.collect()
}

#[cfg(test)]
mod tests {
    use alerts::{AlertEvent, notify::AlertView};

    use super::*;

    fn alert(subject: &str, zone: Option<&str>) -> ActiveAlert {
        let zone = zone.map(|zone| zone.parse().unwrap());
        let key = AlertKey { rule: "frost".into(), zone, subject: subject.into() };
        ActiveAlert {
            id: AlertId::from_start(&key, 1_764_504_000_000),
            key,
            severity: AlertSeverity::Critical,
            started_ms: 1_764_504_000_001,
            fired_ms: Some(1_764_504_000_002),
            observed_ms: 1_764_504_000_003,
            value: Some(0.1 + 0.2),
            peak: None,
            limit: Some(2.0),
            detail: "stuck".into(),
            is_recorded: false,
            acknowledged: None,
        }
    }

    fn open_tables() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    }

    fn save(connection: &mut Connection, batch: &AlertBatch) {
        let transaction = connection.transaction().unwrap();
        write_batch(&transaction, batch).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn what_was_stored_is_read_again() {
        let mut connection = open_tables();
        let by = AcknowledgedBy { at_ms: 5, by: "Ada".into(), note: "seen".into() };
        let first = ActiveAlert { acknowledged: Some(by), ..alert("a", Some("farm/bay-1")) };
        let second = ActiveAlert { fired_ms: None, ..alert("data", None) };
        let message = OutboxMessage {
            id: "1-fired".into(),
            receiver: "webhook".into(),
            queued_ms: 7,
            event: AlertEvent::Fired,
            alert: AlertView::from_active(&first, None, false, &|_| None),
        };
        let cursor = ZoneCursor {
            evaluated_ms: Some(1),
            live_ms: Some(2),
            ..ZoneCursor::new("farm/bay-1".parse().unwrap())
        };
        let batch = AlertBatch {
            active: vec![first.clone(), second.clone()],
            cursors: vec![cursor.clone()],
            queued: vec![message.clone()],
            ..AlertBatch::default()
        };
        save(&mut connection, &batch);
        // Storing it again changes nothing but the outbox, whose messages are queued once.
        save(&mut connection, &AlertBatch { queued: Vec::new(), ..batch });
        let stored = read_stored(&connection).unwrap();
        assert_eq!(stored.active.len(), 2);
        assert!(stored.active.contains(&first) && stored.active.contains(&second));
        assert_eq!((stored.cursors, stored.outbox), (vec![cursor], vec![message]));

        let past =
            PastAlert { alert: first.clone(), resolved_ms: 9, outcome: AlertOutcome::Cleared };
        let end = AlertBatch {
            ended: vec![first.id.clone()],
            past: vec![past.clone()],
            settled: vec![("1-fired".into(), "webhook".into())],
            ..AlertBatch::default()
        };
        save(&mut connection, &end);
        save(&mut connection, &end);
        let stored = read_stored(&connection).unwrap();
        assert_eq!((stored.active, stored.outbox), (vec![second], vec![]));
        let history = |query: AlertHistoryQuery| read_past(&connection, &query).unwrap();
        let all = AlertHistoryQuery { limit: 10, ..AlertHistoryQuery::default() };
        assert_eq!(history(all.clone()), [past]);
        let elsewhere = Some("farm/bay-2".parse().unwrap());
        assert_eq!(history(AlertHistoryQuery { zone: elsewhere, ..all.clone() }), []);
        assert_eq!(history(AlertHistoryQuery { from_ms: Some(10), ..all.clone() }), []);
        assert_eq!(history(AlertHistoryQuery { offset: 1, ..all }), []);
    }
}
