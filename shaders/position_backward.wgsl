// gradient[s, p, d] = sum over slice s's share of the tokens t at position p of mask[t, d] * dx[t, d]
//
// `main`: one invocation an element of a slice. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::position_backward::Params.

struct Params {
    positions: u32,
    dim: u32,
    slices: u32,
    stride: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<u32>; // [positions + 1]
@group(0) @binding(2) var<storage, read> sources: array<u32>; // tokens by position
@group(0) @binding(3) var<storage, read> dx: array<f32>; // [tokens, dim]
@group(0) @binding(3) var<storage, read> dx4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>; // [slices, stride], of which [positions, dim]
@group(0) @binding(4) var<storage, read_write> gradient4: array<vec4<f32>>;

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
    let size = params.positions * params.dim;
    if element >= params.slices * size {
        return;
    }
    let slice = element / size;
    let position = element % size / params.dim;
    let d = element % params.dim; // size is a multiple of dim
    let start = starts[position];
    let end = starts[position + 1u];
    let each = (end - start + params.slices - 1u) / params.slices;
    let first = min(start + slice * each, end);
    let last = min(first + each, end);
    var sum = 0.0;
    for (var i = first; i < last; i++) {
        let at = sources[i] * params.dim + d;
        sum += drop_factor(params.drop_below, params.drop_scale, params.drop_key, at) * dx[at];
    }
    gradient[slice * params.stride + element % size] = sum;
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
    if at >= params.slices * params.positions * parts {
        return;
    }
    let part = at % parts * OWN;
    let position = at / parts % params.positions;
    let slice = at / parts / params.positions;
    let start = starts[position];
    let end = starts[position + 1u];
    let each = (end - start + params.slices - 1u) / params.slices;
    let first = min(start + slice * each, end);
    let last = min(first + each, end);
    var sums: array<vec4<f32>, OWN>;
    for (var c = 0u; c < OWN; c++) {
        sums[c] = vec4<f32>(0.0);
    }
    for (var i = first; i < last; i++) {
        let token = sources[i];
        for (var c = 0u; c < OWN; c++) {
            // A vector past the row's end is the last one, and not written.
            let source = token * vectors + min(part + c, vectors - 1u);
            var kept = vec4<f32>(1.0);
            if params.drop_below > 0u {
                kept = drop_factors(4u * source);
            }
            sums[c] += kept * dx4[source];
        }
    }
    for (var c = 0u; c < OWN; c++) {
        if part + c < vectors {
            gradient4[slice * params.stride / 4u + position * vectors + part + c] = sums[c];
        }
    }
}
