use duckdb::Connection;

use super::super::{feature_columns, versions};
use crate::StoreError;

/// The rows of one version of the definitions.
pub(super) struct Kept {
    /// Their table.
    pub(super) table: String,
    /// Its features, in the order of columns.
    pub(super) features: Vec<String>,
}

impl Kept {
    /// Those of a version, of the active one without a number; `active` are its features.
    pub(super) fn of(
        connection: &Connection,
        version: Option<i32>,
        active: &[String],
    ) -> Result<Self, StoreError> {
        let own = match version {
            None => None,
            Some(number) => {
                let all = versions(connection)?;
                let known = all.iter().map(|own| own.number).collect();
                let own = all.into_iter().find(|own| own.number == number);
                Some(own.ok_or(StoreError::UnknownVersion { version: number, known })?)
            }
        };
        let Some(old) = own.filter(|own| !own.is_active) else {
            return Ok(Self { table: "features.rows".to_owned(), features: active.to_vec() });
        };
        let table = old.table();
        let features = feature_columns(connection, &table)?;
        let features = features.iter().map(ToString::to_string).collect();
        Ok(Self { table: format!("features.{table}"), features })
    }
}
