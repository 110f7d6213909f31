use crate::sql_expressions::load_definitions;
use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use serde_json::json;
use telemetry::MetricTable;

use crate::{
    FeatureStoreSettings, FeatureVersion, StoreError,
    definitions::{
        DefinedFeature, DefinitionsDiff, DerivedMetric, FeatureChange, FeatureDefinitions,
        FeatureLineage, FeatureOrigin, diff_definitions, suggest_name, trace_lineage,
    },
    drop_version, list_versions,
};

/// Commands about the feature definitions of the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum FeaturesCommand {
    /// List metrics, derived metrics and joins, with their windows.
    #[command(after_help = "Examples:\n  \
        feature-store features list\n  \
        feature-store features list --metric temperature --metric humidity\n  \
        feature-store features list --names | grep slope\n  \
        feature-store features list --json | jq '.[] | select(.window == \"7d\") | .feature'")]
    List {
        /// Only features of a zone with these metrics.
        #[arg(long, value_name = "NAME")]
        metric: Vec<String>,
        /// Print only the names of features, one per line.
        #[arg(long, conflicts_with = "json")]
        names: bool,
        /// Print each feature with its lineage, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how a feature, or each feature of a metric, is computed.
    #[command(after_help = "Examples:\n  \
        feature-store features show vpd_kpa\n  \
        feature-store features show light_day\n  \
        feature-store features show temperature_slope_24h --json")]
    Show {
        /// A feature, a metric or a derived metric.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a file: exit code 0 if it is well-formed, 1 if not; prints all mistakes.
    #[command(after_help = "Example:\n  feature-store features check features.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// List the versions that have rows in the DuckDB file; no other process may have it open.
    Versions,
    /// Delete the rows of an old version; no other process may have the file open.
    #[command(after_help = "Example:\n  feature-store features drop 1")]
    Drop {
        /// Number of the version, as `features versions` lists it.
        version: i32,
    },
    /// Show what a file changes: exit code 0 if nothing, 1 if something, 2 if it is not
    /// well-formed.
    #[command(after_help = "Examples:\n  \
        feature-store features diff new.toml            # against those of the configuration\n  \
        feature-store features diff old.toml new.toml")]
    Diff {
        /// The file, or the older one of two.
        file: PathBuf,
        /// The newer file.
        to: Option<PathBuf>,
    },
}

/// Output and exit code of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub error: String,
    /// Exit code; 0 means success.
    pub exit_code: u8,
}

