// cluster[t, k] = softmax over k of scale * (token_t . prototype_k) (eq. 8; both are normalised before)
//
// One invocation a token. Parameters: kernels::prototype_softmax::Params.

struct Params {
    tokens: u32,
    dim: u32,
    intentions: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> token: array<f32>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> prototype: array<f32>; // [intentions, dim]
@group(0) @binding(3) var<storage, read_write> cluster: array<f32>; // [tokens, intentions]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = (group.x + group.y * groups.x) * 64u + lane;
    if t >= params.tokens {
        return;
    }
    let first = t * params.intentions;
    var peak = -3.4028234e38;
    for (var k = 0u; k < params.intentions; k++) {
        var product = 0.0;
        for (var d = 0u; d < params.dim; d++) {
            product += token[t * params.dim + d] * prototype[k * params.dim + d];
        }
        let logit = product * params.scale;
        cluster[first + k] = logit;
        peak = max(peak, logit);
    }
    var total = 0.0;
    for (var k = 0u; k < params.intentions; k++) {
        let share = exp(cluster[first + k] - peak);
        cluster[first + k] = share;
        total += share;
    }
    for (var k = 0u; k < params.intentions; k++) {
        cluster[first + k] /= total;
    }
}
