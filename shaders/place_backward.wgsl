// dplaced[t] += dquery of t's sequence where t is its last token; dz[t] (+)= dplaced[t]
//
// One invocation an element. Parameters: kernels::place_backward::Params.

struct Params {
    tokens: u32,
    dim: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> owners: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(3) var<storage, read> dquery: array<f32>; // [sequences, dim]
@group(0) @binding(4) var<storage, read_write> dplaced: array<f32>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> dz: array<f32>; // [tokens, dim]

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
    let owner = owners[token];
    var value = dplaced[element];
    if token + 1u == offsets[owner + 1u] {
        value += dquery[owner * params.dim + element % params.dim];
        dplaced[element] = value;
    }
    if params.accumulate == 1u {
        value += dz[element];
    }
    dz[element] = value;
}
