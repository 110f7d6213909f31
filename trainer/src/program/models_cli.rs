//! `trainer models`: shows versions, the champion and the reason for it, and changes it.

use crate::{TrainerSettings, registry_store, tasks};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use jiff::Timestamp;
use models::{
    ModelCard, ModelRegistry, RegistryError,
    registry::{DecisionAuthor, GateVerdict, ModelAliases},
};
use serde_json::{Value, json};

use super::output::print_line;

const EXAMPLES: &str = "Examples:
  trainer models list
  trainer models show temperature-10m
  trainer models diff temperature-10m 1 2
  trainer models promote temperature-10m 2
  trainer models promote temperature-10m 2 --force --why 'version 1 was trained on a broken sensor'
  trainer models rollback temperature-10m --why 'forecasts jump since this morning'
  trainer models gc --keep 5 --dry-run";

/// Show and change which models are served.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List all versions, of a task or of all tasks.
    List {
        /// The task.
        #[arg(value_parser = task_names())]
        task: Option<String>,
    },
    /// Show the facts of a version and the gate's decision; without a number, of the champion.
    Show {
        /// The task.
        #[arg(value_parser = task_names())]
        task: String,
        /// The version.
        version: Option<u64>,
    },
    /// Show the differences between two versions.
    Diff {
        /// The task.
        #[arg(value_parser = task_names())]
        task: String,
        /// First version.
        from: u64,
        /// Second version.
        to: u64,
    },
    /// Make a version that passed the gate the champion.
    Promote {
        /// The task.
        #[arg(value_parser = task_names())]
        task: String,
        /// The version.
        version: u64,
        /// Promote it whatever the gate decided; this is recorded.
        #[arg(long, requires = "why")]
        force: bool,
        /// Reason, for the record.
        #[arg(long)]
        why: Option<String>,
    },
    /// Make the previous champion the champion again.
    Rollback {
        /// The task.
        #[arg(value_parser = task_names())]
        task: String,
        /// Reason, for the record.
        #[arg(long)]
        why: Option<String>,
    },
    /// Show the record of decisions, newest first; with --json one per line.
    Log {
        /// The task.
        #[arg(value_parser = task_names())]
        task: String,
        /// Number of decisions.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Remove old versions that are neither champion nor challenger nor among the last champions.
    Gc {
        /// The task; all tasks if none is given.
        #[arg(value_parser = task_names())]
        task: Option<String>,
        /// Number of newest versions and of last champions that stay.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        keep: u16,
        /// Only show which versions would be removed.
        #[arg(long)]
        dry_run: bool,
    },
}

fn task_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(tasks::NAMES)
}

pub(crate) fn run_command(settings: &TrainerSettings, options: ModelsArgs) -> Result<()> {
    let registry = registry_store::open_registry(settings)?;
    let json = options.json;
    let selected_tasks =
        |task: Option<String>| task.map_or_else(|| registry.list_tasks(), |task| Ok(vec![task]));
    let who = current_user();
    match options.command {
        ModelsCommand::List { task } => list_versions(&registry, &selected_tasks(task)?, json),
        ModelsCommand::Show { task, version } => show_version(&registry, &task, version, json),
        ModelsCommand::Diff { task, from, to } => diff_versions(&registry, &task, from, to, json),
        ModelsCommand::Promote { task, version, force, why: given_why } => {
            let why = given_why.unwrap_or_else(|| "it passed the gate".to_owned());
            let promoted = registry.promote_version(
                &task,
                version,
                DecisionAuthor { who: &who, why: &why },
                force,
            )?;
            print_answer(json, json!(promoted), format!("{task}: version {version} is champion"))
        }
        ModelsCommand::Rollback { task, why: given_why } => {
            let why = given_why.unwrap_or_else(|| "by hand".to_owned());
            let version =
                registry.rollback_champion(&task, DecisionAuthor { who: &who, why: &why })?;
            let text = format!("{task}: version {version} is champion again");
            print_answer(json, json!({ "task": task, "champion": version }), text)
        }
        ModelsCommand::Log { task, limit } => show_log(&registry, &task, usize::from(limit), json),
        ModelsCommand::Gc { task, keep, dry_run } => {
            for task in selected_tasks(task)? {
                let surplus = registry.surplus_versions(&task, usize::from(keep))?;
                if !dry_run {
                    registry.remove_versions(
                        &task,
                        &surplus,
                        DecisionAuthor { who: &who, why: "trainer models gc" },
                    )?;
                }
                let value = json!({ "task": task, "versions": surplus, "removed": !dry_run });
                print_answer(
                    json,
                    value,
                    format!("{task}: {}", describe_removal(&surplus, dry_run)),
                )?;
            }
            Ok(())
        }
    }
}

