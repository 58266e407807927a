// normaliser[r] = (m, l): the sum over candidates n of exp(scale * query_r . candidate_n) is exp(m + l), with the
// largest score m; the denominators of eq. 3 and 6
//
// A workgroup holds 32 query rows and walks the candidates 32 at a time. Scores are made from slabs of 16 dimensions in
// group memory: invocation (i, j) of 8 x 8 has rows 4 i .. + 3 and candidates 4 j .. + 3 of a tile, keeps the running
// maximum and sum of its own scores, and at the end the eight invocations of a row combine theirs.
// Parameters: kernels::contrastive::Params.

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
@group(0) @binding(3) var<storage, read_write> normaliser: array<f32>; // [rows, 2]

const TILE = 32u;
const SLAB = 16u;
const LOWEST = -3.4028234e38;

var<workgroup> left: array<f32, 512>; // queries: [slab dimension, row]
var<workgroup> right: array<f32, 512>; // candidates: [slab dimension, candidate]
var<workgroup> peaks: array<f32, 256>; // [row, j]
var<workgroup> totals: array<f32, 256>; // [row, j]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let first = (group.x + group.y * groups.x) * TILE;
    let i = invocation / 8u;
    let j = invocation % 8u;
    var peak = vec4<f32>(LOWEST); // of rows 4 i .. + 3
    var total = vec4<f32>(0.0);
    for (var start = 0u; start < params.candidates; start += TILE) {
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
            if start + 4u * j + c < params.candidates {
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
        normaliser[2u * (first + invocation)] = highest;
        normaliser[2u * (first + invocation) + 1u] = log(sum);
    }
}
