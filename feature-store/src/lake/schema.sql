CREATE SCHEMA IF NOT EXISTS lake;

-- Files of the lake; only these are read.
CREATE TABLE IF NOT EXISTS meta.lake (
    -- path below the lake's folder
    path VARCHAR NOT NULL,
    -- readings, records, recorded or features
    "table" VARCHAR NOT NULL,
    move UINTEGER NOT NULL,
    rows UBIGINT NOT NULL,
    bytes UBIGINT NOT NULL
);
-- Version of the definitions, for feature rows; null if it was not recorded.
ALTER TABLE meta.lake ADD COLUMN IF NOT EXISTS version INTEGER;
-- Id by which this file marks its lake, so that no two feature stores share one.
CREATE TABLE IF NOT EXISTS meta.lake_owner (id VARCHAR NOT NULL);
-- Files that compaction has merged and that are no longer listed. They stay for queries that are
-- reading them, and the next move removes them.
CREATE TABLE IF NOT EXISTS meta.lake_superseded (path VARCHAR NOT NULL);
