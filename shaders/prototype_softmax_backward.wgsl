// dlogit[t, k] = scale * cluster[t, k] * (dcluster[t, k] - sum over k' of cluster[t, k'] dcluster[t, k'])
// dtoken[t] = sum over k of dlogit[t, k] prototype_k
//
// One invocation a token. Parameters: kernels::prototype_softmax_backward::Params.

struct Params {
    tokens: u32,
    dim: u32,
    intentions: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> prototype: array<f32>; // [intentions, dim]
@group(0) @binding(2) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(3) var<storage, read> dcluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read_write> dlogit: array<f32>; // [tokens, intentions]
@group(0) @binding(5) var<storage, read_write> dtoken: array<f32>; // [tokens, dim]

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
    var along = 0.0;
    for (var k = 0u; k < params.intentions; k++) {
        along += cluster[first + k] * dcluster[first + k];
    }
    for (var k = 0u; k < params.intentions; k++) {
        dlogit[first + k] = params.scale * cluster[first + k] * (dcluster[first + k] - along);
    }
    for (var d = 0u; d < params.dim; d++) {
        var sum = 0.0;
        for (var k = 0u; k < params.intentions; k++) {
            sum += dlogit[first + k] * prototype[k * params.dim + d];
        }
        dtoken[t * params.dim + d] = sum;
    }
}
