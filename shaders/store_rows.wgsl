// row item_r of the table and of both moments = working[r]; updated[item_r] = step
//
// `main`: one invocation an element. `serial`: one invocation a vector of four. Parameters: kernels::store_rows::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    plane: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> working: array<f32>; // table, first and second moment: [3, plane]
@group(0) @binding(2) var<storage, read> working4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> table: array<f32>; // [items of the chunk, dim]
@group(0) @binding(3) var<storage, read_write> table4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<f32>; // [items of the chunk, dim]
@group(0) @binding(4) var<storage, read_write> first_moment4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<f32>; // [items of the chunk, dim]
@group(0) @binding(5) var<storage, read_write> second_moment4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> updated: array<u32>; // last step of each row, [items of the chunk]

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
    table[e] = working[used];
    first_moment[e] = working[params.plane + used];
    second_moment[e] = working[2u * params.plane + used];
    if d == 0u {
        updated[item] = params.step;
    }
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = params.dim / 4u;
    let at = (group.x + group.y * groups.x) * 8u + lane;
    if at >= params.rows * vectors {
        return;
    }
    let item = items[params.first + at / vectors] - params.base;
    let e = item * vectors + at % vectors;
    let used = params.first * vectors + at;
    table4[e] = working4[used];
    first_moment4[e] = working4[params.plane / 4u + used];
    second_moment4[e] = working4[params.plane / 2u + used];
    if at % vectors == 0u {
        updated[item] = params.step;
    }
}
