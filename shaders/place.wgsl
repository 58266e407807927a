// placed[t] = alpha[position_t] + z_t (eq. 11), query[s] = placed of s's last token + b' (eq. 12)
//
// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::place::Params.

struct Params {
    tokens: u32,
    dim: u32,
}

alias activation = f32; // kernels::activations makes it f16, and what is stored so
fn stored(x: f32) -> activation { return x; }
fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<activation>; // [tokens, dim]
@group(0) @binding(1) var<storage, read> z4: array<vec4<activation>>;
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(3) var<storage, read> owners: array<u32>; // sequence of each token
@group(0) @binding(4) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(5) var<storage, read> position_table: array<f32>; // alpha, [length, dim]
@group(0) @binding(5) var<storage, read> position_table4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> query_bias: array<f32>; // b', [dim]
@group(0) @binding(6) var<storage, read> query_bias4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> placed: array<activation>; // [tokens, dim]
@group(0) @binding(7) var<storage, read_write> placed4: array<vec4<activation>>;
@group(0) @binding(8) var<storage, read_write> query: array<f32>; // [sequences, dim]
@group(0) @binding(8) var<storage, read_write> query4: array<vec4<f32>>;

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
    let value = position_table[positions[token] * params.dim + d] + f32(z[element]);
    placed[element] = stored(value);
    let owner = owners[token];
    if token + 1u == offsets[owner + 1u] {
        query[owner * params.dim + d] = value + query_bias[d];
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
    if at >= params.tokens * parts {
        return;
    }
    let token = at / parts;
    let part = at % parts * OWN;
    let place = positions[token] * vectors;
    let owner = owners[token];
    let last = token + 1u == offsets[owner + 1u];
    for (var c = part; c < min(part + OWN, vectors); c++) {
        let value = position_table4[place + c] + vec4<f32>(z4[token * vectors + c]);
        placed4[token * vectors + c] = stored4(value);
        if last {
            query4[owner * vectors + c] = value + query_bias4[c];
        }
    }
}