/// Executes a command with the settings, for a site with these metrics.
///
/// # Errors
/// Fails if the command needs the DuckDB file and it cannot be opened.
pub fn execute_command(
    command: &FeaturesCommand,
    settings: &FeatureStoreSettings,
    metrics: &MetricTable,
) -> Result<CommandOutput, StoreError> {
    let configured = || load_definitions(&settings.engine.features, metrics);
    let answered = match command {
        FeaturesCommand::List { metric, names, json } => configured()
            .map(|definitions| list_features(&definitions, metrics, metric, *names, *json)),
        FeaturesCommand::Show { name, json } => {
            configured().map(|definitions| show_features(&definitions, metrics, name, *json))
        }
        FeaturesCommand::Check { file } => load_definitions(file, metrics).map(|read| {
            let count =
                read.features_for_metrics(metrics.iter().map(|(name, _)| name.as_str())).len();
            let (file, hash) = (file.display(), short_hash(&read));
            success_output(format!(
                "{file}: no mistakes; {count} features of all known metrics, hash {hash}\n"
            ))
        }),
        FeaturesCommand::Diff { file, to } => {
            let load = |file: &PathBuf| load_definitions(file, metrics);
            let (old, new) = match to {
                Some(to) => (load(file), load(to)),
                None => (configured(), load(file)),
            };
            match (old, new) {
                (Ok(old), Ok(new)) => Ok(compare_definitions(&old, &new, metrics)),
                (Err(mut old), Err(new)) => {
                    old.mistakes.extend(new.mistakes);
                    Err(old)
                }
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        }
        FeaturesCommand::Versions => {
            return Ok(success_output(format_versions(&list_versions(settings)?)));
        }
        FeaturesCommand::Drop { version } => {
            return Ok(report_dropped_version(*version, drop_version(settings, *version)?));
        }
    };
    Ok(answered.unwrap_or_else(|error| {
        let count = error.mistakes.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        let exit_code = if matches!(command, FeaturesCommand::Diff { .. }) { 2 } else { 1 };
        failure_output(format!("{error}\n{count} {mistakes}\n"), exit_code)
    }))
}

fn success_output(text: String) -> CommandOutput {
    CommandOutput { text, error: String::new(), exit_code: 0 }
}

fn failure_output(error: String, exit_code: u8) -> CommandOutput {
    CommandOutput { text: String::new(), error, exit_code }
}

fn list_features(
    definitions: &FeatureDefinitions,
    metrics: &MetricTable,
    metric: &[String],
    names: bool,
    json: bool,
) -> CommandOutput {
    let known = || metrics.iter().map(|(name, _)| name.as_str());
    if let Some(unknown) = metric.iter().find(|name| metrics.get(name).is_none()) {
        return failure_output(
            format_unknown_name("metric", unknown, &known().collect::<Vec<_>>()),
            1,
        );
    }
    let is_requested =
        |name: &&str| metric.is_empty() || metric.iter().any(|requested| requested == name);
    let measured: Vec<&str> = known().filter(is_requested).collect();
    let features = definitions.features_for_metrics(measured.iter().copied());
    let all: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    success_output(match (names, json) {
        (true, _) => all.iter().map(|name| format!("{name}\n")).collect(),
        (_, true) => format_json(&trace_lineage(definitions, metrics, &all)),
        _ => format_feature_table(definitions, metrics, &measured),
    })
}

fn show_features(
    definitions: &FeatureDefinitions,
    metrics: &MetricTable,
    name: &str,
    json: bool,
) -> CommandOutput {
    let features = definitions.features_for_metrics(metrics.iter().map(|(name, _)| name.as_str()));
    let is_match = |feature: &&DefinedFeature| {
        feature.name == name || feature.metric().is_some_and(|metric| metric == name)
    };
    let matching: Vec<&str> =
        features.iter().filter(is_match).map(|feature| feature.name.as_str()).collect();
    if matching.is_empty() {
        let known: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        return failure_output(format_unknown_name("feature", name, &known), 1);
    }
    let found = trace_lineage(definitions, metrics, &matching);
    success_output(if json { format_json(&found) } else { format_lineage(&found) })
}

fn report_dropped_version(version: i32, is_gone: bool) -> CommandOutput {
    if is_gone {
        return success_output(format!("version {version} deleted\n"));
    }
    let hint = "hint: `feature-store features versions` lists them; the active one stays";
    failure_output(format!("there is no old version {version}\n{hint}\n"), 1)
}

fn compare_definitions(
    old: &FeatureDefinitions,
    new: &FeatureDefinitions,
    metrics: &MetricTable,
) -> CommandOutput {
    let found = diff_definitions(old, new, metrics);
    let exit_code = u8::from(!found.changes.is_empty());
    CommandOutput { exit_code, ..success_output(format_changes(&found, old, new)) }
}

fn format_unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let hint = suggest_name(name, known).map(|hint| format!("\nhint: {hint}"));
    format!("there is no {what} `{name}`{}\n", hint.unwrap_or_default())
}

fn format_json(lineage: &[FeatureLineage]) -> String {
    format!("{:#}\n", json!(lineage))
}

fn new_table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head).add_rows(rows);
    table
}

