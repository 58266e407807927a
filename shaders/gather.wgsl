// out[r] = table[item_r]
//
// One invocation an element. Parameters: kernels::gather::Params.

struct Params {
    rows: u32,
    dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, dim]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = (group.x + group.y * groups.x) * 256u + lane;
    if element < params.rows * params.dim {
        out[element] = table[items[element / params.dim] * params.dim + element % params.dim];
    }
}
