// Adam (see adam.wgsl) on the item rows that a step used: from `working`, where they are up to date, with the compact
// gradient of just those, back to the table and its moments.
//
// `main`: one invocation an element of the compact gradient. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::adam_rows::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    plane: u32,
    step: u32,
    rate: f32,
    correction: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> gradient: array<f32>; // [rows of all calls, dim]
@group(0) @binding(2) var<storage, read> gradient4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> working: array<f32>; // table, first and second moment: [3, plane]
@group(0) @binding(3) var<storage, read> working4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> table: array<f32>; // [items of the chunk, dim]
@group(0) @binding(4) var<storage, read_write> table4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>; // [items of the chunk, dim]
@group(0) @binding(5) var<storage, read_write> first_moment4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>; // [items of the chunk, dim]
@group(0) @binding(6) var<storage, read_write> second_moment4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> updated: array<u32>; // last step of each row, [items of the chunk]

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
    let item = items[params.first + element / params.dim] - params.base;
    let d = element % params.dim;
    let e = item * params.dim + d;
    let used = params.first * params.dim + element;
    let g = gradient[used];
    let m = BETA1 * working[params.plane + used] + (1.0 - BETA1) * g;
    let v = BETA2 * working[2u * params.plane + used] + (1.0 - BETA2) * g * g;
    first_moment[e] = m;
    second_moment[e] = v;
    table[e] = working[used] - params.rate * m / (sqrt(v) * params.correction + EPSILON);
    if d == 0u {
        updated[item] = params.step;
    }
}

const OWN = 4u; // vectors of an invocation of `serial`

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = params.dim / 4u;
    let parts = (vectors + OWN - 1u) / OWN; // of a row
    let at = (group.x + group.y * groups.x) * 8u + lane;
    if at >= params.rows * parts {
        return;
    }
    let row = params.first + at / parts;
    let part = at % parts * OWN;
    let item = items[row] - params.base;
    for (var c = part; c < min(part + OWN, vectors); c++) {
        let used = row * vectors + c;
        let e = item * vectors + c;
        let g = gradient4[used];
        let m = BETA1 * working4[params.plane / 4u + used] + (1.0 - BETA1) * g;
        let v = BETA2 * working4[params.plane / 2u + used] + (1.0 - BETA2) * g * g;
        first_moment4[e] = m;
        second_moment4[e] = v;
        table4[e] = working4[used] - params.rate * m / (sqrt(v) * params.correction + EPSILON);
    }
    if part == 0u {
        updated[item] = params.step;
    }
}
