-- The tables of the DuckDB file. bronze: as received. silver: cleaned. gold: summed up.
-- features: one row a zone and grid time. meta: how far everything has come.

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
    payload BLOB NOT NULL,
    -- why the record has no readings in silver; null where it has
    reject VARCHAR
);

CREATE TABLE IF NOT EXISTS silver.readings (
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    item INTEGER NOT NULL,
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    boot VARCHAR,
    seq UBIGINT,
    source VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    event TIMESTAMP NOT NULL,
    arrival TIMESTAMP NOT NULL,
    value DOUBLE NOT NULL,
    quality VARCHAR NOT NULL
);

-- A column for each feature is added when its metric is first seen.
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
    newest TIMESTAMP,
    progress VARCHAR NOT NULL,
    PRIMARY KEY (site, zone)
);
-- Metrics in the order of their columns.
CREATE TABLE IF NOT EXISTS meta.metrics (position INTEGER PRIMARY KEY, metric VARCHAR NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS meta.schemas (hash VARCHAR PRIMARY KEY, names VARCHAR[] NOT NULL);
