-- Tables of the DuckDB file. bronze: as received. silver: cleaned. gold: hourly and daily KPIs.
-- features: one row for each zone and grid time. meta: offsets, progress, versions.

CREATE SCHEMA IF NOT EXISTS bronze;
CREATE SCHEMA IF NOT EXISTS silver;
CREATE SCHEMA IF NOT EXISTS gold;
CREATE SCHEMA IF NOT EXISTS features;
CREATE SCHEMA IF NOT EXISTS meta;

CREATE TABLE IF NOT EXISTS bronze.records (
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    key VARCHAR NOT NULL,
    arrival TIMESTAMP NOT NULL,
    -- zstd compresses JSON to a third of the size of DuckDB's own choice, in two thirds of the
    -- time
    payload BLOB NOT NULL USING COMPRESSION zstd,
    -- why the record has no readings in silver; null if it has some
    reject VARCHAR
);

-- Readings with ids in place of names, in the order of the log. Commits of many readings are four
-- times as fast this way, and small. Read them through silver.readings.
CREATE TABLE IF NOT EXISTS silver.data (
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    -- position in the record
    item UINTEGER NOT NULL,
    series UINTEGER NOT NULL,
    boot UINTEGER,
    seq UBIGINT,
    source UTINYINT NOT NULL,
    event TIMESTAMP NOT NULL,
    arrival TIMESTAMP NOT NULL,
    value DOUBLE NOT NULL,
    quality UTINYINT NOT NULL
);
-- Names for the series ids of silver.data.
CREATE TABLE IF NOT EXISTS silver.series (
    id UINTEGER NOT NULL,
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    metric VARCHAR NOT NULL
);
-- A boot may have several ids, as only each device's newest boot is remembered.
CREATE TABLE IF NOT EXISTS silver.boots (id UINTEGER NOT NULL, boot VARCHAR NOT NULL);

CREATE OR REPLACE VIEW silver.readings AS
SELECT
    d.partition, d."offset", d.item, s.site, s.zone, s.device, b.boot, d.seq,
    CASE d.source WHEN 0 THEN 'live' WHEN 1 THEN 'replay' WHEN 2 THEN 'backfill' WHEN 3 THEN 'retained' END AS source,
    s.metric, d.event, d.arrival, d.value,
    CASE d.quality
        WHEN 0 THEN 'ok' WHEN 1 THEN 'out_of_range' WHEN 2 THEN 'stuck' WHEN 3 THEN 'spike'
        WHEN 4 THEN 'late' WHEN 5 THEN 'future' WHEN 6 THEN 'duplicate' WHEN 7 THEN 'not_a_number'
    END AS quality
FROM silver.data d
JOIN silver.series s ON d.series = s.id
LEFT JOIN silver.boots b ON d.boot = b.id;

-- Records that cannot be parsed, and readings that are too late for corrections, with the reason.
CREATE OR REPLACE VIEW bronze.dead_letters AS
SELECT partition, "offset", NULL::UINTEGER AS item, key, arrival, reject AS reason
FROM bronze.records WHERE reject IS NOT NULL
UNION ALL
SELECT
    d.partition, d."offset", d.item, s.site || '/' || s.zone, d.arrival,
    format('late: {} of {} was measured {}, after engine.late_max_s it corrects nothing', s.metric, s.device, d.event)
FROM silver.data d JOIN silver.series s ON d.series = s.id WHERE d.quality = 4;

-- A column is added for each feature when its metric is first seen.
CREATE TABLE IF NOT EXISTS features.rows (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    time TIMESTAMP NOT NULL,
    revision BIGINT NOT NULL,
    schema_hash VARCHAR NOT NULL
);

CREATE TABLE IF NOT EXISTS meta.positions (partition INTEGER PRIMARY KEY, next_offset BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS meta.zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    -- partition of the log, which has all records of the zone
    partition INTEGER NOT NULL,
    newest TIMESTAMP,
    progress VARCHAR NOT NULL,
    PRIMARY KEY (site, zone)
);
-- Oldest event time of a row that may still be recomputed; the readings that it needs stay.
ALTER TABLE meta.zones ADD COLUMN IF NOT EXISTS oldest_row TIMESTAMP;
-- Metrics in the order of their columns.
CREATE TABLE IF NOT EXISTS meta.metrics (position INTEGER PRIMARY KEY, metric VARCHAR NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS meta.schemas (hash VARCHAR PRIMARY KEY, names VARCHAR[] NOT NULL);

-- Totals, updated by each transaction: readings_<quality>, rejects, rows, corrections (recomputed
-- rows), commits.
CREATE TABLE IF NOT EXISTS meta.counters (name VARCHAR PRIMARY KEY, count UBIGINT NOT NULL);

-- Versions of the definitions. features.rows has the rows of the active one,
-- features.rows_v<version> those of the others.
CREATE TABLE IF NOT EXISTS meta.definitions (
    version INTEGER PRIMARY KEY,
    hash VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL,
    active BOOLEAN NOT NULL
);
