// x[t, d] = dropout(scale * H[item_t, d] + P[position_t, d])
//
// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::embed::Params.

struct Params {
    tokens: u32,
    dim: u32,
    scale: f32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

alias activation = f32; // kernels::activations makes it f16, and what is stored so
fn stored(x: f32) -> activation { return x; }
fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(3) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(3) var<storage, read> table4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> position_table: array<f32>; // [length, dim]
@group(0) @binding(4) var<storage, read> position_table4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> x: array<activation>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> x4: array<vec4<activation>>;

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

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
    let value = params.scale * table[items[token] * params.dim + d] + position_table[positions[token] * params.dim + d];
    x[element] = stored(value * drop_factor(params.drop_below, params.drop_scale, params.drop_key, element));
}

fn drop_factors(element: u32) -> vec4<f32> {
    return vec4<f32>(
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 1u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 2u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 3u),
    );
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
    let row = items[token] * vectors;
    let place = positions[token] * vectors;
    for (var c = part; c < min(part + OWN, vectors); c++) {
        var value = params.scale * table4[row + c] + position_table4[place + c];
        if params.drop_below > 0u {
            value *= drop_factors(4u * (token * vectors + c));
        }
        x4[token * vectors + c] = stored4(value);
    }
}
