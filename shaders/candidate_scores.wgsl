// scores[s, c] = max over k of phi_sk . H[item_sc], intention[s, c] = the first k that gives it
//
// One invocation a candidate. Parameters: kernels::candidate_scores::Params.

struct Params {
    sequences: u32,
    candidates: u32,
    dim: u32,
    intentions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> phi: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(2) var<storage, read> items: array<u32>; // [sequences, candidates]
@group(0) @binding(3) var<storage, read> table: array<f32>; // [items, dim]
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
