use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use serde_json::json;
use telemetry::MetricTable;

use crate::{
    Settings, StoreError, Version,
    definitions::{
        Change, Definitions, Derived, Diff, Feature, Lineage, Origin, diff, hint, lineage,
    },
    drop_version, versions_of,
};

/// What is computed, by the definitions of the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// What there is: metrics, derived metrics, joins, with their windows.
    #[command(after_help = "Examples:\n  \
        feature-store features list\n  \
        feature-store features list --metric temperature --metric humidity\n  \
        feature-store features list --names | grep slope\n  \
        feature-store features list --json | jq '.[] | select(.window == \"7d\") | .feature'")]
    List {
        /// Only what a zone with these metrics has.
        #[arg(long, value_name = "NAME")]
        metric: Vec<String>,
        /// Only the names of features, one a line.
        #[arg(long, conflicts_with = "json")]
        names: bool,
        /// Each feature with its lineage, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a feature, or each feature of a metric, is made of.
    #[command(after_help = "Examples:\n  \
        feature-store features show vpd_kpa\n  \
        feature-store features show light_day\n  \
        feature-store features show temperature_slope_24h --json")]
    Show {
        /// A feature, a metric or a derived metric.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Whether a file is well-formed: 0 if it is, 1 if it is not, with all of its mistakes.
    #[command(after_help = "Example:\n  feature-store features check features.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Which definitions the DuckDB file has rows of; while nothing else has it open.
    Versions,
    /// Lets the rows of old definitions go; while nothing else has the file open.
    #[command(after_help = "Example:\n  feature-store features drop 1")]
    Drop {
        /// Its number, by `features versions`.
        version: i32,
    },
    /// What a file changes: 0 if nothing, 1 if something, 2 if it is not well-formed.
    #[command(after_help = "Examples:\n  \
        feature-store features diff new.toml            # against those of the configuration\n  \
        feature-store features diff old.toml new.toml")]
    Diff {
        /// The file, or the older of two.
        file: PathBuf,
        /// The newer one.
        to: Option<PathBuf>,
    },
}

/// What to print, and what to end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub error: String,
    /// 0: fine.
    pub exit_code: u8,
}

/// Answers a command, by the settings, for a site with these metrics.
///
/// # Errors
/// Where the DuckDB file is asked for and cannot be opened.
pub fn answer(
    command: &Command,
    settings: &Settings,
    metrics: &MetricTable,
) -> Result<Answer, StoreError> {
    let configured = || Definitions::load(&settings.engine.features, metrics);
    let answered = match command {
        Command::List { metric, names, json } => {
            configured().map(|own| list_answer(&own, metrics, metric, *names, *json))
        }
        Command::Show { name, json } => {
            configured().map(|own| show_answer(&own, metrics, name, *json))
        }
        Command::Check { file } => Definitions::load(file, metrics).map(|read| {
            let count = read.features(metrics.iter().map(|(name, _)| name.as_str())).len();
            let (file, hash) = (file.display(), short(&read));
            fine(format!(
                "{file}: no mistakes; {count} features of all known metrics, hash {hash}\n"
            ))
        }),
        Command::Diff { file, to } => {
            let load = |file: &PathBuf| Definitions::load(file, metrics);
            let (old, new) = match to {
                Some(to) => (load(file), load(to)),
                None => (configured(), load(file)),
            };
            match (old, new) {
                (Ok(old), Ok(new)) => Ok(diff_answer(&old, &new, metrics)),
                (Err(mut old), Err(new)) => {
                    old.mistakes.extend(new.mistakes);
                    Err(old)
                }
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        }
        Command::Versions => return Ok(fine(versions(&versions_of(settings)?))),
        Command::Drop { version } => {
            return Ok(drop_answer(*version, drop_version(settings, *version)?));
        }
    };
    Ok(answered.unwrap_or_else(|error| {
        let count = error.mistakes.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        let exit_code = if matches!(command, Command::Diff { .. }) { 2 } else { 1 };
        wrong(format!("{error}\n{count} {mistakes}\n"), exit_code)
    }))
}

fn fine(text: String) -> Answer {
    Answer { text, error: String::new(), exit_code: 0 }
}

fn wrong(error: String, exit_code: u8) -> Answer {
    Answer { text: String::new(), error, exit_code }
}

fn list_answer(
    definitions: &Definitions,
    metrics: &MetricTable,
    metric: &[String],
    names: bool,
    json: bool,
) -> Answer {
    let known = || metrics.iter().map(|(name, _)| name.as_str());
    if let Some(unknown) = metric.iter().find(|name| metrics.get(name).is_none()) {
        return wrong(unknown_name("metric", unknown, &known().collect::<Vec<_>>()), 1);
    }
    let is_asked = |name: &&str| metric.is_empty() || metric.iter().any(|own| own == name);
    let measured: Vec<&str> = known().filter(is_asked).collect();
    let features = definitions.features(measured.iter().copied());
    let all: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    fine(match (names, json) {
        (true, _) => all.iter().map(|name| format!("{name}\n")).collect(),
        (_, true) => json_of(&lineage(definitions, metrics, &all)),
        _ => list(definitions, metrics, &measured),
    })
}

fn show_answer(definitions: &Definitions, metrics: &MetricTable, name: &str, json: bool) -> Answer {
    let features = definitions.features(metrics.iter().map(|(name, _)| name.as_str()));
    let is_meant =
        |own: &&Feature| own.name == name || own.metric().is_some_and(|metric| metric == name);
    let meant: Vec<&str> = features.iter().filter(is_meant).map(|own| own.name.as_str()).collect();
    if meant.is_empty() {
        let known: Vec<&str> = features.iter().map(|own| own.name.as_str()).collect();
        return wrong(unknown_name("feature", name, &known), 1);
    }
    let found = lineage(definitions, metrics, &meant);
    fine(if json { json_of(&found) } else { show(&found) })
}

fn drop_answer(version: i32, is_gone: bool) -> Answer {
    if is_gone {
        return fine(format!("version {version} is gone\n"));
    }
    let hint = "hint: `feature-store features versions` lists them; the active one stays";
    wrong(format!("there is no old version {version}\n{hint}\n"), 1)
}

fn diff_answer(old: &Definitions, new: &Definitions, metrics: &MetricTable) -> Answer {
    let found = diff(old, new, metrics);
    let exit_code = u8::from(!found.changes.is_empty());
    Answer { exit_code, ..fine(changes(&found, old, new)) }
}

fn unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let hint = hint(name, known).map(|hint| format!("\nhint: {hint}"));
    format!("there is no {what} `{name}`{}\n", hint.unwrap_or_default())
}

