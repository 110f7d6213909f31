-- KPIs of zones. `hour` and `day_start` are the start, UTC. An hour is an hour of the site's local
-- time, a day runs from local midnight to midnight.

-- Runs once for each length of a period: {length} is `hourly`, {start} `hour`; or `daily`, `day_start`.

CREATE TABLE IF NOT EXISTS gold.{length} (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    {start} TIMESTAMP NOT NULL,
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
-- KPIs of a zone as a whole.
CREATE TABLE IF NOT EXISTS gold.{length}_zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    {start} TIMESTAMP NOT NULL,
    until TIMESTAMP NOT NULL,
    comfort DOUBLE,
    quality DOUBLE,
    light_h DOUBLE,
    occupied_share DOUBLE
);
