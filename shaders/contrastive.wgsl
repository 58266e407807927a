// normaliser of row r = (m, l): the sum over the candidates n of a loss of exp(scale * query_r . candidate_n) is
// exp(m + l), with the largest score m; the denominators of eq. 6 (candidates are the targets) and of eq. 3 (the labels).
// With `accumulate`, candidates join those that a row's normaliser has already.
//
// main: a workgroup holds 32 query rows and walks the candidates of one loss 32 at a time. Scores are made from slabs of
// 16 dimensions in group memory, where those of queries stay if there are no more than four: invocation (i, j) of 8 x 8 has
// rows 4 i .. + 3 and candidates 4 j .. + 3 of a tile, keeps the running maximum and sum of its own scores, and at the end
// the eight invocations of a row combine theirs.
// serial: an invocation has 8 query rows and walks the targets 32 at a time; there are no labels.
// Parameters: kernels::contrastive::Params.

struct Params {
    rows: u32,
    targets: u32,
    labels: u32,
    dim: u32,
    scale: f32,
    first: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> candidate: array<f32>; // targets: [targets, dim]
@group(0) @binding(2) var<storage, read> query: array<f32>; // queries, then labels: [rows + labels, dim]
@group(0) @binding(3) var<storage, read_write> normaliser: array<f32>; // of eq. 6, then of eq. 3: [2, rows, 2] from `first` on
@group(0) @binding(1) var<storage, read> candidate4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> query4: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> candidate_uniform: array<vec4<f32>, 4096>; // the first of `candidate`
@group(0) @binding(5) var<uniform> query_uniform: array<vec4<f32>, 4096>; // the first of `query`

override candidate_from_uniform: bool = false; // whether all candidates are there
override query_from_uniform: bool = false; // whether all queries are

const TILE = 32u;
const SLAB = 16u;
const HELD = 64u; // dimensions of the own rows that stay in group memory
const LOWEST = -3.4028234e38;

var<workgroup> left: array<vec4<f32>, 512>; // queries: [dimension % HELD, row / 4]
var<workgroup> right: array<vec4<f32>, 128>; // candidates: [slab dimension, candidate / 4]
var<workgroup> peaks: array<f32, 256>; // [row, j]
var<workgroup> totals: array<f32, 256>; // [row, j]

// Elements d of queries (or labels) at .. + 3, zeros from row `end` on.
fn query_column(at: u32, end: u32, d: u32) -> vec4<f32> {
    var values = vec4<f32>(0.0);
    for (var row = 0u; row < 4u; row++) {
        if at + row < end && d < params.dim {
            values[row] = query[(at + row) * params.dim + d];
        }
    }
    return values;
}

// The same of targets.
fn candidate_column(at: u32, d: u32) -> vec4<f32> {
    var values = vec4<f32>(0.0);
    for (var row = 0u; row < 4u; row++) {
        if at + row < params.targets && d < params.dim {
            values[row] = candidate[(at + row) * params.dim + d];
        }
    }
    return values;
}

// The largest score, and the sum of exp(score - largest), of the candidates that a row has met already.
fn normaliser_before(at: u32) -> vec2<f32> {
    if params.accumulate == 1u {
        return vec2<f32>(normaliser[at], exp(normaliser[at + 1u]));
    }
    return vec2<f32>(LOWEST, 0.0);
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
                if start == 0u || params.dim > HELD {
                    left[(slab % HELD + d) * 8u + four] = query_column(first + 4u * four, params.rows, slab + d);
                }
                let n = start + 4u * four;
                if loss == 0u {
                    right[d * 8u + four] = candidate_column(n, slab + d);
                } else {
                    right[d * 8u + four] = query_column(params.rows + n, params.rows + candidates, slab + d);
                }
            }
            workgroupBarrier();
            for (var d = 0u; d < SLAB; d++) {
                let q = left[(slab % HELD + d) * 8u + i];
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
        let at = 2u * (params.first + loss * params.rows + first + invocation);
        let before = normaliser_before(at);
        highest = max(highest, before.x);
        var sum = before.y * exp(before.x - highest);
        for (var lane = 0u; lane < 8u; lane++) {
            sum += totals[invocation * 8u + lane] * exp(peaks[invocation * 8u + lane] - highest);
        }
        normaliser[at] = highest;
        normaliser[at + 1u] = log(sum);
    }
}

fn candidate_vector(at: u32) -> vec4<f32> {
    if candidate_from_uniform {
        return candidate_uniform[at];
    }
    return candidate4[at];
}

fn query_vector(at: u32) -> vec4<f32> {
    if query_from_uniform {
        return query_uniform[at];
    }
    return query4[at];
}

const ROWS = 8u; // of an invocation
const CANDIDATES = 32u; // of a block of scores

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = ((group.x + group.y * groups.x) * 8u + lane) * ROWS;
    if first >= params.rows {
        return;
    }
    let width = params.dim / 4u;
    var peak: array<f32, 8>;
    var total: array<f32, 8>;
    for (var r = 0u; r < ROWS; r++) {
        let before = normaliser_before(2u * (params.first + min(first + r, params.rows - 1u)));
        peak[r] = before.x;
        total[r] = before.y;
    }
    for (var start = 0u; start < params.targets; start += CANDIDATES) {
        var scores: array<array<f32, 32>, 8>;
        for (var r = 0u; r < ROWS; r++) {
            for (var c = 0u; c < CANDIDATES; c++) {
                scores[r][c] = 0.0;
            }
        }
        for (var d = 0u; d < width; d++) {
            var own: array<vec4<f32>, 8>;
            for (var r = 0u; r < ROWS; r++) {
                own[r] = query_vector(min(first + r, params.rows - 1u) * width + d);
            }
            for (var c = 0u; c < CANDIDATES; c++) {
                let other = candidate_vector(min(start + c, params.targets - 1u) * width + d);
                for (var r = 0u; r < ROWS; r++) {
                    scores[r][c] += dot(own[r], other);
                }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            var higher = peak[r];
            for (var c = 0u; c < CANDIDATES; c++) {
                scores[r][c] = select(LOWEST, scores[r][c] * params.scale, start + c < params.targets);
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
            let at = 2u * (params.first + first + r);
            normaliser[at] = peak[r];
            normaliser[at + 1u] = log(total[r]);
        }
    }
}
