use std::fmt::Write;

use super::{
    PlotAxis, PlotColour, escape_markup, format_number,
    plot::{CHAR_WIDTH, WIDTH, legend_svg},
};

/// Named row of a chart.
pub(crate) struct RankRow {
    /// Text at the left.
    pub(crate) name: String,
    /// Position of the point.
    pub(crate) value: f64,
    /// Beginning and end of the interval.
    pub(crate) interval: Option<[f64; 2]>,
    /// Its colour.
    pub(crate) colour: PlotColour,
    /// Consecutive bars from the left end, instead of a point.
    pub(crate) bars: Vec<(PlotColour, f64)>,
}

/// Chart of named rows, each with a point and its interval.
pub(crate) struct RankChart {
    /// Title for people who cannot see the chart.
    pub(crate) title: String,
    /// Axis of the values, with their unit.
    pub(crate) axis: PlotAxis,
    /// Rows from the top.
    pub(crate) rows: Vec<RankRow>,
    /// Position of a dashed line from top to bottom.
    pub(crate) guide: Option<f64>,
    /// Meanings of colours.
    pub(crate) legend: Vec<(PlotColour, String)>,
}

const ROW_HEIGHT: f64 = 21.0;
const NAMES_WIDTH: f64 = 160.0;
const VALUES_WIDTH: f64 = 52.0;
const TOP: f64 = 30.0;
/// Longest name that is not cut; the tooltip shows the whole name.
const NAME_CHARS: usize = 22;

impl RankChart {
    /// Renders the chart.
    pub(crate) fn to_svg(&self) -> String {
        let bottom = TOP + ROW_HEIGHT * self.rows.len() as f64;
        let height = bottom + 44.0;
        let right = WIDTH - VALUES_WIDTH;
        let at =
            |value: f64| NAMES_WIDTH + (right - NAMES_WIDTH) * self.axis.relative_position(value);
        let title = escape_markup(&self.title);
        let mut svg = format!(
            "<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{title}'><title>{title}</title>"
        );
        let ticks = self.axis.ticks(3);
        let longest = ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let wanted = CHAR_WIDTH * (longest * ticks.len()) as f64;
        // If texts would touch, only every second tick has one.
        let every = if wanted > 0.9 * (right - NAMES_WIDTH) { 2 } else { 1 };
        for (place, text) in ticks.into_iter().step_by(every) {
            let x = NAMES_WIDTH + (right - NAMES_WIDTH) * place;
            let _ = write!(
                svg,
                "<line class='grid' x1='{x:.1}' x2='{x:.1}' y1='{TOP}' y2='{bottom}'/>\
                 <text x='{x:.1}' y='{:.1}' text-anchor='middle'>{text}</text>",
                bottom + 15.0
            );
        }
        if let Some(guide) = self.guide {
            let x = at(guide);
            let _ = write!(
                svg,
                "<line class='guide' x1='{x:.1}' x2='{x:.1}' y1='{:.1}' y2='{bottom}'/>",
                TOP - 4.0
            );
        }
        for (i, row) in self.rows.iter().enumerate() {
            let y = TOP + ROW_HEIGHT * (i as f64 + 0.5);
            let class = row.colour.css_class();
            let _ = write!(
                svg,
                "<g><title>{}</title><text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
                escape_markup(&row.name),
                NAMES_WIDTH - 8.0,
                y + 4.0,
                escape_markup(&shorten_name(&row.name))
            );
            if let Some([low, high]) = row.interval {
                let _ = write!(
                    svg,
                    "<line class='whisker {class}' x1='{:.1}' x2='{:.1}' y1='{y:.1}' y2='{y:.1}'/>",
                    at(low),
                    at(high)
                );
            }
            let mut until = 0.0;
            for (colour, length) in &row.bars {
                let _ = write!(
                    svg,
                    "<rect class='{}' x='{:.1}' y='{:.1}' width='{:.1}' height='12'/>",
                    colour.css_class(),
                    at(until),
                    y - 6.0,
                    at(until + length) - at(until)
                );
                until += length;
            }
            if row.bars.is_empty() && row.value.is_finite() {
                let x = at(row.value);
                let _ = write!(svg, "<circle class='{class}' cx='{x:.1}' cy='{y:.1}' r='4.5'/>");
            }
            let _ = write!(
                svg,
                "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text></g>",
                WIDTH - 4.0,
                y + 4.0,
                format_number(row.value)
            );
        }
        let _ = write!(
            svg,
            "<text class='label' x='{:.1}' y='{:.1}' text-anchor='middle'>{}</text>{}</svg>",
            f64::midpoint(NAMES_WIDTH, right),
            height - 8.0,
            escape_markup(&self.axis.label),
            legend_svg(&self.legend, 8.0)
        );
        svg
    }
}

fn shorten_name(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    let beginning: String = name.chars().take(NAME_CHARS - 1).collect();
    format!("{beginning}…")
}
