-- Tallies of hours, which merge into those of their day. Only the last days have them, as most new
-- readings belong there; older hours are counted again when they are needed. A final hour came
-- from files whose readings were not stored.
CREATE TABLE IF NOT EXISTS meta.kpi_hours (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    tally VARCHAR NOT NULL,
    is_final BOOLEAN NOT NULL
);
-- Hours of UTC with readings that no KPI includes yet, however old: ms since 1970 / 3,600,000.
CREATE TABLE IF NOT EXISTS meta.kpi_touched (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour BIGINT NOT NULL
);