/// Describes a removal, as `nothing to remove`, `version 3 removed` or `versions 3, 4 and 7 would
/// be removed`.
fn describe_removal(versions: &[u64], dry_run: bool) -> String {
    let done = if dry_run { "would be removed" } else { "removed" };
    let named =
        |versions: &[u64]| versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match versions {
        [] => "nothing to remove".to_owned(),
        [one] => format!("version {one} {done}"),
        [first @ .., last] => format!("versions {} and {last} {done}", named(first)),
    }
}

/// Name of the user and the host, as in `anna@greenhouse`.
fn current_user() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "someone".to_owned());
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(host) => format!("{user}@{}", host.trim()),
        Err(_) => user,
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the last expression of commands")]
fn print_answer(json: bool, value: Value, text: String) -> Result<()> {
    if json {
        print_line!("{value}");
    } else {
        print_line!("{text}");
    }
    Ok(())
}

/// `champion`, `challenger`, `before` (an earlier champion), or nothing.
fn alias_name(aliases: &ModelAliases, version: u64) -> &'static str {
    let is = |slot: &Option<models::registry::VersionRef>| {
        slot.as_ref().is_some_and(|slot| slot.version == version)
    };
    if is(&aliases.champion) {
        "champion"
    } else if is(&aliases.challenger) {
        "challenger"
    } else if aliases.before.iter().any(|slot| slot.version == version) {
        "before"
    } else {
        ""
    }
}

