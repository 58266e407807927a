// Eq. 6 of every example b: the denominator exp(m_b + l_b), the sum of its K rows' own; loss_b = sum over its own
// candidates n of m_b + l_b - max over k of scale * phi_bk . candidate_n; marks the best row of each candidate.
//
// One invocation an example. Parameters: kernels::seq2item_loss::Params.

struct Params {
    examples: u32,
    dim: u32,
    intentions: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> phi: array<f32>; // [examples, intentions, dim]
@group(0) @binding(2) var<storage, read> candidate: array<f32>; // [candidates, dim]
@group(0) @binding(3) var<storage, read> offsets: array<u32>; // own candidates, [examples + 1]
@group(0) @binding(4) var<storage, read> normaliser: array<f32>; // [examples, intentions, 2]
@group(0) @binding(5) var<storage, read_write> loss: array<f32>; // [examples]
@group(0) @binding(6) var<storage, read_write> example_normaliser: array<f32>; // m_b and l_b, [examples, intentions, 2]
@group(0) @binding(7) var<storage, read_write> weight: array<f32>; // own candidates, [examples, intentions]
@group(0) @binding(8) var<storage, read_write> positive: array<u32>; // [candidates]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = (group.x + group.y * groups.x) * 64u + lane;
    if b >= params.examples {
        return;
    }
    let first = b * params.intentions;
    let end = first + params.intentions;
    var peak = normaliser[2u * first];
    for (var row = first + 1u; row < end; row++) {
        peak = max(peak, normaliser[2u * row]);
    }
    var sum = 0.0;
    for (var row = first; row < end; row++) {
        sum += exp(normaliser[2u * row] - peak + normaliser[2u * row + 1u]);
    }
    let log_sum = log(sum);
    let own = offsets[b];
    let own_end = offsets[b + 1u];
    var total = 0.0;
    for (var n = own; n < own_end; n++) {
        var best = 0.0;
        var best_row = first;
        for (var row = first; row < end; row++) {
            var product = 0.0;
            for (var d = 0u; d < params.dim; d++) {
                product += phi[row * params.dim + d] * candidate[n * params.dim + d];
            }
            let score = product * params.scale;
            if row == first || score > best {
                best = score;
                best_row = row;
            }
        }
        positive[n] = best_row;
        total += log_sum + (peak - best);
    }
    loss[b] = total;
    for (var row = first; row < end; row++) {
        example_normaliser[2u * row] = peak;
        example_normaliser[2u * row + 1u] = log_sum;
        weight[row] = f32(own_end - own);
    }
}
