// dplaced[t] += dquery of t's sequence where t is its last token; dz[t] (+)= dplaced[t]
//
// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::place_backward::Params.

struct Params {
    tokens: u32,
    dim: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> owners: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(3) var<storage, read> dquery: array<f32>; // [sequences, dim]
@group(0) @binding(3) var<storage, read> dquery4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dplaced: array<f32>; // [tokens, dim]
@group(0) @binding(4) var<storage, read_write> dplaced4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dz: array<f32>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> dz4: array<vec4<f32>>;

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
    if at >= params.tokens * parts {
        return;
    }
    let token = at / parts;
    let part = at % parts * OWN;
    let owner = owners[token];
    let last = token + 1u == offsets[owner + 1u];
    for (var c = part; c < min(part + OWN, vectors); c++) {
        let element = token * vectors + c;
        var value = dplaced4[element];
        if last {
            value += dquery4[owner * vectors + c];
            dplaced4[element] = value;
        }
        if params.accumulate == 1u {
            value += dz4[element];
        }
        dz4[element] = value;
    }
}
