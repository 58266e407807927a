// x[t, d] = dropout(scale * H[item_t, d] + P[position_t, d])
//
// One invocation an element. Parameters: kernels::embed::Params.

struct Params {
    tokens: u32,
    dim: u32,
    scale: f32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(3) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(4) var<storage, read> position_table: array<f32>; // [length, dim]
@group(0) @binding(5) var<storage, read_write> x: array<f32>; // [tokens, dim]

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
    if element >= params.tokens * params.dim {
        return;
    }
    let token = element / params.dim;
    let d = element % params.dim;
    let value = params.scale * table[items[token] * params.dim + d] + position_table[positions[token] * params.dim + d];
    x[element] = value * drop_factor(params.drop_below, params.drop_scale, params.drop_key, element);
}
