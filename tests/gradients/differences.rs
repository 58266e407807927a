//! Central differences of a loss, and what the tests share to make one.

use prismrec::kernels::sum_slices;

/// Half the step of a central difference. Its own error, h^2 times a third derivative, is near 1e-10 for numbers near 1.
pub const STEP: f64 = 1e-5;
/// Ten to a hundred times the errors that `STEP` leaves; a wrong term of a gradient is thousands of times this.
pub const ABSOLUTE: f64 = 2e-8;
/// f32 parameters (1 / sqrt(D), a dropout's scale) are the same on both sides, so this only covers differences' errors.
pub const RELATIVE: f64 = 2e-7;

/// Compares `gradient` with differences of `loss` in every element of `at`.
pub fn check(what: &str, at: &[f64], gradient: &[f64], mut loss: impl FnMut(&[f64]) -> f64) {
    assert_eq!(at.len(), gradient.len(), "{what}");
    let mut moved = at.to_vec();
    let mut failures = Vec::new();
    for i in 0..at.len() {
        moved[i] = at[i] + STEP;
        let above = loss(&moved);
        moved[i] = at[i] - STEP;
        let below = loss(&moved);
        moved[i] = at[i];
        let want = (above - below) / (2.0 * STEP);
        let difference = (gradient[i] - want).abs();
        // The loss is itself rounded, in a few additions, before it is divided by the step.
        let rounding = 4.0 * f64::EPSILON * above.abs() / STEP;
        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is to fail")]
        if !(difference <= ABSOLUTE + rounding + RELATIVE * want.abs()) {
            failures.push(format!("[{i}]: {} by the twin, {want} by differences", gradient[i]));
        }
    }
    failures.truncate(10);
    assert!(failures.is_empty(), "{what}: the gradient differs in\n{}", failures.join("\n"));
    // A few elements may all be dropped or cut off by a ReLU, but not as many as these.
    assert!(at.len() < 60 || gradient.iter().any(|g| *g != 0.0), "{what}: a gradient of zeros tests nothing");
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Moves what a ReLU is given away from its kink, where differences do not give the gradient.
pub fn off_zero(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(|x| x + 0.01f64.copysign(x)).collect()
}

/// Where a gradient is accumulated onto `before`, what it is by itself.
pub fn less(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

/// What poisons outputs, so that an element that is not written makes a difference.
pub fn poison(n: usize) -> Vec<f64> {
    vec![f64::NAN; n]
}

/// The sum of a gradient's slices. Between the copies nothing may be written.
pub fn sum_of_slices(gradient: &[f64], slices: usize, stride: usize, size: usize) -> Vec<f64> {
    for slice in 0..slices - 1 {
        assert!(gradient[slice * stride + size..(slice + 1) * stride].iter().all(|g| g.is_nan()));
    }
    let params = sum_slices::Params { elements: size as u32, slices: slices as u32, stride: stride as u32 };
    let mut sum = poison(size);
    sum_slices::twin(&params, gradient, &mut sum);
    sum
}

/// Copies of a gradient, more than some of the tests have rows, and a gap between them.
pub fn sliced(size: usize) -> (usize, usize, Vec<f64>) {
    let (slices, stride) = (3, size + 5);
    (slices, stride, poison((slices - 1) * stride + size))
}
