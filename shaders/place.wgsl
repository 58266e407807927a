// placed[t] = alpha[position_t] + z_t (eq. 11), query[s] = placed of s's last token + b' (eq. 12)
//
// One invocation an element. Parameters: kernels::place::Params.

struct Params {
    tokens: u32,
    dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<f32>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(3) var<storage, read> owners: array<u32>; // sequence of each token
@group(0) @binding(4) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(5) var<storage, read> position_table: array<f32>; // alpha, [length, dim]
@group(0) @binding(6) var<storage, read> query_bias: array<f32>; // b', [dim]
@group(0) @binding(7) var<storage, read_write> placed: array<f32>; // [tokens, dim]
@group(0) @binding(8) var<storage, read_write> query: array<f32>; // [sequences, dim]

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
    let value = position_table[positions[token] * params.dim + d] + z[element];
    placed[element] = value;
    let owner = owners[token];
    if token + 1u == offsets[owner + 1u] {
        query[owner * params.dim + d] = value + query_bias[d];
    }
}
