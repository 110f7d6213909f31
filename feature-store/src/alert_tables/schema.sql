CREATE SCHEMA IF NOT EXISTS alerts;

-- Alerts that have not ended. An alert with is_recorded has been seen in readings of the past only.
CREATE TABLE IF NOT EXISTS alerts.active (
    id VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    severity VARCHAR NOT NULL,
    -- both null for an alert about the process
    site VARCHAR,
    zone VARCHAR,
    subject VARCHAR NOT NULL,
    started TIMESTAMP NOT NULL,
    fired TIMESTAMP,
    observed TIMESTAMP NOT NULL,
    value DOUBLE,
    peak DOUBLE,
    "limit" DOUBLE,
    detail VARCHAR NOT NULL,
    is_recorded BOOLEAN NOT NULL,
    acknowledged TIMESTAMP,
    acknowledged_by VARCHAR,
    acknowledged_note VARCHAR
);

-- Alerts that fired and have ended.
CREATE TABLE IF NOT EXISTS alerts.history (
    id VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    severity VARCHAR NOT NULL,
    site VARCHAR,
    zone VARCHAR,
    subject VARCHAR NOT NULL,
    started TIMESTAMP NOT NULL,
    fired TIMESTAMP,
    observed TIMESTAMP NOT NULL,
    value DOUBLE,
    peak DOUBLE,
    "limit" DOUBLE,
    detail VARCHAR NOT NULL,
    is_recorded BOOLEAN NOT NULL,
    acknowledged TIMESTAMP,
    acknowledged_by VARCHAR,
    acknowledged_note VARCHAR,
    resolved TIMESTAMP NOT NULL,
    -- cleared, recorded, expired or rule_removed
    outcome VARCHAR NOT NULL
);

-- How far each zone has been evaluated, in event time.
CREATE TABLE IF NOT EXISTS alerts.zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    evaluated TIMESTAMP,
    anomalies TIMESTAMP,
    live TIMESTAMP
);

-- Messages that are not delivered yet, as JSON.
CREATE TABLE IF NOT EXISTS alerts.outbox (
    id VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    queued TIMESTAMP NOT NULL,
    message VARCHAR NOT NULL
);