fn json_of(lineage: &[Lineage]) -> String {
    format!("{:#}\n", json!(lineage))
}

fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head).add_rows(rows);
    table
}

/// A line a metric, derived metric and join.
fn list(definitions: &Definitions, metrics: &MetricTable, measured: &[&str]) -> String {
    let features = definitions.features(measured.iter().copied());
    let of_metric = |metric: &str| {
        features.iter().filter(|own| own.metric().is_some_and(|own| own == metric)).count()
    };
    let windows = |metric: &str| {
        let windows = definitions.windows_of(metric).into_iter();
        windows.map(|(window, _)| window.to_string()).collect::<Vec<_>>().join(" ")
    };
    let unit = |metric: &str| metrics.get(metric).map_or(String::new(), |own| own.unit.to_string());
    let mut rows = Vec::new();
    for metric in measured {
        let filter = definitions.metrics.get(*metric).and_then(|own| own.filter.as_ref());
        let from = filter.map_or("readings".to_owned(), |sql| format!("readings where {sql}"));
        rows.push([
            (*metric).to_owned(),
            unit(metric),
            windows(metric),
            of_metric(metric).to_string(),
            from,
        ]);
        for (name, derived) in definitions.derived_from(metric) {
            let own_unit = derived.unit.as_ref().map_or_else(|| unit(metric), ToString::to_string);
            let count = of_metric(name).to_string();
            rows.push([
                name.to_string(),
                own_unit,
                windows(name),
                count,
                Derived::formula(derived),
            ]);
        }
    }
    let count = |is: fn(&Origin) -> bool| features.iter().filter(|own| is(&own.origin)).count();
    let calendar = count(|origin| matches!(origin, Origin::Calendar(_)));
    let drying = count(|origin| matches!(origin, Origin::Drying(_)));
    let none = String::new;
    if calendar > 0 {
        let from = definitions.calendar.join(", ");
        rows.push(["the clock".to_owned(), none(), none(), calendar.to_string(), from]);
    }
    if drying > 0 {
        let from = format!("the driest probe: {}", definitions.drying.join(", "));
        rows.push(["drying_…".to_owned(), none(), none(), drying.to_string(), from]);
    }
    let joins = features.iter().filter(|own| matches!(own.origin, Origin::Join(_)));
    let joins: Vec<&str> = joins.map(|own| own.name.as_str()).collect();
    for own in lineage(definitions, metrics, &joins).iter().filter(|_| !joins.is_empty()) {
        let unit = own.unit.as_deref().unwrap_or_default().to_owned();
        rows.push([own.feature.to_string(), unit, none(), "1".to_owned(), own.formula.clone()]);
    }
    let mut table = table(["name", "unit", "windows", "features", "from"], rows);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\n{} features of {} metrics, hash {}\n",
        features.len(),
        measured.len(),
        short(definitions)
    )
}

