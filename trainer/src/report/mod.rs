//! Reports of a comparison for people.
//!
//! # Layout
//! - `folder`: the run folder, and which run is the latest
//! - `sentences`: the results of a task in sentences; the meaning of its numbers
//! - `terminal`, `markdown`, `csv`: leaderboards as text
//! - `html`: one page that loads nothing else
//! - `svg`: its figures

mod csv;
mod folder;
mod html;
mod markdown;
mod sentences;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

pub(crate) use folder::ReportFolder;
pub(crate) use svg::format_number;
pub use terminal::{relevance_report, terminal_report};
