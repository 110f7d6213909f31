-- Local hour of each zone up to which hours have a row for every expected metric.
CREATE TABLE meta.kpi_zones (
    site VARCHAR NOT NULL,
    zone VARCHAR NOT NULL,
    complete_until TIMESTAMP NOT NULL
);
-- Earlier files had no rows of silent metrics, and none of hours that were counted too late.
INSERT INTO meta.kpi_zones
SELECT site, zone, min(hour) FROM gold.hourly GROUP BY site, zone;
INSERT INTO meta.kpi_touched
WITH read AS (
    SELECT DISTINCT s.site, s.zone, epoch_ms(d.event) // 3600000 AS hour
    FROM silver.data d JOIN silver.series s ON d.series = s.id
    WHERE d.quality <> 6
), counted AS (
    SELECT DISTINCT site, zone, epoch_ms(hour) // 3600000 AS hour FROM gold.hourly_zones
)
SELECT r.site, r.zone, r.hour FROM read r
LEFT JOIN counted c ON r.site = c.site AND r.zone = c.zone AND r.hour = c.hour
-- An hour of UTC overlaps two local hours where the offset has half an hour.
LEFT JOIN counted b ON r.site = b.site AND r.zone = b.zone AND r.hour - 1 = b.hour
WHERE c.hour IS NULL OR b.hour IS NULL;
