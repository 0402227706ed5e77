//! Charts as SVG: lines over a linear or a logarithmic axis, drawn by `plotters`.
//!
//! It knows nothing of what is shown.
//!
//! Invariant: a chart without a single point says so instead of showing an empty frame.

use plotters::{
    chart::ChartBuilder,
    coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
    prelude::{Circle, EmptyElement, IntoDrawingArea, IntoLogRange, LineSeries, SVGBackend, WHITE},
    style::{Color, Palette, Palette99, ShapeStyle},
};

use crate::Failure;

/// A named line (its name stands in HTML as it is); with `dots`, its points alone.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dots: bool,
}

/// What a chart is called and how its axes are.
pub struct Frame<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub x_log: bool,
    pub y_log: bool,
    /// How a value of the x axis is written, if not as a number.
    pub x_shown: Option<fn(f64) -> String>,
}

const SIZE: (u32, u32) = (900, 380);

/// Draws the curves; the SVG text, and below it whose each is.
pub fn chart(frame: &Frame<'_>, curves: &[Curve]) -> Result<String, Failure> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    if points().next().is_none() {
        return Ok(format!("<p><b>{}</b>: nothing of it was measured in this run.</p>", frame.title));
    }
    let x = range(points().map(|point| point.0), frame.x_log);
    let y = range(points().map(|point| point.1), frame.y_log);
    match (frame.x_log, frame.y_log) {
        (false, false) => draw(frame, curves, x.0..x.1, y.0..y.1),
        (false, true) => draw(frame, curves, x.0..x.1, (y.0..y.1).log_scale()),
        (true, false) => draw(frame, curves, (x.0..x.1).log_scale(), y.0..y.1),
        (true, true) => draw(frame, curves, (x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
    }
}

/// From the least to the most, with room; a linear axis begins at zero.
fn range(values: impl Iterator<Item = f64>, log: bool) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if log {
        let low = low.max(1e-3);
        (low * 0.9, high.max(low) * 1.1)
    } else {
        (low.min(0.0), if high > 0.0 { high * 1.05 } else { 1.0 })
    }
}

fn draw<X, Y>(frame: &Frame<'_>, curves: &[Curve], x: X, y: Y) -> Result<String, Failure>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let told = |error: &dyn std::fmt::Display| -> Failure { format!("the chart {:?}: {error}", frame.title).into() };
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| told(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(frame.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(80)
            .build_cartesian_2d(x, y)
            .map_err(|error| told(&error))?;
        chart
            .configure_mesh()
            .x_desc(frame.x)
            .y_desc(frame.y)
            .x_label_formatter(&|value| frame.x_shown.map_or_else(|| short(*value), |shown| shown(*value)))
            .y_label_formatter(&|value| short(*value))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| told(&error))?;
        for (place, curve) in curves.iter().enumerate() {
            let style = ShapeStyle::from(Palette99::pick(place).mix(1.0)).stroke_width(2);
            let drawn = if curve.dots {
                let dot = |&(x, y): &(f64, f64)| EmptyElement::at((x, y)) + Circle::new((0, 0), 3, style.filled());
                chart.draw_series(curve.points.iter().map(dot))
            } else {
                chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))
            };
            drawn.map_err(|error| told(&error))?;
        }
        area.present().map_err(|error| told(&error))?;
    }
    Ok(text + &legend(curves))
}

/// Which colour is whose: below the chart, where it hides nothing.
fn legend(curves: &[Curve]) -> String {
    let shown = |(place, curve): (usize, &Curve)| {
        let (red, green, blue) = Palette99::pick(place).mix(1.0).rgb();
        format!("<span style=\"color: rgb({red},{green},{blue})\">&#9632;</span> {}", curve.name)
    };
    let all: Vec<String> = curves.iter().enumerate().filter(|(_, curve)| !curve.points.is_empty()).map(shown).collect();
    format!("\n<p class=\"legend\">{}</p>", all.join(" &nbsp; "))
}

/// A number as it stands at an axis: 12000 as 12k.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        many if many >= 1e9 => (value / 1e9, "G"),
        many if many >= 1e6 => (value / 1e6, "M"),
        many if many >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_every_curve_on_every_kind_of_axis() {
        let curve = |name: &str, dots| Curve { name: name.into(), points: vec![(1.0, 2.0), (10.0, 2000.0)], dots };
        for (x_log, y_log) in [(false, false), (false, true), (true, false), (true, true)] {
            let frame = Frame { title: "both", x: "time", y: "us", x_log, y_log, x_shown: None };
            let svg = chart(&frame, &[curve("before", false), curve("after", true)]).expect("drawn");
            assert!(svg.starts_with("<svg") && svg.contains("</svg>"), "{svg:.80}");
            assert!(["both", "before", "after", "time"].iter().all(|text| svg.contains(text)));
        }
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        let frame = Frame { title: "none", x: "x", y: "y", x_log: false, y_log: false, x_shown: None };
        let empty = Curve { name: "n".into(), points: vec![], dots: false };
        assert!(chart(&frame, &[empty]).expect("no error").contains("nothing of it was measured"));
    }

    #[test]
    fn numbers_at_an_axis_are_short() {
        let shown: Vec<String> = [0.0, 0.25, 950.0, 12_000.0, 2.67e6].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "0.25", "950", "12k", "2.67M"]);
    }
}
