use std::collections::HashSet;

use telemetry::SmolStr;

use super::{
    super::{quote_identifier, read_feature_columns, read_versions},
    ReadSource,
};
use crate::{StoreError, lake::FileScope};

/// Rows of one version of the definitions.
pub(super) struct VersionRows {
    /// SQL after FROM: their table, together with its rows in the lake.
    pub(super) table: String,
    /// Features, in the order of columns.
    pub(super) features: Vec<String>,
}

impl VersionRows {
    /// Finds the rows of a version, or of the active one without a number; `active` are the
    /// features of the active version. `scope` limits the rows in the lake that are read.
    pub(super) fn new(
        ReadSource { connection, lake }: ReadSource<'_>,
        version: Option<i32>,
        active: &[String],
        scope: &FileScope<'_>,
    ) -> Result<Self, StoreError> {
        let requested = match version {
            None => None,
            Some(number) => {
                let all = read_versions(connection)?;
                let known = all.iter().map(|candidate| candidate.number).collect();
                let found = all.into_iter().find(|candidate| candidate.number == number);
                Some(found.ok_or(StoreError::UnknownVersion { version: number, known })?)
            }
        };
        let with_moved = |rows: &str, version: Option<i32>| {
            let scope = FileScope { version, ..scope.clone() };
            lake.union_archived_sql(connection, rows, "features", &scope)
        };
        let Some(old) = requested.filter(|requested| !requested.is_active) else {
            let sql = "SELECT max(version) FROM meta.definitions WHERE active";
            let number = connection.query_row(sql, [], |row| row.get(0))?;
            let rows = active_rows_sql(&read_feature_columns(connection, "rows")?, active);
            return Ok(Self { table: with_moved(&rows, number)?, features: active.to_vec() });
        };
        let table = old.table_name();
        let features = read_feature_columns(connection, &table)?;
        let features = features.iter().map(ToString::to_string).collect();
        let rows = format!("features.{table}");
        Ok(Self { table: with_moved(&rows, Some(old.number))?, features })
    }
}

/// The active version's table as it stands after FROM, with every active feature. A column is
/// added with the first row that is committed with it; until then its values are null.
fn active_rows_sql(columns: &[SmolStr], active: &[String]) -> String {
    let columns: HashSet<&str> = columns.iter().map(SmolStr::as_str).collect();
    let missing: Vec<String> = active
        .iter()
        .filter(|name| !columns.contains(name.as_str()))
        .map(|name| format!("NULL::DOUBLE AS {}", quote_identifier(name)))
        .collect();
    if missing.is_empty() {
        "features.rows".to_owned()
    } else {
        format!("(SELECT *, {} FROM features.rows)", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_without_a_column_is_null() {
        let check = |columns: &[&str], expect: &str| {
            let columns: Vec<SmolStr> = columns.iter().map(|name| (*name).into()).collect();
            let active = ["co2_last".to_owned(), "vpd_kpa".to_owned()];
            assert_eq!(active_rows_sql(&columns, &active), expect, "{columns:?}");
        };
        check(&["vpd_kpa", "co2_last", "older"], "features.rows");
        check(&["co2_last"], "(SELECT *, NULL::DOUBLE AS \"vpd_kpa\" FROM features.rows)");
    }
}
