//! Line charts, a map of points and stacked strips as SVG, in the page's own colours (style.css) so that they follow its
//! light and dark.

use maud::{Markup, html};

use super::inside::{Map, User};

/// One run's line in a chart.
pub struct Series {
    pub name: String,
    /// Which run's colour.
    pub colour: usize,
    /// Ascending in x.
    pub points: Vec<(f64, f64)>,
    /// The x of the point to mark.
    pub marked: Option<f64>,
    pub dashed: bool,
}

/// A chart's size in its own units, and the room around its plot: left, right, top, bottom.
const SIZE: (f64, f64) = (380.0, 230.0);
const ROOM: (f64, f64, f64, f64) = (52.0, 12.0, 10.0, 34.0);
/// Beyond this many points, a line has no dots.
const DOTTED: usize = 40;

/// Lines over epochs.
pub fn lines(title: &str, series: &[Series]) -> Markup {
    let all = || series.iter().flat_map(|line| &line.points);
    let (low, high) = ends(all().map(|point| point.1));
    let padding = if high > low { 0.06 * (high - low) } else { (0.1 * high.abs()).max(1e-3) };
    let (bottom, top) = (if low >= 0.0 { (low - padding).max(0.0) } else { low - padding }, high + padding);
    let (first, last) = ends(all().map(|point| point.0));
    let (from, to) = if last > first { (first, last) } else { (first - 1.0, first + 1.0) };
    let (left, right, above, below) = ROOM;
    let x = |value: f64| left + (value - from) / (to - from) * (SIZE.0 - left - right);
    let y = |value: f64| SIZE.1 - below - (value - bottom) / (top - bottom) * (SIZE.1 - above - below);
    // Parts of epochs only where there are hardly any whole ones.
    let whole = |value: f64| value.fract() == 0.0 || to - from < 2.0;
    let path = |points: &[(f64, f64)]| {
        let places: Vec<_> = points.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        places.join(" ")
    };
    html! {
        figure {
            figcaption { (title) }
            svg viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } role="img" aria-label=(title) {
                @for value in ticks(bottom, top, 5.0) {
                    line.grid x1=(left) x2=(SIZE.0 - right) y1={ (round(y(value))) } y2={ (round(y(value))) } {}
                    text.tick text-anchor="end" x=(left - 6.0) y=(round(y(value) + 4.0)) { (number(value)) }
                }
                @for value in ticks(from, to, 8.0).into_iter().filter(|value| whole(*value) && *value >= 0.0) {
                    text.tick text-anchor="middle" x=(round(x(value))) y=(SIZE.1 - below + 16.0) { (number(value)) }
                }
                text.tick text-anchor="middle" x=((left + SIZE.0 - right) / 2.0) y=(SIZE.1 - 3.0) { "epoch" }
                @for line in series {
                    g class={ "r" (line.colour) } {
                        polyline.line.dashed[line.dashed] points=(path(&line.points)) {}
                        @for &(at, value) in &line.points {
                            @let marked = line.marked == Some(at);
                            @if marked || line.points.len() <= DOTTED {
                                circle.dot.best[marked] cx=(round(x(at))) cy=(round(y(value))) r=(if marked { 5.0 } else { 2.2 }) {
                                    title {
                                        (line.name) ", epoch " (number(at)) ": " (number(value))
                                        @if marked { " (best in validation)" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Items as points in the colours of their intentions.
pub fn map(map: &Map) -> Markup {
    const SIDE: f64 = 400.0;
    const ROOM: f64 = 10.0;
    let axis = |axis: usize| ends(map.items.iter().map(|item| item.at[axis]));
    let ((left, right), (bottom, top)) = (axis(0), axis(1));
    // One scale for both axes: distances are what is seen.
    let scale = (SIDE - 2.0 * ROOM) / (right - left).max(top - bottom).max(f64::MIN_POSITIVE);
    let middle = ((left + right) / 2.0, (bottom + top) / 2.0);
    let height = ((top - bottom) * scale + 2.0 * ROOM).max(SIDE / 3.0);
    html! {
        svg.map viewBox={ "0 0 " (SIDE) " " (round(height)) } role="img" aria-label="Items in the plane, coloured by intention" {
            @for item in &map.items {
                circle class={ "item i" (item.intention) }
                    cx=(round(SIDE / 2.0 + (item.at[0] - middle.0) * scale))
                    cy=(round(height / 2.0 - (item.at[1] - middle.1) * scale)) r="2.4" {
                    title { (item.name) " · intention " (item.intention + 1) ", " (percent(item.share)) }
                }
            }
        }
    }
}

/// A user's tokens, oldest first: a column each, divided as their intentions are.
pub fn strip(user: &User) -> Markup {
    const WIDTH: f64 = 20.0;
    const HEIGHT: f64 = 90.0;
    html! {
        svg.strip viewBox={ "0 0 " (WIDTH * user.tokens.len() as f64) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label={ "Intentions of " (user.name) } {
            @for (place, token) in user.tokens.iter().enumerate() {
                g {
                    title { (token.name) " · intention " (token.intention() + 1) ", " (percent(token.shares[token.intention()])) }
                    @for (k, from, share) in stacked(&token.shares) {
                        rect class={ "i" (k) } x=(WIDTH * place as f64 + 0.75) width=(WIDTH - 1.5)
                            y=(round(HEIGHT * from)) height=(round(HEIGHT * share)) {}
                    }
                }
            }
        }
    }
}

/// Shares one on the other: (k, the sum of those before, the share).
fn stacked(shares: &[f32]) -> Vec<(usize, f64, f64)> {
    let mut from = 0.0;
    let place = |(k, &share): (usize, &f32)| {
        let below = from;
        from += f64::from(share);
        (k, below, f64::from(share))
    };
    shares.iter().enumerate().map(place).collect()
}

/// The least and the greatest; 0 and 0 of nothing.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// About `wanted` multiples of 1, 2 or 5 times a power of ten, between the two.
fn ticks(from: f64, to: f64, wanted: f64) -> Vec<f64> {
    let rough = (to - from) / wanted;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power);
    let (first, last) = ((from / step).ceil() as i64, (to / step).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// A number as short as four digits allow.
pub fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// To a tenth: more would only make the page longer.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

pub fn percent(share: impl Into<f64>) -> String {
    format!("{:.0} %", 100.0 * share.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::inside::Token;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        assert_eq!(ticks(0.0, 1.0, 5.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(1.0, 9.0, 6.0), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(-3.0, 12.0, 3.0), [0.0, 5.0, 10.0]);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.25, 6.0214, 12345.6, 0.000_123_4, -1.5].map(number);
        assert_eq!(texts, ["0", "0.25", "6.021", "12346", "0.000123", "-1.5"]);
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let series = Series {
            name: "run".into(),
            colour: 0,
            points: vec![(1.0, 0.0), (3.0, 100.0)],
            marked: Some(3.0),
            dashed: false,
        };
        let svg = lines("loss", &[series]).into_string();
        // 52 and 380 - 12 across; 0 at the bottom, 100 of 106 below the top.
        assert!(svg.contains(r#"points="52.0,196.0 368.0,20.5""#), "{svg}");
        assert_eq!(svg.matches(r#"class="dot best""#).count(), 1, "{svg}");
    }

    #[test]
    fn the_parts_of_a_column_lie_one_on_the_other() {
        let token = Token { name: "a".into(), shares: vec![0.5, 0.125, 0.375] };
        assert_eq!(stacked(&token.shares), [(0, 0.0, 0.5), (1, 0.5, 0.125), (2, 0.625, 0.375)]);
        let svg = strip(&User { name: "u".into(), before: 0, tokens: vec![token] }).into_string();
        assert!(svg.contains(r#"class="i2" x="0.75" width="18.5" y="56.3" height="33.8""#), "{svg}");
    }
}
