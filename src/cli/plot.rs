//! A data set's distributions, as bars of text and as a picture.

use plotters::prelude::*;

use super::show::thousands;
use crate::data::statistics::{Distribution, Statistics};
use crate::error::{Error, Result};

/// The longest bar.
const WIDTH: f64 = 40.0;

/// What a person wants to know, as lines.
pub(super) fn statistics(of: &Statistics) -> Vec<String> {
    let Statistics { density, repeated, short_users, lengths, popularity, most_popular, gini, times, .. } = of;
    let percent = |share: f64| format!("{:.2}%", 100.0 * share);
    let mut lines = vec![format!(
        "{} of all pairs met; {} of the interactions repeat an item; {} users with fewer than 3 interactions",
        percent(*density),
        percent(*repeated),
        thousands(*short_users)
    )];
    if let Some([first, last]) = times {
        lines.push(format!("times from {first} to {last}"));
    }
    lines.push("interactions of a user:".into());
    lines.extend(distribution(lengths));
    lines.push("interactions of an item:".into());
    lines.extend(distribution(popularity));
    lines.push(format!(
        "the most popular 1% of the items have {} of all interactions, 10% have {}; Gini {gini:.3}",
        percent(most_popular[0]),
        percent(most_popular[1])
    ));
    lines
}

fn distribution(of: &Distribution) -> Vec<String> {
    let Distribution { mean, quartiles: [least, low, median, high, most], high: [ninety, last], histogram } = of;
    let mut lines = vec![format!(
        "  mean {mean:.1}, least {least}, quartiles {low} {median} {high}, 90% {ninety}, 99% {last}, most {}",
        thousands(*most)
    )];
    let largest = histogram.iter().map(|&(_, n)| n).max().unwrap_or(1) as f64;
    let ends = histogram.iter().skip(1).map(|&(from, _)| from - 1).chain([*most]);
    for (&(from, n), to) in histogram.iter().zip(ends) {
        let range = if from == to { thousands(from) } else { format!("{}-{}", thousands(from), thousands(to)) };
        lines.push(format!("  {range:>15} {:>10} {}", thousands(n), bar(n as f64 / largest)));
    }
    lines
}

/// A bar of this share of the whole width, in eighths of a character.
pub(super) fn bar(share: f64) -> String {
    let eighths = (share * WIDTH * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

/// Both distributions side by side, as SVG.
///
/// # Errors
/// Where they cannot be drawn.
pub(super) fn svg(name: &str, of: &Statistics) -> Result<String> {
    let mut picture = String::new();
    draw(&mut picture, name, of).map_err(|e| Error::Data(format!("the distributions cannot be drawn: {e}")))?;
    Ok(picture)
}

fn draw(picture: &mut String, name: &str, of: &Statistics) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(picture, (960, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let counts = of.counts;
    let title = format!(
        "{name}: {} users, {} items, {} interactions",
        thousands(counts.users),
        thousands(counts.items),
        thousands(counts.interactions)
    );
    let root = root.titled(&title, ("sans-serif", 18))?;
    let (left, right) = root.split_horizontally(480);
    for (area, distribution, what, unit) in [
        (left, &of.lengths, "users", "interactions of a user"),
        (right, &of.popularity, "items", "interactions of an item"),
    ] {
        let last = distribution.quartiles[4] + 1;
        let most = distribution.histogram.iter().map(|&(_, n)| n).max().unwrap_or(1);
        let first = distribution.histogram[0].0;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((first as f64..last as f64).log_scale(), 0.0..1.05 * most as f64)?;
        chart.configure_mesh().x_desc(unit).y_desc(what).disable_x_mesh().draw()?;
        let ends = distribution.histogram.iter().skip(1).map(|&(from, _)| from).chain([last]);
        chart.draw_series(distribution.histogram.iter().zip(ends).map(|(&(from, n), to)| {
            Rectangle::new([(from as f64, 0.0), (to as f64, n as f64)], BLUE.mix(0.6).filled())
        }))?;
    }
    root.present()?;
    Ok(())
}
