//! Points of many dimensions drawn in two: principal components by power iteration.

/// Points in the plane of their first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    pub points: Vec<[f64; 2]>,
    /// The share of the variance along each of the two, 0 to 1.
    pub kept: [f64; 2],
}

/// Iterations at most; components whose variances are so close that these do not part them span the same plane anyway.
const ITERATIONS: usize = 500;

/// Projects `rows`, `[points, dim]`, on the two directions in which they vary most.
///
/// # Panics
/// Where `rows` is not a multiple of `dim` long, or `dim` is 0.
pub fn plane(rows: &[f32], dim: usize) -> Plane {
    assert!(dim > 0 && rows.len().is_multiple_of(dim), "{} elements are no rows of {dim}", rows.len());
    let n = rows.len() / dim;
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / n as f64);
    }
    let centred: Vec<Vec<f64>> = rows
        .chunks_exact(dim)
        .map(|row| row.iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean).collect())
        .collect();
    let mut covariance = vec![0.0; dim * dim];
    for row in &centred {
        for (out, &a) in covariance.chunks_exact_mut(dim).zip(row) {
            out.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b / n as f64);
        }
    }
    let total: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
    let mut points = vec![[0.0; 2]; n];
    let mut kept = [0.0; 2];
    for (axis, kept) in kept.iter_mut().enumerate() {
        let (variance, direction) = leading(&covariance, dim);
        *kept = if total > 0.0 { (variance / total).clamp(0.0, 1.0) } else { 0.0 };
        for (point, row) in points.iter_mut().zip(&centred) {
            point[axis] = dot(row, &direction);
        }
        // What is left is orthogonal to it.
        for (out, &a) in covariance.chunks_exact_mut(dim).zip(&direction) {
            out.iter_mut().zip(&direction).for_each(|(element, b)| *element -= variance * a * b);
        }
    }
    Plane { points, kept }
}

/// The largest eigenvalue of a symmetric matrix without negative ones, and its vector, whose largest element is positive.
fn leading(matrix: &[f64], dim: usize) -> (f64, Vec<f64>) {
    // The matrix' longest column is never orthogonal to the leading vector of what it is made of.
    let longest = matrix.chunks_exact(dim).max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)));
    let mut vector = longest.map_or(vec![0.0; dim], <[f64]>::to_vec);
    let mut value = 0.0;
    for _ in 0..ITERATIONS {
        let length = dot(&vector, &vector).sqrt();
        if length <= f64::MIN_POSITIVE {
            return (0.0, vec![0.0; dim]);
        }
        vector.iter_mut().for_each(|x| *x /= length);
        let next: Vec<f64> = matrix.chunks_exact(dim).map(|row| dot(row, &vector)).collect();
        let found = dot(&next, &vector);
        let settled = (found - value).abs() <= 1e-12 * found.abs();
        value = found;
        if settled {
            break;
        }
        vector = next;
    }
    let length = dot(&vector, &vector).sqrt();
    let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    vector.iter_mut().for_each(|x| *x *= largest.signum() / length);
    (value, vector)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a grid of known spread along (3, 4, 0) / 5 and (-4, 3, 0) / 5, with a little in the third direction.
    #[test]
    fn finds_the_directions_of_most_variance() {
        let mut rows = Vec::new();
        for (a, b, c) in (-3..=3).flat_map(|a| (-2..=2).flat_map(move |b| [-1, 1].map(|c| (a, b, c)))) {
            let (a, b, c) = (2.0 * a as f32, b as f32, 0.1 * c as f32);
            rows.extend([0.6 * a - 0.8 * b + 7.0, 0.8 * a + 0.6 * b - 1.0, c]);
        }
        let Plane { points, kept } = plane(&rows, 3);
        // Variances: 4 * 4, 2, 0.01.
        for (found, expected) in kept.iter().zip([16.0 / 18.01, 2.0 / 18.01]) {
            assert!((found - expected).abs() < 1e-6, "{kept:?}");
        }
        // The first point is a = -6, b = -2, where directions are counted with their largest element positive.
        assert!((points[0][0] + 6.0).abs() < 1e-4, "{:?}", points[0]);
        assert!((points[0][1].abs() - 2.0).abs() < 1e-4, "{:?}", points[0]);
    }

    #[test]
    fn points_that_are_all_the_same_lie_in_the_middle() {
        let Plane { points, kept } = plane(&[1.5; 12], 4);
        assert_eq!(points, [[0.0; 2]; 3]);
        assert_eq!(kept, [0.0; 2]);
        assert_eq!(plane(&[], 4).points.len(), 0);
        let line = plane(&[1.0, 2.0, 4.0], 1);
        assert!((line.kept[0] - 1.0).abs() < 1e-9 && line.kept[1].abs() < 1e-9, "{line:?}");
    }
}
