use std::{collections::HashMap, sync::Arc};

use duckdb::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{Float64Type, Int64Type},
    },
    params_from_iter,
};
use feature_api::RevisionMode;
use telemetry::{SmolStr, ZoneId};

use super::{
    ReadSource,
    feature_rows::{KEY_COLUMNS, revision_filter_sql, select_list},
    version_rows::VersionRows,
    where_clause::WhereClause,
};
use crate::{
    StoreError,
    engine::{FeatureRow, catalog::FeatureRowSchema},
    lake::FileScope,
};

/// Reads the newest stored row of each of some zones, with every feature of the version. Zones
/// without a row are left out.
pub(crate) fn read_newest_rows(
    source: ReadSource<'_>,
    version: i32,
    zones: &[ZoneId],
    active: &[String],
) -> Result<Vec<FeatureRow>, StoreError> {
    let connection = source.connection;
    // A zone's newest row never moves to the lake.
    let scope = FileScope { zones: Some(&[]), ..FileScope::default() };
    let VersionRows { table, features } = VersionRows::new(source, Some(version), active, &scope)?;
    let mut conditions = WhereClause::default();
    conditions.filter_zones("r", Some(zones));
    let (join, revision) = revision_filter_sql(&table, Some(RevisionMode::AsCorrected));
    let mut statement = connection.prepare(&format!(
        "SELECT {} FROM {table} r
         SEMI JOIN (SELECT site, zone, max(time) AS time FROM {table} GROUP BY ALL) n
           ON r.site = n.site AND r.zone = n.zone AND r.time = n.time
         {join} WHERE {} AND {revision}",
        select_list(&features),
        conditions.to_sql()
    ))?;
    let names: Vec<SmolStr> = features.iter().map(SmolStr::from).collect();
    let mut schemas: HashMap<SmolStr, Arc<FeatureRowSchema>> = HashMap::new();
    let mut rows = Vec::new();
    for batch in statement.query_arrow(params_from_iter(conditions.values.iter()))? {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        let integer = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let hash = SmolStr::from(text(4, row));
            let schema = schemas
                .entry(hash.clone())
                .or_insert_with(|| Arc::new(FeatureRowSchema { names: names.clone(), hash }));
            let value = |column: usize| {
                let column = batch.column(column);
                if column.is_null(row) {
                    return f64::NAN;
                }
                column.as_primitive::<Float64Type>().value(row)
            };
            rows.push(FeatureRow {
                zone: ZoneId::new(text(0, row), text(1, row)),
                at_ms: integer(2).value(row),
                revision: integer(3).value(row),
                schema: schema.clone(),
                values: (KEY_COLUMNS..KEY_COLUMNS + features.len()).map(value).collect(),
            });
        }
    }
    Ok(rows)
}