/// Formats a table with a line for each metric, derived metric and join.
fn format_feature_table(
    definitions: &FeatureDefinitions,
    metrics: &MetricTable,
    measured: &[&str],
) -> String {
    let features = definitions.features_for_metrics(measured.iter().copied());
    let count_of_metric = |metric: &str| {
        features
            .iter()
            .filter(|feature| feature.metric().is_some_and(|name| name == metric))
            .count()
    };
    let windows = |metric: &str| {
        let windows = definitions.windows_of(metric).into_iter();
        windows.map(|(window, _)| window.to_string()).collect::<Vec<_>>().join(" ")
    };
    let unit =
        |metric: &str| metrics.get(metric).map_or(String::new(), |spec| spec.unit.to_string());
    let mut rows = Vec::new();
    for metric in measured {
        let filter =
            definitions.metrics.get(*metric).and_then(|definition| definition.filter.as_ref());
        let from = filter.map_or("readings".to_owned(), |sql| format!("readings where {sql}"));
        rows.push([
            (*metric).to_owned(),
            unit(metric),
            windows(metric),
            count_of_metric(metric).to_string(),
            from,
        ]);
        for (name, derived) in definitions.derived_from(metric) {
            let derived_unit =
                derived.unit.as_ref().map_or_else(|| unit(metric), ToString::to_string);
            let count = count_of_metric(name).to_string();
            rows.push([
                name.to_string(),
                derived_unit,
                windows(name),
                count,
                DerivedMetric::formula_text(derived),
            ]);
        }
    }
    let count = |is: fn(&FeatureOrigin) -> bool| {
        features.iter().filter(|feature| is(&feature.origin)).count()
    };
    let calendar = count(|origin| matches!(origin, FeatureOrigin::Calendar(_)));
    let drying = count(|origin| matches!(origin, FeatureOrigin::Drying(_)));
    let none = String::new;
    if calendar > 0 {
        let from = definitions.calendar.join(", ");
        rows.push(["the clock".to_owned(), none(), none(), calendar.to_string(), from]);
    }
    if drying > 0 {
        let from = format!("the driest probe: {}", definitions.drying.join(", "));
        rows.push(["drying_…".to_owned(), none(), none(), drying.to_string(), from]);
    }
    let join_features =
        features.iter().filter(|feature| matches!(feature.origin, FeatureOrigin::Join(_)));
    let joins: Vec<&str> = join_features.map(|feature| feature.name.as_str()).collect();
    for lineage in trace_lineage(definitions, metrics, &joins).iter().filter(|_| !joins.is_empty())
    {
        let unit = lineage.unit.as_deref().unwrap_or_default().to_owned();
        rows.push([
            lineage.feature.to_string(),
            unit,
            none(),
            "1".to_owned(),
            lineage.formula.clone(),
        ]);
    }
    let mut table = new_table(["name", "unit", "windows", "features", "from"], rows);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\n{} features of {} metrics, hash {}\n",
        features.len(),
        measured.len(),
        short_hash(definitions)
    )
}

/// Formats one feature as a list of properties, several as a table.
fn format_lineage(lineage: &[FeatureLineage]) -> String {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    if let [feature] = lineage {
        let aggregate = feature.aggregate.map(|aggregate| aggregate.as_str());
        let rows = [
            ("feature", Some(feature.feature.as_str())),
            ("formula", Some(feature.formula.as_str())),
            ("unit", feature.unit.as_deref()),
            ("metric", feature.metric.as_deref()),
            ("window", feature.window.as_deref()),
            ("aggregate", aggregate),
            ("readings where", feature.filter.as_deref()),
            ("source", feature.source.as_deref()),
        ];
        let named_rows =
            rows.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?.to_owned()]));
        let input_rows = [["inputs".to_owned(), feature.inputs.join(", ")]];
        let inputs = input_rows.into_iter().filter(|_| !feature.inputs.is_empty());
        return format!("{}\n", new_table(["", ""], named_rows.chain(inputs)));
    }
    let rows = lineage.iter().map(|feature| {
        [
            feature.feature.to_string(),
            text(feature.unit.as_deref()),
            feature.formula.clone(),
            text(feature.filter.as_deref()),
        ]
    });
    format!("{}\n", new_table(["feature", "unit", "formula", "readings where"], rows))
}

fn format_changes(
    diff: &DefinitionsDiff,
    old: &FeatureDefinitions,
    new: &FeatureDefinitions,
) -> String {
    let (from, to) = (short_hash(old), short_hash(new));
    if diff.changes.is_empty() {
        return format!(
            "no feature changes: {} features are unchanged; hash {from} → {to}\n",
            diff.same
        );
    }
    let rows = diff.changes.iter().map(|(name, change)| {
        let (what, how) = match change {
            FeatureChange::Added(lineage) => ("added", describe_lineage(lineage)),
            FeatureChange::Removed(lineage) => ("removed", describe_lineage(lineage)),
            FeatureChange::Changed { from, to } => {
                ("changed", format!("{}\n→ {}", describe_lineage(from), describe_lineage(to)))
            }
            FeatureChange::ChangedBy { of, input } => {
                ("changed", format!("{}, as {input} is", describe_lineage(of)))
            }
        };
        [what.to_owned(), name.to_string(), how]
    });
    let count = |what: fn(&FeatureChange) -> bool| {
        diff.changes.values().filter(|change| what(change)).count()
    };
    let added = count(|change| matches!(change, FeatureChange::Added(_)));
    let removed = count(|change| matches!(change, FeatureChange::Removed(_)));
    let backfill = match diff.needs_backfill() {
        true => "past rows must be recomputed (a backfill)",
        false => "no backfill is needed",
    };
    format!(
        "{}\n{added} added, {removed} removed, {} changed, {} unchanged; hash {from} → {to}\n{backfill}\n",
        new_table(["", "feature", "how"], rows),
        diff.changes.len() - added - removed,
        diff.same
    )
}

