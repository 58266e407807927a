// scores[s, c] = max over k of phi_sk . H[item_sc], intention[s, c] = the first k that gives it
//
// main: one invocation a candidate. serial: one invocation 8 candidates of a sequence, 4 intentions at a time.
// Parameters: kernels::candidate_scores::Params.

struct Params {
    sequences: u32,
    candidates: u32,
    dim: u32,
    intentions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> phi: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(1) var<storage, read> phi4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> items: array<u32>; // [sequences, candidates]
@group(0) @binding(3) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(3) var<storage, read> table4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [sequences, candidates]
@group(0) @binding(5) var<storage, read_write> intention: array<u32>; // [sequences, candidates]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.sequences * params.candidates {
        return;
    }
    let sequence = at / params.candidates;
    var best = 0.0;
    var best_k = 0u;
    for (var k = 0u; k < params.intentions; k++) {
        let first = (sequence * params.intentions + k) * params.dim;
        var score = 0.0;
        for (var d = 0u; d < params.dim; d++) {
            score += phi[first + d] * table[items[at] * params.dim + d];
        }
        if k == 0u || score > best {
            best = score;
            best_k = k;
        }
    }
    scores[at] = best;
    intention[at] = best_k;
}

const CANDIDATES = 8u; // of an invocation
const INTENTIONS = 4u; // of a block of scores

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (params.candidates + CANDIDATES - 1u) / CANDIDATES;
    let block = (group.x + group.y * groups.x) * 8u + lane;
    let sequence = block / blocks;
    if sequence >= params.sequences {
        return;
    }
    let first = block % blocks * CANDIDATES;
    let width = params.dim / 4u;
    var item: array<u32, 8>;
    var best: array<f32, 8>;
    var best_k: array<u32, 8>;
    for (var c = 0u; c < CANDIDATES; c++) {
        item[c] = items[sequence * params.candidates + min(first + c, params.candidates - 1u)];
        best_k[c] = 0u;
    }
    for (var start = 0u; start < params.intentions; start += INTENTIONS) {
        var sums: array<array<f32, 8>, 4>;
        for (var k = 0u; k < INTENTIONS; k++) {
            for (var c = 0u; c < CANDIDATES; c++) {
                sums[k][c] = 0.0;
            }
        }
        for (var d = 0u; d < width; d++) {
            var query: array<vec4<f32>, 4>;
            for (var k = 0u; k < INTENTIONS; k++) {
                // The last one again where there are no more.
                let row = sequence * params.intentions + min(start + k, params.intentions - 1u);
                query[k] = phi4[row * width + d];
            }
            for (var c = 0u; c < CANDIDATES; c++) {
                let h = table4[item[c] * width + d];
                for (var k = 0u; k < INTENTIONS; k++) {
                    sums[k][c] += dot(query[k], h);
                }
            }
        }
        for (var k = 0u; k < INTENTIONS; k++) {
            for (var c = 0u; c < CANDIDATES; c++) {
                if start + k == 0u || sums[k][c] > best[c] {
                    best[c] = sums[k][c];
                    best_k[c] = start + k;
                }
            }
        }
    }
    for (var c = 0u; c < CANDIDATES; c++) {
        if first + c < params.candidates {
            scores[sequence * params.candidates + first + c] = best[c];
            intention[sequence * params.candidates + first + c] = best_k[c];
        }
    }
}
