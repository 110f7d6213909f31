use std::fmt::Write;

use super::{PlotAxis, escape_markup};

/// Meaning of a mark; the page's style defines the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlotColour {
    /// The model of the figure.
    Model,
    /// The best baseline.
    Baseline,
    /// Actual values.
    Actual,
    /// A result that should not occur.
    Warning,
    /// Everything else.
    Quiet,
}

impl PlotColour {
    /// Class in the page's style.
    pub(crate) fn css_class(self) -> &'static str {
        match self {
            Self::Model => "c-model",
            Self::Baseline => "c-base",
            Self::Actual => "c-truth",
            Self::Warning => "c-warn",
            Self::Quiet => "c-quiet",
        }
    }
}

/// Width of every figure; a phone shows it at nearly full size.
pub(super) const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;
/// Average width of a character.
pub(super) const CHAR_WIDTH: f64 = 6.6;

/// Figure with two axes and marks.
pub(crate) struct SvgPlot {
    title: String,
    x: PlotAxis,
    y: PlotAxis,
    marks: String,
    legend: Vec<(PlotColour, String)>,
    /// Left end, right end and base line of the names that were written.
    names: Vec<(f64, f64, f64)>,
}

/// Smallest distance of the base lines of names that would overlap.
const LINE_HEIGHT: f64 = 12.0;

impl SvgPlot {
    /// Creates an empty figure; the title is for people who cannot see it.
    pub(crate) fn new(title: impl Into<String>, x: PlotAxis, y: PlotAxis) -> Self {
        let (marks, legend, names) = (String::new(), Vec::new(), Vec::new());
        Self { title: title.into(), x, y, marks, legend, names }
    }

    fn to_pixels(&self, x: f64, y: f64) -> (f64, f64) {
        let width = WIDTH - LEFT - RIGHT;
        let height = HEIGHT - TOP - BOTTOM;
        (
            LEFT + width * self.x.relative_position(x),
            TOP + height * (1.0 - self.y.relative_position(y)),
        )
    }

    /// Adds the meaning of a colour.
    pub(crate) fn add_legend(&mut self, colour: PlotColour, text: impl Into<String>) {
        self.legend.push((colour, text.into()));
    }

    /// Adds a line through points in their order; it breaks where a point is not finite.
    pub(crate) fn add_line(
        &mut self,
        colour: PlotColour,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) {
        let _ = write!(self.marks, "<path class='line {}' d='", colour.css_class());
        let mut pen = 'M';
        for (x, y) in points {
            if !(x.is_finite() && y.is_finite()) {
                pen = 'M';
                continue;
            }
            let (x, y) = self.to_pixels(x, y);
            let _ = write!(self.marks, "{pen}{x:.1} {y:.1}");
            pen = 'L';
        }
        self.marks.push_str("'/>");
    }

    /// Adds the area between two lines over the same x.
    pub(crate) fn add_band(&mut self, colour: PlotColour, points: &[(f64, f64, f64)]) {
        let _ = write!(self.marks, "<path class='band {}' d='", colour.css_class());
        let lower = points.iter().map(|(x, low, _)| (*x, *low));
        let upper = points.iter().rev().map(|(x, _, high)| (*x, *high));
        for (i, (x, y)) in lower.chain(upper).enumerate() {
            let (x, y) = self.to_pixels(x, y);
            let pen = if i == 0 { 'M' } else { 'L' };
            let _ = write!(self.marks, "{pen}{x:.1} {y:.1}");
        }
        self.marks.push_str("Z'/>");
    }

    /// Adds a cloud of small points.
    pub(crate) fn add_cloud(
        &mut self,
        colour: PlotColour,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) {
        let _ = write!(self.marks, "<path class='cloud {}' d='", colour.css_class());
        for (x, y) in points {
            if x.is_finite() && y.is_finite() {
                let (x, y) = self.to_pixels(x, y);
                // A line without length, whose round ends form the point.
                let _ = write!(self.marks, "M{x:.1} {y:.1}h0");
            }
        }
        self.marks.push_str("'/>");
    }

