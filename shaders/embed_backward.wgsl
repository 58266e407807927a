// gradient[r, d] = sum over the tokens t that are row r of scale * mask[t, d] * dx[t, d]
//                + sum over the candidates n that are row r of dcandidates[n, d] + 2 * l2 * H[r, d]
//
// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row. A row's sources come sorted, so
// that the sum has one order. Parameters: kernels::embed_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    tokens: u32,
    scale: f32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<u32>; // [rows + 1]
@group(0) @binding(2) var<storage, read> sources: array<u32>; // token, or tokens + candidate
@group(0) @binding(3) var<storage, read> dx: array<f32>; // [tokens, dim]
@group(0) @binding(3) var<storage, read> dx4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> dcandidates: array<f32>; // [candidates, dim]
@group(0) @binding(4) var<storage, read> dcandidates4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> table: array<f32>; // [rows, dim]
@group(0) @binding(5) var<storage, read> table4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>; // [rows, dim]
@group(0) @binding(6) var<storage, read_write> gradient4: array<vec4<f32>>;

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
    if element >= params.rows * params.dim {
        return;
    }
    let row = element / params.dim;
    let d = element % params.dim;
    var sum = 2.0 * params.l2 * table[element];
    for (var i = starts[row]; i < starts[row + 1u]; i++) {
        let source = sources[i];
        if source < params.tokens {
            let at = source * params.dim + d;
            let kept = drop_factor(params.drop_below, params.drop_scale, params.drop_key, at);
            sum += params.scale * kept * dx[at];
        } else {
            sum += dcandidates[(source - params.tokens) * params.dim + d];
        }
    }
    gradient[element] = sum;
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
    if at >= params.rows * parts {
        return;
    }
    let row = at / parts;
    let part = at % parts * OWN;
    var sums: array<vec4<f32>, OWN>;
    for (var c = 0u; c < OWN; c++) {
        // A vector past the row's end is the last one, and not written.
        sums[c] = 2.0 * params.l2 * table4[row * vectors + min(part + c, vectors - 1u)];
    }
    let end = starts[row + 1u];
    for (var i = starts[row]; i < end; i++) {
        let source = sources[i];
        for (var c = 0u; c < OWN; c++) {
            let column = min(part + c, vectors - 1u);
            if source < params.tokens {
                let at_dx = source * vectors + column;
                var kept = vec4<f32>(1.0);
                if params.drop_below > 0u {
                    kept = drop_factors(4u * at_dx);
                }
                sums[c] += params.scale * kept * dx4[at_dx];
            } else {
                sums[c] += dcandidates4[(source - params.tokens) * vectors + column];
            }
        }
    }
    for (var c = 0u; c < OWN; c++) {
        if part + c < vectors {
            gradient4[row * vectors + part + c] = sums[c];
        }
    }
}
