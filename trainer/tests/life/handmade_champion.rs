//! A champion that was not trained, for tests of what serves it: here, and in
//! `microclimate/tests/it`.

use models::{
    FeatureSchema, FittedRegressor, ModelArtifact, ModelCard, ModelProvenance, Predictor,
    artifact::GoldenRows, registry::DecisionAuthor,
};
use ndarray::array;
use trainer::{TrainError, Trainer, target_transform::TargetTransform};

/// Makes a model of one input the champion of a task; `transform` maps its predictions to
/// levels.
pub(crate) fn promote_model(
    trainer: &Trainer,
    task: &str,
    input: &str,
    fitted: FittedRegressor,
    transform: TargetTransform,
) -> Result<(), TrainError> {
    let predictor = Predictor::Regressor(fitted);
    let x = array![[30.0], [40.0]];
    let card = ModelCard {
        task: task.to_owned(),
        model: "by hand".to_owned(),
        schema: FeatureSchema { features: vec![input.to_owned()] },
        unit: trainer::compare::title_and_unit(task).1.to_owned(),
        trained_ms: (0, 1),
        rows: 2,
        seed: 1,
        metrics: [].into(),
        code_version: "test".to_owned(),
        facts: ModelProvenance::from_rows(x.view(), None),
        serving: serde_json::json!({
            "half_width": 2.0, "level": 0.9, "baseline": [null, 0.0], "link": transform
        }),
    };
    let artifact =
        ModelArtifact { golden: GoldenRows::from_predictor(&predictor, x.view()), card, predictor };
    let by = DecisionAuthor { who: "test", why: "a test" };
    trainer.registry().add_version(&artifact, by).unwrap();
    trainer.registry().promote_version(task, 1, by, true).unwrap();
    trainer.load_champion(task)
}
