//! Sums over rows and slices.

use prismrec::kernels::*;

use crate::case::{Case, Output, sum_of};
use crate::common::Random;

#[test]
fn bias_backward() {
    let mut random = Random::new();
    for (sequences, inputs, dim, intentions) in [
        (1, 1, 1, 1),
        (2, 1, 3, 1),
        (3, 0, 63, 4),
        (5, 3, 64, 1),
        (97, 48, 65, 2),
        (256, 128, 7, 9),
        (300, 299, 130, 1),
        (7, 7, 256, 3),
    ] {
        let columns = intentions * dim;
        for (slices, gap) in [(1, 0), (3, 5), (8, 64)] {
            let size = dim + 2 * columns;
            let stride = size + gap;
            let params = bias_backward::Params {
                sequences: sequences as u32,
                inputs: inputs as u32,
                dim: dim as u32,
                columns: columns as u32,
                input_at: dim as u32,
                label_at: (dim + columns) as u32,
                slices: slices as u32,
                stride: stride as u32,
            };
            Case::new(&bias_backward::KERNEL, params)
                .reals(&random.reals(sequences * dim))
                .reals(&random.reals(sequences * columns))
                .writes(Output::slices(&[("column", size)], slices, stride, sum_of(sequences)))
                .check(&mut random);
        }
    }
}

#[test]
fn prototype_backward() {
    let mut random = Random::new();
    for (tokens, dim, intentions) in
        [(1, 1, 1), (15, 16, 4), (16, 15, 5), (17, 64, 3), (2100, 64, 4), (97, 7, 32), (300, 256, 31), (1000, 68, 8)]
    {
        let params = prototype_backward::Params { tokens, dim, intentions };
        let [tokens, dim, intentions] = [tokens, dim, intentions].map(|n| n as usize);
        Case::new(&prototype_backward::KERNEL, params)
            .reals(&random.reals(tokens * dim))
            .reals(&random.reals(tokens * intentions))
            .writes(Output::new(&[("k", intentions), ("d", dim)], sum_of(tokens)))
            .check(&mut random);
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
