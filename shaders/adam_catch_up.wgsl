// The updates that dense Adam (see adam.wgsl) gives rows without a gradient: g = 0 in steps updated + 1 .. step; after
// LONGEST of them nothing moves any more but the moments, which are given the rest at once.
//
// One invocation an element. Parameters: kernels::adam_catch_up::Params.

struct Params {
    rows: u32,
    dim: u32,
    step: u32,
    steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> rates: array<f32>; // rate and correction of step 1, 2, ...: [steps, 2]
@group(0) @binding(3) var<storage, read> updated: array<u32>; // last step of each row, [items]
@group(0) @binding(4) var<storage, read_write> table: array<f32>; // [items, dim]
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>; // [items, dim]
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>; // [items, dim]

// Adam's constants and update, the same in all its kernels.
const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

const LONGEST = 256u;

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
    let e = item * params.dim + element % params.dim;
    var m = first_moment[e];
    var v = second_moment[e];
    var h = table[e];
    if v == 0.0 {
        return; // never had a gradient
    }
    let end = min(params.step, updated[item] + LONGEST);
    for (var step = updated[item] + 1u; step <= end; step++) {
        let at = 2u * (min(step, params.steps) - 1u);
        m = BETA1 * m;
        v = BETA2 * v;
        h -= rates[at] * m / (sqrt(v) * rates[at + 1u] + EPSILON);
    }
    if end < params.step {
        let rest = f32(params.step - end);
        m *= pow(BETA1, rest);
        v *= pow(BETA2, rest);
    }
    first_moment[e] = m;
    second_moment[e] = v;
    table[e] = h;
}
