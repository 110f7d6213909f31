CREATE SCHEMA IF NOT EXISTS lake;

-- The files of the lake: only these are read.
CREATE TABLE IF NOT EXISTS meta.lake (
    -- below the lake's folder
    path VARCHAR NOT NULL,
    -- readings, records, recorded or features
    "table" VARCHAR NOT NULL,
    move UINTEGER NOT NULL,
    rows UBIGINT NOT NULL,
    bytes UBIGINT NOT NULL
);
-- Of feature rows the version of the definitions; null where it was not noted.
ALTER TABLE meta.lake ADD COLUMN IF NOT EXISTS version INTEGER;
-- Who this file is to its lake, so that no two feature stores clean up after each other.
CREATE TABLE IF NOT EXISTS meta.lake_owner (id VARCHAR NOT NULL);
-- Files that compaction has put together and that are not listed any more: they stay for those who
-- are reading them, and the next move removes them.
CREATE TABLE IF NOT EXISTS meta.lake_superseded (path VARCHAR NOT NULL);
