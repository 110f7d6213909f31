use std::{collections::HashMap, sync::Arc};

use duckdb::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{Float64Type, Int64Type},
    },
    params_from_iter,
};
use telemetry::{SmolStr, ZoneId};

use super::{
    Source,
    conditions::Conditions,
    kept::Kept,
    rows::{KEYS, Mode, revision_of, selected},
};
use crate::{
    StoreError,
    engine::{Row, catalog::Schema},
    lake::FileScope,
};

/// The newest row that is kept of each of some zones, with every feature of the version.
/// Zones without a row are left out.
pub(crate) fn newest(
    source: Source<'_>,
    version: i32,
    zones: &[ZoneId],
    active: &[String],
) -> Result<Vec<Row>, StoreError> {
    let connection = source.connection;
    // A zone's newest row has not moved.
    let scope = FileScope { zones: Some(&[]), ..FileScope::default() };
    let Kept { table, features } = Kept::of(source, Some(version), active, &scope)?;
    let mut conditions = Conditions::default();
    conditions.zones("r", Some(zones));
    let (join, revision) = revision_of(&table, Some(Mode::AsCorrected));
    let mut statement = connection.prepare(&format!(
        "SELECT {} FROM {table} r
         SEMI JOIN (SELECT site, zone, max(time) AS time FROM {table} GROUP BY ALL) n
           ON r.site = n.site AND r.zone = n.zone AND r.time = n.time
         {join} WHERE {} AND {revision}",
        selected(&features),
        conditions.sql()
    ))?;
    let names: Vec<SmolStr> = features.iter().map(SmolStr::from).collect();
    let mut schemas: HashMap<SmolStr, Arc<Schema>> = HashMap::new();
    let mut rows = Vec::new();
    for batch in statement.query_arrow(params_from_iter(conditions.values.iter()))? {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        let integer = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let hash = SmolStr::from(text(4, row));
            let schema = schemas
                .entry(hash.clone())
                .or_insert_with(|| Arc::new(Schema { names: names.clone(), hash }));
            let value = |column: usize| {
                let column = batch.column(column);
                if column.is_null(row) {
                    return f64::NAN;
                }
                column.as_primitive::<Float64Type>().value(row)
            };
            rows.push(Row {
                zone: ZoneId::new(text(0, row), text(1, row)),
                at_ms: integer(2).value(row),
                revision: integer(3).value(row),
                schema: schema.clone(),
                values: (KEYS..KEYS + features.len()).map(value).collect(),
            });
        }
    }
    Ok(rows)
}