    /// Adds a point with a tooltip. Its name is written above or below it if `is_named` and if it
    /// hides no other name.
    pub(crate) fn add_point(
        &mut self,
        colour: PlotColour,
        (x, y): (f64, f64),
        name: &str,
        is_named: bool,
    ) {
        let (px, py) = self.to_pixels(x, y);
        let text = escape_markup(name);
        let _ = write!(
            self.marks,
            "<circle class='{}' cx='{px:.1}' cy='{py:.1}' r='4'><title>{text}</title></circle>",
            colour.css_class()
        );
        if !is_named {
            return;
        }
        let width = CHAR_WIDTH * name.chars().count() as f64;
        let left = if px > WIDTH * 0.62 { px + 4.0 - width } else { px - 4.0 };
        let right = left + width;
        // The legend is above the plot area.
        let is_free = |base: &f64| {
            let is_inside = *base >= TOP + LINE_HEIGHT / 2.0;
            is_inside
                && self.names.iter().all(|(from, to, other)| {
                    right < *from || *to < left || (base - other).abs() >= LINE_HEIGHT
                })
        };
        if let Some(base) = [py - 8.0, py + 16.0].into_iter().find(is_free) {
            self.names.push((left, right, base));
            let _ = write!(self.marks, "<text x='{left:.1}' y='{base:.1}'>{text}</text>");
        }
    }

    /// Adds the area over [`from`, `to`] between two heights.
    pub(crate) fn add_area(
        &mut self,
        colour: PlotColour,
        (from, to): (f64, f64),
        (low, high): (f64, f64),
    ) {
        let ((left, top), (right, bottom)) = (self.to_pixels(from, high), self.to_pixels(to, low));
        let _ = write!(
            self.marks,
            "<rect class='{}' x='{left:.1}' y='{top:.1}' width='{:.1}' height='{:.1}'/>",
            colour.css_class(),
            (right - left).max(0.5),
            bottom - top
        );
    }

    /// Adds a dashed line between two points.
    pub(crate) fn add_guide(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (self.to_pixels(from.0, from.1), self.to_pixels(to.0, to.1));
        let _ = write!(
            self.marks,
            "<line class='guide' x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}'/>"
        );
    }

    /// Renders the figure.
    pub(crate) fn to_svg(&self) -> String {
        let title = escape_markup(&self.title);
        let mut svg = format!(
            "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'><title>{title}</title>"
        );
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (place, text) in self.y.ticks(5) {
            let y = TOP + (bottom - TOP) * (1.0 - place);
            let _ = write!(
                svg,
                "<line class='grid' x1='{LEFT}' x2='{right}' y1='{y:.1}' y2='{y:.1}'/>\
                 <text x='{:.1}' y='{:.1}' text-anchor='end'>{text}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        for (place, text) in self.x.ticks(5) {
            let x = LEFT + (right - LEFT) * place;
            // A text at the right end would be cut off.
            let half = CHAR_WIDTH * text.chars().count() as f64 / 2.0;
            let is_cut = x + half > WIDTH;
            let (at, anchor) = if is_cut { (WIDTH, "end") } else { (x, "middle") };
            let _ = write!(
                svg,
                "<line class='axis' x1='{x:.1}' x2='{x:.1}' y1='{bottom}' y2='{:.1}'/>\
                 <text x='{at:.1}' y='{:.1}' text-anchor='{anchor}'>{text}</text>",
                bottom + 4.0,
                bottom + 17.0
            );
        }
        let _ = write!(
            svg,
            "<line class='axis' x1='{LEFT}' x2='{right}' y1='{bottom}' y2='{bottom}'/>{}\
             <text class='label' x='{:.1}' y='{:.1}' text-anchor='middle'>{}</text>\
             <text class='label' x='13' y='{:.1}' text-anchor='middle' transform='rotate(-90 13 {:.1})'>{}</text>",
            self.marks,
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escape_markup(&self.x.label),
            f64::midpoint(TOP, bottom),
            f64::midpoint(TOP, bottom),
            escape_markup(&self.y.label)
        );
        svg.push_str(&legend_svg(&self.legend, LEFT));
        svg.push_str("</svg>");
        svg
    }
}

/// Renders the legend in one line at the top.
pub(super) fn legend_svg(entries: &[(PlotColour, String)], left: f64) -> String {
    let mut svg = String::new();
    let mut x = left;
    for (colour, text) in entries {
        let _ = write!(
            svg,
            "<rect class='{}' x='{x:.1}' y='7' width='10' height='10' rx='2'/>\
             <text x='{:.1}' y='16'>{}</text>",
            colour.css_class(),
            x + 14.0,
            escape_markup(text)
        );
        x += 26.0 + CHAR_WIDTH * text.chars().count() as f64;
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_nothing_is_known_and_marks_stay_inside() {
        let axis = || PlotAxis::new_fixed("a < b", 0.0, 1.0);
        let mut plot = SvgPlot::new("t", axis(), axis());
        plot.add_line(PlotColour::Model, [(0.0, 0.0), (0.5, f64::NAN), (0.5, 7.0), (1.0, 1.0)]);
        let svg = plot.to_svg();
        assert!(svg.contains("d='M62.0 224.0M225.0 26.0L388.0 26.0'"), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
    }
}
