use feature_api::{FrameQuery, RevisionMode};

use super::{ReadSource, feature_rows, version_rows::VersionRows};
use crate::StoreError;

/// Largest number of values in memory at once: 160 MB.
const VALUES_MAX: u64 = 20_000_000;

/// Values of a feature over a span.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureValues {
    /// Name of the feature.
    pub name: String,
    /// Values, in no particular order.
    pub values: Vec<f64>,
    /// Number of rows without a value.
    pub missing: usize,
}

/// Reads the values of each feature of a query.
pub(crate) fn read_feature_values(
    source: ReadSource<'_>,
    query: &FrameQuery,
    mode: RevisionMode,
    active: &[String],
) -> Result<Vec<FeatureValues>, StoreError> {
    let VersionRows { table, features } =
        VersionRows::new(source, query.version, active, &feature_rows::file_scope(query))?;
    let wanted = feature_rows::resolve_columns(query.columns.as_deref(), &features)?;
    let found = feature_rows::count_rows(source.connection, &table, query, mode)?
        .saturating_mul(wanted.len() as u64);
    if found > VALUES_MAX {
        return Err(StoreError::LimitExceeded {
            what: "values",
            found,
            max: VALUES_MAX,
            hint: "take fewer `names`, a shorter span or a longer `step_s`",
        });
    }
    let batches = feature_rows::read_feature_rows(
        source.connection,
        &table,
        query,
        Some(mode),
        &wanted,
        None,
    )?;
    let to_values = |(i, name): (usize, String)| {
        let mut missing = 0;
        let values = feature_rows::feature_values(&batches, i)
            .filter_map(|value| {
                let finite = value.filter(|value| value.is_finite());
                missing += usize::from(finite.is_none());
                finite
            })
            .collect();
        FeatureValues { name, values, missing }
    };
    Ok(wanted.into_iter().enumerate().map(to_values).collect())
}
