// dcandidate_n = scale * sum over r of (weight_r exp(score_rn - m_r - l_r) - [r = positive_n]) query_r
//
// Group (n, c) makes columns 64 c .. + 63 of the gradient of 32 candidates, from 32 rows at a time. Scores are made
// from slabs of 16 dimensions in group memory, invocation (i, j) of 8 x 8 has rows 4 i .. + 3 and candidates 4 j .. + 3;
// the shares go to group memory, and invocation n adds its candidates 8 (n / 16) .. + 7, columns 4 (n % 16) .. + 3.
// Parameters: kernels::contrastive_candidate_backward::Params.

struct Params {
    rows: u32,
    candidates: u32,
    first_candidate: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>; // [rows, dim]
@group(0) @binding(2) var<storage, read> candidate: array<f32>; // row first_candidate + n is n: [.., dim]
@group(0) @binding(3) var<storage, read> normaliser: array<f32>; // m and l of each row, [rows, 2]
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [rows]
@group(0) @binding(5) var<storage, read> positive: array<u32>; // row, or 0xffffffff: [candidates]
@group(0) @binding(6) var<storage, read_write> dcandidate: array<f32>; // row first_candidate + n is n: [.., dim]

const TILE = 32u;
const SLAB = 16u;

var<workgroup> left: array<f32, 512>; // queries: [slab dimension, row]
var<workgroup> right: array<f32, 512>; // candidates: [slab dimension, candidate]
var<workgroup> shares: array<f32, 1024>; // [row, candidate]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let start = group.x * TILE;
    let i = invocation / 8u;
    let j = invocation % 8u;
    let out_row = 8u * (invocation / 16u);
    let out_column = group.y * 64u + 4u * (invocation % 16u);
    var sums: array<vec4<f32>, 8>; // [row], columns in the vector
    for (var r = 0u; r < 8u; r++) {
        sums[r] = vec4<f32>(0.0);
    }
    for (var first = 0u; first < params.rows; first += TILE) {
        var scores: array<vec4<f32>, 4>; // [candidate 4 j + c], rows in the vector
        for (var c = 0u; c < 4u; c++) {
            scores[c] = vec4<f32>(0.0);
        }
        for (var slab = 0u; slab < params.dim; slab += SLAB) {
            workgroupBarrier();
            for (var part = 0u; part < 8u; part++) {
                let e = invocation + 64u * part;
                let row = e / SLAB;
                let d = slab + e % SLAB;
                var q = 0.0;
                var n = 0.0;
                if d < params.dim {
                    if first + row < params.rows {
                        q = query[(first + row) * params.dim + d];
                    }
                    if start + row < params.candidates {
                        n = candidate[(params.first_candidate + start + row) * params.dim + d];
                    }
                }
                left[e % SLAB * TILE + row] = q;
                right[e % SLAB * TILE + row] = n;
            }
            workgroupBarrier();
            for (var d = 0u; d < SLAB; d++) {
                let at = d * TILE + 4u * i;
                let q = vec4<f32>(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
                for (var c = 0u; c < 4u; c++) {
                    scores[c] += q * right[d * TILE + 4u * j + c];
                }
            }
        }
        for (var c = 0u; c < 4u; c++) {
            let n = start + 4u * j + c;
            for (var r = 0u; r < 4u; r++) {
                let row = first + 4u * i + r;
                var share = 0.0;
                if n < params.candidates && row < params.rows {
                    share = weight[row] * exp(scores[c][r] * params.scale - normaliser[2u * row] - normaliser[2u * row + 1u]);
                    if positive[n] == row {
                        share -= 1.0;
                    }
                }
                shares[(4u * i + r) * TILE + 4u * j + c] = share;
            }
        }
        workgroupBarrier();
        let others = min(TILE, params.rows - first);
        for (var n = 0u; n < others; n++) {
            let at = (first + n) * params.dim + out_column;
            var value = vec4<f32>(0.0);
            for (var c = 0u; c < 4u; c++) {
                if out_column + c < params.dim {
                    value[c] = query[at + c];
                }
            }
            for (var r = 0u; r < 8u; r++) {
                sums[r] += shares[n * TILE + out_row + r] * value;
            }
        }
    }
    for (var r = 0u; r < 8u; r++) {
        for (var c = 0u; c < 4u; c++) {
            if start + out_row + r < params.candidates && out_column + c < params.dim {
                let element = (params.first_candidate + start + out_row + r) * params.dim + out_column + c;
                dcandidate[element] = sums[r][c] * params.scale;
            }
        }
    }
}
