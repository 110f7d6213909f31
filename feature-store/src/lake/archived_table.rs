use crate::settings;

/// A table whose old rows move to the lake.
#[derive(Clone, Debug)]
pub(super) struct ArchivedTable {
    /// Name in the lake.
    pub(super) name: &'static str,
    /// Selects what moves, with `date`, `zone` and perhaps `metric`, from rows `d` of zones `z`;
    /// without ` WHERE …`.
    pub(super) copy_select_sql: &'static str,
    /// Columns that name folders.
    pub(super) partition_by: &'static str,
    /// Deletes the same rows; without ` WHERE …`.
    pub(super) delete_sql: &'static str,
    /// SQL predicate that selects rows older than `{cut}`; contains no bind parameters.
    pub(super) old_rows_predicate: &'static str,
    /// View over the files, with the columns of the table in DuckDB.
    pub(super) view_select: &'static str,
    /// Days that rows stay in the DuckDB file; 0 for ever.
    pub(super) retention_days: u32,
}

/// Tables that can have files in a lake, in a folder each.
pub(super) const LAKE_TABLES: [&str; 4] = ["readings", "records", "recorded", "features"];

/// SQL for the time before which a row of zone `z` is old: whole days behind the zone's newest
/// reading, so that no wall clock decides about recorded time. It is also behind the oldest
/// feature row that must still be recomputed, whose readings a restart needs.
pub(super) fn cutoff_sql(days: u32) -> String {
    format!("date_trunc('day', least(z.newest, z.oldest_row)) - INTERVAL {days} DAY")
}

impl ArchivedTable {
    /// Returns the tables that move by these settings.
    pub(super) fn enabled_tables(settings: &settings::LakeSettings) -> Vec<Self> {
        let layers = [
            Self {
                name: "records",
                copy_select_sql: "SELECT strftime(d.arrival, '%Y-%m-%d') AS date, d.key AS zone,
                                d.partition, d.\"offset\", d.arrival, d.payload, d.reject
                         FROM bronze.records d
                         JOIN meta.zones z ON d.key = z.site || '/' || z.zone",
                partition_by: "date, zone",
                delete_sql: "DELETE FROM bronze.records d USING meta.zones z",
                old_rows_predicate: "d.key = z.site || '/' || z.zone AND d.arrival < {cut}",
                view_select: "SELECT partition, \"offset\", zone AS key, arrival, payload, reject FROM",
                retention_days: settings.bronze_days,
            },
            Self {
                name: "recorded",
                copy_select_sql: "SELECT strftime(d.event, '%Y-%m-%d') AS date,
                                s.site || '/' || s.zone AS zone, s.metric,
                                d.file, d.series, d.line, d.event, d.value
                         FROM bronze.recorded d JOIN silver.series s ON d.series = s.id
                         JOIN meta.zones z ON s.site = z.site AND s.zone = z.zone",
                partition_by: "date, zone, metric",
                delete_sql: "DELETE FROM bronze.recorded d USING silver.series s, meta.zones z",
                old_rows_predicate: "d.series = s.id AND s.site = z.site AND s.zone = z.zone AND d.event < {cut}",
                view_select: "SELECT file, series, line, event, value FROM",
                retention_days: settings.bronze_days,
            },
            Self {
                name: "readings",
                copy_select_sql: "SELECT strftime(d.event, '%Y-%m-%d') AS date,
                                s.site || '/' || s.zone AS zone, s.metric,
                                s.device, b.boot, d.seq, d.source, d.event, d.arrival, d.value,
                                d.quality, d.partition, d.\"offset\", d.item
                         FROM silver.data d JOIN silver.series s ON d.series = s.id
                         JOIN meta.zones z ON s.site = z.site AND s.zone = z.zone
                         LEFT JOIN silver.boots b ON d.boot = b.id",
                partition_by: "date, zone, metric",
                delete_sql: "DELETE FROM silver.data d USING silver.series s, meta.zones z",
                old_rows_predicate: "d.series = s.id AND s.site = z.site AND s.zone = z.zone AND d.event < {cut}",
                view_select: "SELECT partition, \"offset\", item, split_part(zone, '/', 1) AS site,
                              split_part(zone, '/', 2) AS zone, device, boot, seq,
                              ['live', 'replay', 'backfill', 'retained'][source + 1] AS source,
                              metric, event, arrival, value,
                              ['ok', 'out_of_range', 'stuck', 'spike', 'late', 'future',
                               'duplicate', 'not_a_number'][quality + 1] AS quality FROM",
                retention_days: settings.silver_days,
            },
            Self {
                name: "features",
                copy_select_sql: "SELECT strftime(d.time, '%Y-%m-%d') AS date,
                                d.site || '/' || d.zone AS zone, d.* EXCLUDE (site, zone)
                         FROM features.rows d
                         JOIN meta.zones z ON d.site = z.site AND d.zone = z.zone",
                partition_by: "date, zone",
                delete_sql: "DELETE FROM features.rows d USING meta.zones z",
                old_rows_predicate: "d.site = z.site AND d.zone = z.zone AND d.time < {cut}",
                view_select:
                    "SELECT split_part(zone, '/', 1) AS site, split_part(zone, '/', 2) AS zone,
                              * EXCLUDE (zone, date) FROM",
                retention_days: settings.features_days,
            },
        ];
        layers.into_iter().filter(|layer| layer.retention_days > 0).collect()
    }

    /// Selects the columns of a table; its files must follow.
    pub(super) fn view_select_sql(table: &str) -> &'static str {
        let archived = Self::all_tables().into_iter().find(|layer| layer.name == table);
        archived.map_or("SELECT * FROM", |layer| layer.view_select)
    }

    /// Returns every table that can be in the lake, whatever the settings.
    pub(super) fn all_tables() -> Vec<Self> {
        Self::enabled_tables(&settings::LakeSettings {
            bronze_days: 1,
            silver_days: 1,
            features_days: 1,
            ..settings::LakeSettings::default()
        })
    }

    pub(super) fn old_rows_sql(&self) -> String {
        self.old_rows_predicate.replace("{cut}", &cutoff_sql(self.retention_days))
    }
}
