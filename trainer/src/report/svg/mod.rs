//! Figures for reports as SVG within a page: axes with ticks and units, marks, legends. They are
//! written here because that takes a few hundred lines. Chart crates bring a font rasteriser or a
//! script to load, and do not follow the page's light and dark colours.
//!
//! # Layout
//! - `axis`: positions of values, and ticks
//! - `plot`: two axes and marks
//! - `rank_chart`: named rows with a value and its interval

mod axis;
mod plot;
mod rank_chart;

pub(crate) use axis::{PlotAxis, format_number};
pub(crate) use plot::{PlotColour, SvgPlot};
pub(crate) use rank_chart::{RankChart, RankRow};

/// Escapes text for HTML and SVG, including attributes.
pub(crate) fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_become_markup() {
        let check = |text: &str, expect: &str| assert_eq!(super::escape_markup(text), expect);
        check("a & b", "a &amp; b");
        check("<script>'\"", "&lt;script&gt;&#39;&quot;");
        check("°C · min", "°C · min");
    }
}
