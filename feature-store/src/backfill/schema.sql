-- Tables for recordings that were loaded from files.

-- Values as the files have them; `series` is an id of silver.series.
CREATE TABLE IF NOT EXISTS bronze.recorded (
    file UINTEGER NOT NULL,
    series UINTEGER NOT NULL,
    line UINTEGER NOT NULL,
    event TIMESTAMP NOT NULL,
    value DOUBLE NOT NULL
);
CREATE TABLE IF NOT EXISTS bronze.files (
    file UINTEGER NOT NULL,
    path VARCHAR NOT NULL,
    bytes UBIGINT NOT NULL,
    sha256 VARCHAR NOT NULL
);
-- Zones that were loaded, each once. `content` is a hash of the files, times and options.
CREATE TABLE IF NOT EXISTS meta.backfills (
    id UINTEGER PRIMARY KEY,
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    content VARCHAR NOT NULL,
    readings UBIGINT NOT NULL,
    -- numbers of readings by quality flag, as JSON
    qualities VARCHAR NOT NULL,
    rejects UBIGINT NOT NULL,
    rows UBIGINT NOT NULL,
    -- whether the readings themselves are in bronze and silver
    readings_kept BOOLEAN NOT NULL,
    first TIMESTAMP,
    last TIMESTAMP
);
-- Rejected lines and fields.
CREATE TABLE IF NOT EXISTS bronze.rejects (
    backfill UINTEGER NOT NULL,
    path VARCHAR NOT NULL,
    line UBIGINT NOT NULL,
    "column" UBIGINT NOT NULL,
    found VARCHAR NOT NULL,
    expected VARCHAR NOT NULL
);
