// gradient[r, d] = sum over the tokens t that are row r of scale * mask[t, d] * dx[t, d]
//                + sum over the candidates n that are row r of dcandidates[n, d] + 2 * l2 * H[item_r, d]
//
// One invocation an element; a row's sources come sorted, so that the sum has one order.
// Parameters: kernels::embed_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    tokens: u32,
    scale: f32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> starts: array<u32>; // [rows + 1]
@group(0) @binding(3) var<storage, read> sources: array<u32>; // token, or tokens + candidate
@group(0) @binding(4) var<storage, read> dx: array<f32>; // [tokens, dim]
@group(0) @binding(5) var<storage, read> dcandidates: array<f32>; // [candidates, dim]
@group(0) @binding(6) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(7) var<storage, read_write> gradient: array<f32>; // [rows, dim]

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = (group.x + group.y * groups.x) * 256u + lane;
    if element >= params.rows * params.dim {
        return;
    }
    let row = element / params.dim;
    let d = element % params.dim;
    var sum = 2.0 * params.l2 * table[items[row] * params.dim + d];
    for (var i = starts[row]; i < starts[row + 1u]; i++) {
        let source = sources[i];
        if source < params.tokens {
            let at = source * params.dim + d;
            let kept = drop_factor(params.drop_below, params.drop_scale, params.drop_key, at);
            sum += params.scale * kept * dx[at];
        } else {
            sum += dcandidates[(source - params.tokens) * params.dim + d];
        }
    }
    gradient[element] = sum;
}