fn list_versions(registry: &ModelRegistry, tasks: &[String], json: bool) -> Result<()> {
    let mut table = new_table([
        "task",
        "version",
        "",
        "model",
        "metric",
        "of baseline",
        "rows",
        "trained to",
        "size kB",
        "gate",
    ]);
    let mut all = Vec::new();
    for task in tasks {
        let aliases = registry.current_aliases(task)?;
        for version in registry.list_versions(task)?.into_iter().rev() {
            let role = alias_name(&aliases, version);
            let verdict = registry.last_verdict(task, version)?;
            let (card, bytes) = match registry.load_card(task, version) {
                Ok(found) => found,
                Err(error) => {
                    all.push(json!({ "task": task, "version": version, "alias": role,
                        "refused": error.to_string() }));
                    table.add_row([task, &version.to_string(), role, "(refused)"]);
                    continue;
                }
            };
            all.push(json!({
                "task": task, "version": version, "alias": role, "model": card.model,
                "metrics": card.metrics, "rows": card.rows, "trained_ms": card.trained_ms,
                "size_bytes": bytes, "verdict": verdict,
            }));
            let (metric, share) = first_metric(&card);
            table.add_row([
                task.clone(),
                version.to_string(),
                role.to_owned(),
                card.model.clone(),
                metric,
                share,
                card.rows.to_string(),
                format_date(card.trained_ms.1),
                format!("{:.1}", bytes as f64 / 1000.0),
                describe_verdict(verdict.as_ref()),
            ]);
        }
    }
    for column in [1, 5, 6, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = if all.is_empty() { "no versions yet".to_owned() } else { table.to_string() };
    print_answer(json, json!(all), text)
}

/// A card's first metric, and its ratio to the baseline's.
fn first_metric(card: &ModelCard) -> (String, String) {
    let found = card
        .metrics
        .iter()
        .find(|(name, _)| card.metrics.contains_key(&format!("{name}_baseline")));
    let Some((name, value)) = found else { return (String::new(), String::new()) };
    let baseline = card.metrics[&format!("{name}_baseline")];
    // A score has no unit, and neither has a class index.
    let is_in_unit = matches!(name.as_str(), "rmse" | "mae") && card.facts.classes.is_empty();
    let unit = if is_in_unit { format!(" {}", card.unit) } else { String::new() };
    (format!("{name} {value:.4}{unit}"), format!("{:.3}", value / baseline))
}

fn describe_verdict(verdict: Option<&GateVerdict>) -> String {
    match verdict {
        None => "not evaluated".to_owned(),
        Some(verdict) if verdict.passed => "passed".to_owned(),
        Some(_) => "held".to_owned(),
    }
}

fn format_date(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

fn show_version(
    registry: &ModelRegistry,
    task: &str,
    version: Option<u64>,
    json: bool,
) -> Result<()> {
    let version = match version {
        Some(version) => version,
        None => registry.champion_version(task)?.ok_or_else(|| {
            anyhow::anyhow!("{task}: there is no champion yet\nhint: `trainer compare` trains one")
        })?,
    };
    let (card, bytes) = registry.load_card(task, version)?;
    let verdict = registry.last_verdict(task, version)?;
    // Golden rows are run here too, so that a version that is shown is one that loads.
    registry.load_artifact(task, version)?;
    if json {
        let value = json!({ "version": version, "size_bytes": bytes, "card": card,
            "schema_hash": card.schema.schema_hash(), "verdict": verdict });
        return print_answer(true, value, String::new());
    }
    let aliases = registry.current_aliases(task)?;
    let mut lines = vec![
        ("task", task.to_owned()),
        ("version", format!("{version} {}", alias_name(&aliases, version))),
        ("model", card.model.clone()),
        ("unit", card.unit.clone()),
        (
            "inputs",
            format!("{}, schema {}", card.schema.features.len(), &card.schema.schema_hash()[..12]),
        ),
        (
            "trained on",
            format!(
                "{} rows, {} to {} UTC, data {}",
                card.rows,
                format_date(card.trained_ms.0),
                format_date(card.trained_ms.1),
                card.facts.data_hash.get(..12).unwrap_or("-")
            ),
        ),
        ("seed", card.seed.to_string()),
        ("code", format!("{} with {}", card.code_version, join_pairs(&card.facts.crates))),
        ("size", format!("{bytes} bytes")),
    ];
    if let Some(before) = &card.facts.evaluated {
        let text = format!(
            "the fit before this one, on {} rows from {} to {} UTC, tested on {} to {}",
            before.rows,
            format_date(before.trained_ms.0),
            format_date(before.trained_ms.1),
            format_date(before.test_ms.0),
            format_date(before.test_ms.1)
        );
        lines.push(("metrics of", text));
    }
    for (name, value) in &card.metrics {
        let found = card.facts.metric_intervals.get(name);
        let interval =
            found.map_or(String::new(), |[low, high]| format!(" [{low:.4} to {high:.4}, 95 %]"));
        lines.push(("metric", format!("{name} {value:.4}{interval}")));
    }
    match &verdict {
        None => lines.push(("gate", "not evaluated".to_owned())),
        Some(verdict) => {
            lines.push((
                "gate",
                format!("{}: {}", describe_verdict(Some(verdict)), verdict.reason()),
            ));
            let (from, to) = verdict.span_ms;
            lines.push((
                "",
                format!(
                    "on {} to {} UTC; p99 {:.1} µs",
                    format_date(from),
                    format_date(to),
                    verdict.latency_p99_us
                ),
            ));
        }
    }
    let width = 12;
    lines.iter().for_each(|(name, value)| print_line!("{name:width$}{value}"));
    print_line!("\n{:44} {:9} {:>12} {:>12} {:>8}", "input", "unit", "from", "to", "missing");
    for (number, name) in card.schema.features.iter().enumerate() {
        let unit = card.facts.input_units.get(number).map_or("", String::as_str);
        match card.facts.profile.inputs.get(number) {
            Some(range) => print_line!(
                "{name:44} {unit:9} {:12.4} {:12.4} {:6.1} %",
                range.low,
                range.high,
                100.0 * range.missing
            ),
            None => print_line!("{name:44} {unit}"),
        }
    }
    Ok(())
}

fn join_pairs(all: &std::collections::BTreeMap<String, String>) -> String {
    all.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
}

fn diff_versions(
    registry: &ModelRegistry,
    task: &str,
    from: u64,
    to: u64,
    json: bool,
) -> Result<()> {
    ensure!(from != to, "expected two versions, found {from} twice");
    let (one, one_bytes) = registry.load_card(task, from)?;
    let (other, other_bytes) = registry.load_card(task, to)?;
    let mut rows: Vec<(String, String, String)> = vec![
        ("model".into(), one.model.clone(), other.model.clone()),
        ("rows".into(), one.rows.to_string(), other.rows.to_string()),
        ("trained from".into(), format_date(one.trained_ms.0), format_date(other.trained_ms.0)),
        ("trained to".into(), format_date(one.trained_ms.1), format_date(other.trained_ms.1)),
        ("seed".into(), one.seed.to_string(), other.seed.to_string()),
        ("code".into(), one.code_version.clone(), other.code_version.clone()),
        ("crates".into(), join_pairs(&one.facts.crates), join_pairs(&other.facts.crates)),
        ("settings".into(), one.facts.settings.to_string(), other.facts.settings.to_string()),
        ("data".into(), one.facts.data_hash.clone(), other.facts.data_hash.clone()),
        ("size, bytes".into(), one_bytes.to_string(), other_bytes.to_string()),
    ];
    let names: std::collections::BTreeSet<&String> =
        one.metrics.keys().chain(other.metrics.keys()).collect();
    for name in names {
        let value =
            |card: &ModelCard| card.metrics.get(name).map_or("-".into(), |v| format!("{v:.6}"));
        rows.push((name.clone(), value(&one), value(&other)));
    }
    let lacks = |a: &ModelCard, b: &ModelCard| -> Vec<String> {
        let new = a.schema.features.iter().filter(|name| !b.schema.features.contains(name));
        new.cloned().collect()
    };
    let (gone, new) = (lacks(&one, &other), lacks(&other, &one));
    rows.retain(|(_, from, to)| from != to);
    if json {
        let fields: Vec<Value> = rows
            .iter()
            .map(|(name, from, to)| json!({ "field": name, "from": from, "to": to }))
            .collect();
        let value = json!({ "task": task, "from": from, "to": to, "fields": fields,
            "inputs_only_in_from": gone, "inputs_only_in_to": new });
        return print_answer(true, value, String::new());
    }
    if rows.is_empty() && gone.is_empty() && new.is_empty() {
        print_line!("versions {from} and {to} of {task} do not differ");
        return Ok(());
    }
    let mut table = new_table(["", &format!("version {from}"), &format!("version {to}")]);
    for (name, from, to) in rows {
        table.add_row([name, truncate_text(from), truncate_text(to)]);
    }
    print_line!("{table}");
    gone.iter().for_each(|name| print_line!("- {name}"));
    new.iter().for_each(|name| print_line!("+ {name}"));
    Ok(())
}

fn truncate_text(text: String) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn show_log(registry: &ModelRegistry, task: &str, limit: usize, json: bool) -> Result<()> {
    let found: Result<_, RegistryError> = registry.recent_decisions(task, limit);
    let entries = found?;
    if json {
        for entry in &entries {
            print_line!("{}", serde_json::to_string(entry)?);
        }
        return Ok(());
    }
    let mut table = new_table(["", "when (UTC)", "who", "what", "version", "champion", "why"]);
    for entry in entries {
        let champion = entry.aliases.champion.map_or("-".into(), |slot| slot.version.to_string());
        table.add_row([
            entry.number.to_string(),
            format_date(entry.at_ms),
            entry.who,
            entry.what.name().to_owned(),
            entry.version.to_string(),
            champion,
            entry.why,
        ]);
    }
    print_line!("{table}");
    Ok(())
}

fn new_table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(head);
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_removed_is_named() {
        let check = |versions: &[u64], dry_run, expect| {
            assert_eq!(super::describe_removal(versions, dry_run), expect);
        };
        check(&[], false, "nothing to remove");
        check(&[], true, "nothing to remove");
        check(&[3], false, "version 3 removed");
        check(&[3, 4], true, "versions 3 and 4 would be removed");
        check(&[3, 4, 7], false, "versions 3, 4 and 7 removed");
    }
}
