// updated[item_r] = step
//
// One invocation a row. Parameters: kernels::mark_updated::Params.

struct Params {
    rows: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read_write> updated: array<u32>; // [items]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.x + group.y * groups.x) * 256u + lane;
    if row < params.rows {
        updated[items[row]] = params.step;
    }
}