/// One feature as a list of what it is, several as a table.
fn show(lineage: &[Lineage]) -> String {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    if let [own] = lineage {
        let aggregate = own.aggregate.map(|aggregate| aggregate.as_str());
        let rows = [
            ("feature", Some(own.feature.as_str())),
            ("formula", Some(own.formula.as_str())),
            ("unit", own.unit.as_deref()),
            ("metric", own.metric.as_deref()),
            ("window", own.window.as_deref()),
            ("aggregate", aggregate),
            ("readings where", own.filter.as_deref()),
            ("source", own.source.as_deref()),
        ];
        let rows =
            rows.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?.to_owned()]));
        let inputs = [["made of".to_owned(), own.inputs.join(", ")]];
        let inputs = inputs.into_iter().filter(|_| !own.inputs.is_empty());
        return format!("{}\n", table(["", ""], rows.chain(inputs)));
    }
    let rows = lineage.iter().map(|own| {
        [
            own.feature.to_string(),
            text(own.unit.as_deref()),
            own.formula.clone(),
            text(own.filter.as_deref()),
        ]
    });
    format!("{}\n", table(["feature", "unit", "formula", "readings where"], rows))
}

fn changes(diff: &Diff, old: &Definitions, new: &Definitions) -> String {
    let (from, to) = (short(old), short(new));
    if diff.changes.is_empty() {
        return format!("no feature changes: {} are the same; hash {from} → {to}\n", diff.same);
    }
    let rows = diff.changes.iter().map(|(name, change)| {
        let (what, how) = match change {
            Change::Added(own) => ("added", described(own)),
            Change::Removed(own) => ("removed", described(own)),
            Change::Changed { from, to } => {
                ("changed", format!("{}\n→ {}", described(from), described(to)))
            }
            Change::ChangedBy { of, input } => {
                ("changed", format!("{}, as {input} is", described(of)))
            }
        };
        [what.to_owned(), name.to_string(), how]
    });
    let count =
        |what: fn(&Change) -> bool| diff.changes.values().filter(|change| what(change)).count();
    let added = count(|change| matches!(change, Change::Added(_)));
    let removed = count(|change| matches!(change, Change::Removed(_)));
    let backfill = match diff.needs_backfill() {
        true => "rows of the past have to be made anew (a backfill)",
        false => "no backfill is needed",
    };
    format!(
        "{}\n{added} added, {removed} removed, {} changed, {} as before; hash {from} → {to}\n{backfill}\n",
        table(["", "feature", "how"], rows),
        diff.changes.len() - added - removed,
        diff.same
    )
}

fn described(own: &Lineage) -> String {
    let filter = own.filter.as_ref().map(|filter| format!(" where {filter}"));
    let unit = own.unit.as_ref().map(|unit| format!(" [{unit}]"));
    format!("{}{}{}", own.formula, filter.unwrap_or_default(), unit.unwrap_or_default())
}

fn versions(versions: &[Version]) -> String {
    let rows = versions.iter().map(|own| {
        let table = if own.is_active { "rows".to_owned() } else { format!("rows_v{}", own.number) };
        let hash = own.hash.chars().take(12).collect();
        let active = if own.is_active { "active" } else { "" };
        [
            own.number.to_string(),
            hash,
            own.created.clone(),
            format!("features.{table}"),
            active.into(),
        ]
    });
    format!("{}\n", table(["version", "hash", "made (UTC)", "rows", ""], rows))
}

fn short(definitions: &Definitions) -> String {
    definitions.hash().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: Command) -> Answer {
        answer(&command, &Settings::default(), &MetricTable::default()).unwrap()
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
            run(Command::List { metric, names, json }).text
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
        let show = |name: &str| run(Command::Show { name: name.to_owned(), json: false });
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
        let check = |file: &PathBuf| run(Command::Check { file: file.clone() });
        assert_eq!(check(&same).exit_code, 0);
        let mistakes = check(&wrong);
        assert_eq!(mistakes.exit_code, 1);
        assert!(mistakes.error.ends_with("2 mistakes\n"), "{}", mistakes.error);
        let diff = |file: &PathBuf, to: Option<&PathBuf>| {
            run(Command::Diff { file: file.clone(), to: to.cloned() })
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
