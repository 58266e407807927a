// Adam (see adam.wgsl) on the item rows that a step used, with the compact gradient of just those.
//
// One invocation an element of the compact gradient. Parameters: kernels::adam_rows::Params.

struct Params {
    rows: u32,
    dim: u32,
    step: u32,
    rate: f32,
    correction: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> gradient: array<f32>; // [rows, dim]
@group(0) @binding(3) var<storage, read_write> table: array<f32>; // [items, dim]
@group(0) @binding(4) var<storage, read_write> first_moment: array<f32>; // [items, dim]
@group(0) @binding(5) var<storage, read_write> second_moment: array<f32>; // [items, dim]
@group(0) @binding(6) var<storage, read_write> updated: array<u32>; // last step of each row, [items]

// Adam's constants and update, the same in all its kernels.
const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

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
    let item = items[element / params.dim];
    let d = element % params.dim;
    let e = item * params.dim + d;
    let g = gradient[element];
    let m = BETA1 * first_moment[e] + (1.0 - BETA1) * g;
    let v = BETA2 * second_moment[e] + (1.0 - BETA2) * g * g;
    first_moment[e] = m;
    second_moment[e] = v;
    table[e] -= params.rate * m / (sqrt(v) * params.correction + EPSILON);
    if d == 0u {
        updated[item] = params.step;
    }
}
