// dx = dy * mask, elementwise
//
// One invocation an element. Parameters: kernels::dropout_backward::Params.

struct Params {
    elements: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [elements]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // [elements]

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
    if element < params.elements {
        dx[element] = dy[element] * drop_factor(params.drop_below, params.drop_scale, params.drop_key, element);
    }
}
