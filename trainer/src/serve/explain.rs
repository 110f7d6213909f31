//! Explanation of a prediction by its inputs.

use models::ModelArtifact;
use ndarray::{Array2, Axis};

use super::prediction::Contribution;

/// Largest number of inputs in an explanation.
const CONTRIBUTIONS_MAX: usize = 50;

/// Ranks the inputs that moved the prediction of `row` most: how much higher it is than with one
/// input at its median in training and all others as they are. For a linear model these are its
/// terms; for others they leave out the joint effects of inputs. Costs one prediction for each
/// input.
pub(super) fn rank_contributions(
    artifact: &ModelArtifact,
    row: &[f64],
    most: usize,
) -> Vec<Contribution> {
    let ModelArtifact { card, predictor, .. } = artifact;
    let profile = &card.facts.profile.inputs;
    if most == 0 || profile.len() != row.len() {
        return Vec::new();
    }
    let width = row.len();
    let mut x = Array2::from_shape_fn((width + 1, width), |(_, column)| row[column]);
    for (column, range) in profile.iter().enumerate() {
        x[(column + 1, column)] = range.median;
    }
    let said = predictor.predict(x.view());
    let (own, without) = said.view().split_at(Axis(0), 1);
    let mut all: Vec<Contribution> = without
        .iter()
        .zip(&card.schema.features)
        .zip(row)
        .map(|((said, name), value)| Contribution {
            input: name.clone(),
            value: value.is_finite().then_some(*value),
            change: own[0] - said,
        })
        .filter(|contribution| contribution.change.abs() > 0.0)
        .collect();
    all.sort_by(|a, b| b.change.abs().total_cmp(&a.change.abs()));
    all.truncate(most.min(CONTRIBUTIONS_MAX));
    all
}
