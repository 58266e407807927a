// normaliser of row r = (m, l): the sum over the candidates n of a loss of exp(scale * query_r . candidate_n) is
// exp(m + l), with the largest score m; the denominators of eq. 6 (candidates are the targets) and of eq. 3 (the labels)
//
// main: a workgroup holds 32 query rows and walks the candidates of one loss 32 at a time. Scores are made from slabs of
// 16 dimensions in group memory: invocation (i, j) of 8 x 8 has rows 4 i .. + 3 and candidates 4 j .. + 3 of a tile, keeps
// the running maximum and sum of its own scores, and at the end the eight invocations of a row combine theirs.
// serial: an invocation has 16 query rows and walks the candidates of one loss 32 at a time.
// Parameters: kernels::contrastive::Params.

struct Params {
    rows: u32,
    targets: u32,
    labels: u32,
    first_query: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// targets; from row first_query on queries, then labels: [.., dim]
@group(0) @binding(1) var<storage, read> vector: array<f32>;
@group(0) @binding(1) var<storage, read> vector4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> normaliser: array<f32>; // of eq. 6, then of eq. 3: [2, rows, 2]

const TILE = 32u;
const SLAB = 16u;
const LOWEST = -3.4028234e38;

var<workgroup> left: array<vec4<f32>, 128>; // queries: [slab dimension, row / 4]
var<workgroup> right: array<vec4<f32>, 128>; // candidates: [slab dimension, candidate / 4]
var<workgroup> peaks: array<f32, 256>; // [row, j]
var<workgroup> totals: array<f32, 256>; // [row, j]

// Elements d of rows at .. + 3 of `vector`, zeros from row `end` on.
fn column(at: u32, end: u32, d: u32) -> vec4<f32> {
    var values = vec4<f32>(0.0);
    for (var row = 0u; row < 4u; row++) {
        if at + row < end && d < params.dim {
            values[row] = vector[(at + row) * params.dim + d];
        }
    }
    return values;
}

fn losses() -> u32 {
    return select(1u, 2u, params.labels > 0u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let block = group.x + group.y * groups.x;
    let loss = block % losses();
    let first = block / losses() * TILE;
    let candidates = select(params.targets, params.labels, loss > 0u);
    let first_candidate = select(0u, params.first_query + params.rows, loss > 0u);
    let i = invocation / 8u;
    let j = invocation % 8u;
    var peak = vec4<f32>(LOWEST); // of rows 4 i .. + 3
    var total = vec4<f32>(0.0);
    for (var start = 0u; start < candidates; start += TILE) {
        var scores: array<vec4<f32>, 4>; // [candidate 4 j + c], rows in the vector
        for (var c = 0u; c < 4u; c++) {
            scores[c] = vec4<f32>(0.0);
        }
        for (var slab = 0u; slab < params.dim; slab += SLAB) {
            workgroupBarrier();
            for (var part = 0u; part < 2u; part++) {
                let d = invocation % SLAB;
                let four = invocation / SLAB + 4u * part;
                left[d * 8u + four] =
                    column(params.first_query + first + 4u * four, params.first_query + params.rows, slab + d);
                right[d * 8u + four] =
                    column(first_candidate + start + 4u * four, first_candidate + candidates, slab + d);
            }
            workgroupBarrier();
            for (var d = 0u; d < SLAB; d++) {
                let q = left[d * 8u + i];
                let n = right[d * 8u + j];
                for (var c = 0u; c < 4u; c++) {
                    scores[c] += q * n[c];
                }
            }
        }
        for (var c = 0u; c < 4u; c++) {
            if start + 4u * j + c < candidates {
                let score = scores[c] * params.scale;
                let higher = max(peak, score);
                total = total * exp(peak - higher) + exp(score - higher);
                peak = higher;
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        peaks[(4u * i + r) * 8u + j] = peak[r];
        totals[(4u * i + r) * 8u + j] = total[r];
    }
    workgroupBarrier();
    if invocation < TILE && first + invocation < params.rows {
        var highest = LOWEST;
        for (var lane = 0u; lane < 8u; lane++) {
            highest = max(highest, peaks[invocation * 8u + lane]);
        }
        var sum = 0.0;
        for (var lane = 0u; lane < 8u; lane++) {
            sum += totals[invocation * 8u + lane] * exp(peaks[invocation * 8u + lane] - highest);
        }
        let row = loss * params.rows + first + invocation;
        normaliser[2u * row] = highest;
        normaliser[2u * row + 1u] = log(sum);
    }
}


const ROWS = 16u; // of an invocation
const CANDIDATES = 32u; // of a block of scores

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.x + group.y * groups.x;
    let loss = block % losses(); // losses take turns, as threads are dealt neighbours
    let first = (block / losses() * 8u + lane) * ROWS;
    if first >= params.rows {
        return;
    }
    let candidates = select(params.targets, params.labels, loss > 0u);
    let first_candidate = select(0u, params.first_query + params.rows, loss > 0u);
    let width = params.dim / 4u;
    var peak: array<f32, 16>;
    var total: array<f32, 16>;
    for (var r = 0u; r < ROWS; r++) {
        peak[r] = LOWEST;
        total[r] = 0.0;
    }
    for (var start = 0u; start < candidates; start += CANDIDATES) {
        var scores: array<array<f32, 32>, 16>;
        for (var r = 0u; r < ROWS; r++) {
            for (var c = 0u; c < CANDIDATES; c++) {
                scores[r][c] = 0.0;
            }
        }
        for (var d = 0u; d < width; d++) {
            var query: array<vec4<f32>, 16>;
            for (var r = 0u; r < ROWS; r++) {
                query[r] = vector4[(params.first_query + min(first + r, params.rows - 1u)) * width + d];
            }
            for (var c = 0u; c < CANDIDATES; c++) {
                let candidate = vector4[(first_candidate + min(start + c, candidates - 1u)) * width + d];
                for (var r = 0u; r < ROWS; r++) {
                    scores[r][c] += dot(query[r], candidate);
                }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            var higher = peak[r];
            for (var c = 0u; c < CANDIDATES; c++) {
                scores[r][c] = select(LOWEST, scores[r][c] * params.scale, start + c < candidates);
                higher = max(higher, scores[r][c]);
            }
            var sum = total[r] * exp(peak[r] - higher);
            for (var c = 0u; c < CANDIDATES; c++) {
                sum += exp(scores[r][c] - higher);
            }
            peak[r] = higher;
            total[r] = sum;
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if first + r < params.rows {
            let row = loss * params.rows + first + r;
            normaliser[2u * row] = peak[r];
            normaliser[2u * row + 1u] = log(total[r]);
        }
    }
}