fn describe_lineage(lineage: &FeatureLineage) -> String {
    let filter = lineage.filter.as_ref().map(|filter| format!(" where {filter}"));
    let unit = lineage.unit.as_ref().map(|unit| format!(" [{unit}]"));
    format!("{}{}{}", lineage.formula, filter.unwrap_or_default(), unit.unwrap_or_default())
}

fn format_versions(versions: &[FeatureVersion]) -> String {
    let rows = versions.iter().map(|version| {
        let table =
            if version.is_active { "rows".to_owned() } else { format!("rows_v{}", version.number) };
        let hash = version.hash.chars().take(12).collect();
        let active = if version.is_active { "active" } else { "" };
        [
            version.number.to_string(),
            hash,
            version.created.clone(),
            format!("features.{table}"),
            active.into(),
        ]
    });
    format!("{}\n", new_table(["version", "hash", "created (UTC)", "rows", ""], rows))
}

fn short_hash(definitions: &FeatureDefinitions) -> String {
    definitions.compute_hash().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: FeaturesCommand) -> CommandOutput {
        execute_command(&command, &FeatureStoreSettings::default(), &MetricTable::default())
            .unwrap()
    }

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn list_counts_what_it_names() {
        let list = |names, json| {
            let metric = vec!["temperature".to_owned(), "humidity".to_owned()];
            run(FeaturesCommand::List { metric, names, json }).text
        };
        let names = list(true, false);
        let table = list(false, false);
        assert!(names.lines().any(|name| name == "vpd_kpa"), "{names}");
        assert!(
            table.contains(&format!("{} features of 2 metrics", names.lines().count())),
            "{table}"
        );
        assert!(
            table.contains("heating_degrees") && table.contains("max(0, 18 − temperature)"),
            "{table}"
        );
        let json: serde_json::Value = serde_json::from_str(&list(false, true)).unwrap();
        assert_eq!(json.as_array().unwrap().len(), names.lines().count());
    }

    #[test]
    fn show_takes_features_and_metrics() {
        let show = |name: &str| run(FeaturesCommand::Show { name: name.to_owned(), json: false });
        let vpd = show("vpd_kpa").text;
        assert!(vpd.contains("FAO 56") && vpd.contains("humidity_mean_10m"), "{vpd}");
        assert!(show("light_day").text.contains("the sun is up"));
        let wrong = show("vdp_kpa");
        assert_eq!(wrong.error, "there is no feature `vdp_kpa`\nhint: did you mean `vpd_kpa`?\n");
        assert_eq!(wrong.exit_code, 1);
    }

    #[test]
    fn check_and_diff_end_with_what_they_found() {
        let dir = tempfile::tempdir().unwrap();
        let same = file(&dir, "same.toml", crate::definitions::BUILT_IN);
        let other = "version = 1\nmetrics.battery.inherit = false\n[windows]\n1h = [\"mean\"]\n";
        let other = file(&dir, "other.toml", other);
        let wrong = file(&dir, "wrong.toml", "version = 2\n[window]\n");
        let check = |file: &PathBuf| run(FeaturesCommand::Check { file: file.clone() });
        assert_eq!(check(&same).exit_code, 0);
        let mistakes = check(&wrong);
        assert_eq!(mistakes.exit_code, 1);
        assert!(mistakes.error.ends_with("2 mistakes\n"), "{}", mistakes.error);
        let diff = |file: &PathBuf, to: Option<&PathBuf>| {
            run(FeaturesCommand::Diff { file: file.clone(), to: to.cloned() })
        };
        assert_eq!(diff(&same, None).exit_code, 0);
        let found = diff(&other, None);
        assert_eq!(found.exit_code, 1);
        assert!(found.text.contains("no backfill is needed"), "{}", found.text);
        let found = diff(&other, Some(&same));
        assert!(found.text.contains("(a backfill)"), "{}", found.text);
        assert_eq!(diff(&wrong, None).exit_code, 2);
    }
}
