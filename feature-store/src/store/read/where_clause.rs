use duckdb::ToSql;
use telemetry::ZoneId;

/// Conditions of a WHERE clause, with their values.
#[derive(Default)]
pub(super) struct WhereClause {
    sql: Vec<String>,
    pub(super) values: Vec<Box<dyn ToSql>>,
}

impl WhereClause {
    pub(super) fn push_if_some(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.sql.push(sql.to_owned());
            self.values.push(Box::new(value));
        }
    }

    /// Adds a condition with several values.
    pub(super) fn push_condition(&mut self, sql: String, values: Vec<Box<dyn ToSql>>) {
        self.sql.push(sql);
        self.values.extend(values);
    }

    pub(super) fn filter_zone(&mut self, zone: Option<&ZoneId>) {
        self.push_if_some("site = ?", zone.map(|zone| zone.site.to_string()));
        self.push_if_some("zone = ?", zone.map(|zone| zone.zone.to_string()));
    }

    /// Limits table `of` to any of the zones; no limit if none are given.
    pub(super) fn filter_zones(&mut self, of: &str, zones: Option<&[ZoneId]>) {
        let Some(zones) = zones else { return };
        if zones.is_empty() {
            self.sql.push("false".to_owned());
            return;
        }
        let each = vec![format!("({of}.site = ? AND {of}.zone = ?)"); zones.len()];
        self.sql.push(format!("({})", each.join(" OR ")));
        for zone in zones {
            self.values.push(Box::new(zone.site.to_string()));
            self.values.push(Box::new(zone.zone.to_string()));
        }
    }

    /// Limits a column to a span, both ends included.
    pub(super) fn filter_time_span(
        &mut self,
        column: &str,
        from_ms: Option<i64>,
        to_ms: Option<i64>,
    ) {
        self.push_if_some(&format!("{column} >= make_timestamp_ms(?)"), from_ms);
        self.push_if_some(&format!("{column} <= make_timestamp_ms(?)"), to_ms);
    }

    pub(super) fn to_sql(&self) -> String {
        if self.sql.is_empty() { "true".to_owned() } else { self.sql.join(" AND ") }
    }
}
