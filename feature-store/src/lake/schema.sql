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
