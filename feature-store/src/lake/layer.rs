use crate::settings;

/// A table of which what is old moves.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// In the lake.
    pub(super) name: &'static str,
    /// What moves: with `date`, `zone` and perhaps `metric`, of `old` rows `d` of zones `z`.
    pub(super) select: &'static str,
    /// Columns that name folders.
    pub(super) partition_by: &'static str,
    /// Deletes the same, less ` WHERE …`.
    pub(super) delete: &'static str,
    /// SQL predicate that selects rows older than `{cut}`; it has no bind parameters.
    pub(super) old: &'static str,
    /// View over the files: columns as the table in DuckDB has them.
    pub(super) view: &'static str,
    pub(super) days: u32,
}

/// The tables that a lake may have files of: a folder each.
pub(super) const TABLES: [&str; 4] = ["readings", "records", "recorded", "features"];

/// The moment before which a row of zone `z` is old: whole days behind the zone's newest reading,
/// so that no wall clock decides over recorded time, and behind the oldest feature row that is
/// still to be computed again, whose readings a restart must find.
pub(super) fn cut(days: u32) -> String {
    format!("date_trunc('day', least(z.newest, z.oldest_row)) - INTERVAL {days} DAY")
}

impl Layer {
    /// Those that move, by these settings.
    pub(super) fn all(settings: &settings::Lake) -> Vec<Self> {
        let layers = [
            Self {
                name: "records",
                select: "SELECT strftime(d.arrival, '%Y-%m-%d') AS date, d.key AS zone,
                                d.partition, d.\"offset\", d.arrival, d.payload, d.reject
                         FROM bronze.records d
                         JOIN meta.zones z ON d.key = z.site || '/' || z.zone",
                partition_by: "date, zone",
                delete: "DELETE FROM bronze.records d USING meta.zones z",
                old: "d.key = z.site || '/' || z.zone AND d.arrival < {cut}",
                view: "SELECT partition, \"offset\", zone AS key, arrival, payload, reject FROM",
                days: settings.bronze_days,
            },
            Self {
                name: "recorded",
                select: "SELECT strftime(d.event, '%Y-%m-%d') AS date,
                                s.site || '/' || s.zone AS zone, s.metric,
                                d.file, d.series, d.line, d.event, d.value
                         FROM bronze.recorded d JOIN silver.series s ON d.series = s.id
                         JOIN meta.zones z ON s.site = z.site AND s.zone = z.zone",
                partition_by: "date, zone, metric",
                delete: "DELETE FROM bronze.recorded d USING silver.series s, meta.zones z",
                old: "d.series = s.id AND s.site = z.site AND s.zone = z.zone AND d.event < {cut}",
                view: "SELECT file, series, line, event, value FROM",
                days: settings.bronze_days,
            },
            Self {
                name: "readings",
                select: "SELECT strftime(d.event, '%Y-%m-%d') AS date,
                                s.site || '/' || s.zone AS zone, s.metric,
                                s.device, b.boot, d.seq, d.source, d.event, d.arrival, d.value,
                                d.quality, d.partition, d.\"offset\", d.item
                         FROM silver.data d JOIN silver.series s ON d.series = s.id
                         JOIN meta.zones z ON s.site = z.site AND s.zone = z.zone
                         LEFT JOIN silver.boots b ON d.boot = b.id",
                partition_by: "date, zone, metric",
                delete: "DELETE FROM silver.data d USING silver.series s, meta.zones z",
                old: "d.series = s.id AND s.site = z.site AND s.zone = z.zone AND d.event < {cut}",
                view: "SELECT partition, \"offset\", item, split_part(zone, '/', 1) AS site,
                              split_part(zone, '/', 2) AS zone, device, boot, seq,
                              ['live', 'replay', 'backfill', 'retained'][source + 1] AS source,
                              metric, event, arrival, value,
                              ['ok', 'out_of_range', 'stuck', 'spike', 'late', 'future',
                               'duplicate', 'not_a_number'][quality + 1] AS quality FROM",
                days: settings.silver_days,
            },
            Self {
                name: "features",
                select: "SELECT strftime(d.time, '%Y-%m-%d') AS date,
                                d.site || '/' || d.zone AS zone, d.* EXCLUDE (site, zone)
                         FROM features.rows d
                         JOIN meta.zones z ON d.site = z.site AND d.zone = z.zone",
                partition_by: "date, zone",
                delete: "DELETE FROM features.rows d USING meta.zones z",
                old: "d.site = z.site AND d.zone = z.zone AND d.time < {cut}",
                view: "SELECT split_part(zone, '/', 1) AS site, split_part(zone, '/', 2) AS zone,
                              * EXCLUDE (zone, date) FROM",
                days: settings.features_days,
            },
        ];
        layers.into_iter().filter(|layer| layer.days > 0).collect()
    }

    /// Selects the columns of a table, to be followed by its files.
    pub(super) fn view_of(table: &str) -> &'static str {
        let own = Self::every().into_iter().find(|layer| layer.name == table);
        own.map_or("SELECT * FROM", |layer| layer.view)
    }

    /// Every table that can be in the lake, whatever moves now.
    pub(super) fn every() -> Vec<Self> {
        Self::all(&settings::Lake {
            bronze_days: 1,
            silver_days: 1,
            features_days: 1,
            ..settings::Lake::default()
        })
    }

    pub(super) fn old(&self) -> String {
        self.old.replace("{cut}", &cut(self.days))
    }
}
