//! Sums over rows and slices.

use prismrec::kernels::*;

use crate::case::{Case, Output, sum_of};
use crate::common::Random;

#[test]
fn column_sum() {
    let mut random = Random::new();
    for (rows, columns) in [(1, 1), (3, 3), (4, 63), (5, 64), (97, 65), (256, 7), (300, 130), (7, 256)] {
        for (slices, gap, first) in [(1, 0, 0), (3, 5, 2), (8, 64, rows)] {
            let stride = columns + gap;
            let params = column_sum::Params {
                first: first as u32,
                rows: rows as u32,
                columns: columns as u32,
                slices: slices as u32,
                stride: stride as u32,
            };
            Case::new(&column_sum::KERNEL, params)
                .reals(&random.reals((first + rows) * columns))
                .writes(Output::slices(&[("column", columns)], slices, stride, sum_of(rows)))
                .check(&mut random);
        }
    }
}

#[test]
fn sum_slices() {
    let mut random = Random::new();
    for elements in [1, 255, 256, 257, 70_001] {
        for (slices, gap) in [(1, 0), (3, 5), (8, 64)] {
            let stride = elements + gap;
            let params = sum_slices::Params { elements: elements as u32, slices: slices as u32, stride: stride as u32 };
            Case::new(&sum_slices::KERNEL, params)
                .reals(&random.reals((slices - 1) * stride + elements))
                .writes(Output::new(&[("element", elements)], sum_of(slices)))
                .check(&mut random);
        }
    }
}
