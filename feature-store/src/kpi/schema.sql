-- KPIs of zones. `hour` and `day_start` are the first moment, UTC; an hour is one of the site's
-- clock, a day runs from midnight to midnight there.

CREATE TABLE IF NOT EXISTS gold.hourly (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    readings UBIGINT NOT NULL,
    valid_share DOUBLE,
    min DOUBLE,
    mean DOUBLE,
    max DOUBLE,
    std DOUBLE,
    -- share of the expected intervals with a valid reading
    completeness DOUBLE NOT NULL,
    gap_max_s DOUBLE NOT NULL,
    -- 0 to 100
    comfort DOUBLE,
    quality DOUBLE NOT NULL
);
CREATE TABLE IF NOT EXISTS gold.daily (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    day_start TIMESTAMP NOT NULL,
    readings UBIGINT NOT NULL,
    valid_share DOUBLE,
    min DOUBLE,
    mean DOUBLE,
    max DOUBLE,
    std DOUBLE,
    completeness DOUBLE NOT NULL,
    gap_max_s DOUBLE NOT NULL,
    comfort DOUBLE,
    quality DOUBLE NOT NULL
);

-- What is said of a zone as a whole.
CREATE TABLE IF NOT EXISTS gold.hourly_zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    until TIMESTAMP NOT NULL,
    comfort DOUBLE,
    quality DOUBLE,
    light_h DOUBLE,
    occupied_share DOUBLE
);
CREATE TABLE IF NOT EXISTS gold.daily_zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    day_start TIMESTAMP NOT NULL,
    until TIMESTAMP NOT NULL,
    comfort DOUBLE,
    quality DOUBLE,
    light_h DOUBLE,
    occupied_share DOUBLE
);

-- Hours that can still change, as they merge into their day. An hour that is final came from files
-- whose readings were not kept.
CREATE TABLE IF NOT EXISTS meta.kpi_hours (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    tally VARCHAR NOT NULL,
    is_final BOOLEAN NOT NULL
);
-- Hours of UTC with readings that no KPI knows yet: ms since 1970 / 3,600,000.
CREATE TABLE IF NOT EXISTS meta.kpi_touched (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    hour BIGINT NOT NULL
);
