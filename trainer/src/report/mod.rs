//! What people read of a comparison.
//!
//! # Layout
//! - `folder`: the run folder, and which is the latest
//! - `words`: what came of a task, in sentences; what numbers mean
//! - `terminal`, `markdown`, `csv`: leaderboards as text
//! - `html`: one page that needs nothing from elsewhere
//! - `svg`: its pictures

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
