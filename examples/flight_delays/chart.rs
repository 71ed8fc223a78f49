//! Line charts as SVG, drawn by plotters.

use plotters::prelude::*;

/// One line of a chart.
pub struct Line<'a> {
    pub name: &'a str,
    pub color: RGBColor,
    pub points: Vec<(f64, f64)>,
}

/// What a chart shows, and how its axes read.
pub struct Chart<'a> {
    pub y_name: &'a str,
    pub x_label: &'a dyn Fn(&f64) -> String,
    pub y_label: &'a dyn Fn(&f64) -> String,
    pub x_ticks: usize,
    /// Vertical marks, such as the days of a retraining.
    pub marks: &'a [f64],
    /// A horizontal line, such as a threshold.
    pub level: Option<f64>,
    /// Whether to mark the points of every line.
    pub dots: bool,
}

pub const BLUE: RGBColor = RGBColor(37, 99, 235);
pub const GREY: RGBColor = RGBColor(120, 124, 135);
pub const ORANGE: RGBColor = RGBColor(217, 119, 6);
pub const RED: RGBColor = RGBColor(200, 40, 40);
const FAINT: RGBColor = RGBColor(226, 229, 235);
const INK: RGBColor = RGBColor(70, 74, 84);

type Drawn = Result<String, Box<dyn std::error::Error>>;

impl Chart<'_> {
    /// The chart of these lines, 960 by 320 units.
    pub fn draw(&self, lines: &[Line]) -> Drawn {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (960, 320)).into_drawing_area();
            let (x, y) = self.ranges(lines);
            let mut chart = ChartBuilder::on(&root)
                .margin(8)
                .margin_right(24)
                .x_label_area_size(30)
                .y_label_area_size(76)
                .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(FAINT)
                .axis_style(FAINT)
                .label_style(("sans-serif", 13, &INK))
                .x_labels(self.x_ticks)
                .y_labels(6)
                .x_label_formatter(self.x_label)
                .y_label_formatter(self.y_label)
                .y_desc(self.y_name)
                .draw()?;
            for mark in self.marks {
                let ends = [(*mark, y.0), (*mark, y.1)];
                chart.draw_series(LineSeries::new(ends, BLUE.mix(0.35)))?;
            }
            if let Some(level) = self.level {
                let ends = [(x.0, level), (x.1, level)];
                chart.draw_series(LineSeries::new(ends, RED.stroke_width(1)))?;
            }
            for line in lines {
                let style = line.color.stroke_width(2);
                let color = line.color;
                chart
                    .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                    .label(line.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
                if self.dots {
                    let dot = |point: &(f64, f64)| Circle::new(*point, 3, color.filled());
                    chart.draw_series(line.points.iter().map(dot))?;
                }
            }
            if lines.len() > 1 {
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .background_style(WHITE.mix(0.85))
                    .border_style(FAINT)
                    .label_font(("sans-serif", 13, &INK))
                    .draw()?;
            }
            root.present()?;
        }
        Ok(responsive(&svg))
    }

    fn ranges(&self, lines: &[Line]) -> ((f64, f64), (f64, f64)) {
        let points = || lines.iter().flat_map(|line| &line.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            if low < high { (low, high) } else { (0.0, 1.0) }
        };
        let x = range(&mut points().map(|point| point.0));
        let y = range(&mut points().map(|point| point.1).chain(self.level));
        let air = (y.1 - y.0) * 0.05;
        // Room above for the legend.
        (x, (y.0 - air, y.1 + 4.0 * air))
    }
}

/// Lets the browser scale the drawing to the width of the page.
fn responsive(svg: &str) -> String {
    svg.replacen(r#"width="960" height="320""#, r#"width="100%" role="img""#, 1)
}
