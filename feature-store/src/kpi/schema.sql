-- Tallies of hours, as they merge into their day: those of the last days, which most new readings
-- are of; those of older hours are counted again when they are needed. An hour that is final came
-- from files whose readings were not kept.
CREATE TABLE IF NOT EXISTS meta.kpi_hours (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    tally VARCHAR NOT NULL,
    is_final BOOLEAN NOT NULL
);
-- Hours of UTC with readings that no KPI knows yet, however old: ms since 1970 / 3,600,000.
CREATE TABLE IF NOT EXISTS meta.kpi_touched (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour BIGINT NOT NULL
);
