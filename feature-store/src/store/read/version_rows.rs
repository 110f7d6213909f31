use super::{
    super::{read_feature_columns, read_versions},
    ReadSource,
};
use crate::{StoreError, lake::FileScope};

/// The rows of one version of the definitions.
pub(super) struct VersionRows {
    /// Their table, with what has moved of it to the lake, as it stands after FROM.
    pub(super) table: String,
    /// Its features, in the order of columns.
    pub(super) features: Vec<String>,
}

impl VersionRows {
    /// Those of a version, of the active one without a number; `active` are its features.
    /// `scope` says which of the rows that have moved may be asked for.
    pub(super) fn new(
        ReadSource { connection, lake }: ReadSource<'_>,
        version: Option<i32>,
        active: &[String],
        scope: &FileScope<'_>,
    ) -> Result<Self, StoreError> {
        let own = match version {
            None => None,
            Some(number) => {
                let all = read_versions(connection)?;
                let known = all.iter().map(|own| own.number).collect();
                let own = all.into_iter().find(|own| own.number == number);
                Some(own.ok_or(StoreError::UnknownVersion { version: number, known })?)
            }
        };
        let with_moved = |table: &str, version: Option<i32>| {
            let scope = FileScope { version, ..scope.clone() };
            lake.union_archived_sql(connection, &format!("features.{table}"), "features", &scope)
        };
        let Some(old) = own.filter(|own| !own.is_active) else {
            let sql = "SELECT max(version) FROM meta.definitions WHERE active";
            let number = connection.query_row(sql, [], |row| row.get(0))?;
            return Ok(Self { table: with_moved("rows", number)?, features: active.to_vec() });
        };
        let table = old.table_name();
        let features = read_feature_columns(connection, &table)?;
        let features = features.iter().map(ToString::to_string).collect();
        Ok(Self { table: with_moved(&table, Some(old.number))?, features })
    }
}
