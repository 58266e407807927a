//! Plots as SVG.

use plotters::prelude::*;

use crate::error::{Error, Result};

/// A line or a set of points.
pub(super) struct Series {
    pub label: String,
    /// x, mean, deviation; ascending in x.
    pub points: Vec<(f64, f64, f64)>,
    pub line: bool,
    /// The paper's own figures are hollow.
    pub hollow: bool,
    /// Which colour.
    pub colour: usize,
}

/// What is around the points.
pub(super) struct Frame<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub range: (f64, f64),
    /// What stands at x = 0, 1, 2 ... instead of the numbers.
    pub names: &'a [&'a str],
}

/// Draws means with their deviations.
pub(super) fn svg(frame: &Frame<'_>, series: &[Series]) -> Result<String> {
    let mut text = String::new();
    draw(frame, series, &mut text).map_err(|e| Error::Data(format!("cannot draw {}: {e}", frame.title)))?;
    Ok(text)
}

fn draw(
    frame: &Frame<'_>,
    series: &[Series],
    text: &mut String,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let ends = series.iter().flat_map(|s| s.points.iter().flat_map(|&(_, y, off)| [y - off, y + off]));
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = 0.08 * (high - low).max(1e-3);
    // Room for the labels: above curves, right of columns of points.
    let (room, columns) = if frame.names.is_empty() { (4.0 * margin, 11) } else { (margin, 24) };
    let root = SVGBackend::with_string(text, (820, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let (from, to) = frame.range;
    let mut chart = ChartBuilder::on(&root)
        .caption(frame.title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(from..to, low - margin..high + room)?;
    let name = |x: &f64| match frame.names {
        [] => ((x * 100.0).round() / 100.0).to_string(),
        names if (x - x.round()).abs() < 1e-6 => names.get(x.round() as usize).copied().unwrap_or("").to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(columns)
        .x_label_formatter(&name)
        .y_label_formatter(&|y| format!("{y:.3}"))
        .x_desc(frame.x)
        .y_desc(frame.y)
        .label_style(("sans-serif", 13))
        .draw()?;
    for s in series {
        let colour = Palette99::pick(s.colour).to_rgba();
        if s.line {
            let points: Vec<_> = s.points.iter().map(|&(x, y, _)| (x, y)).collect();
            chart.draw_series([PathElement::new(points, colour.stroke_width(2))])?;
        }
        let bars = s.points.iter().filter(|(_, _, off)| *off > 0.0);
        chart.draw_series(
            bars.map(|&(x, y, off)| PathElement::new([(x, y - off), (x, y + off)], colour.stroke_width(1))),
        )?;
        let style = if s.hollow { colour.stroke_width(2) } else { colour.filled() };
        chart
            .draw_series(s.points.iter().map(|&(x, y, _)| Circle::new((x, y), 4, style)))?
            .label(&s.label)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}
