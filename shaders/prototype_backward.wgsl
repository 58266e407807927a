// dprototype[k, d] = sum over tokens of dlogit[token, k] token[token, d]
//
// main: group (c, b) computes dimensions 16 c .. 16 c + 15 of prototypes 4 b .. 4 b + 3; 16 invocations share a dimension.
// serial: an invocation computes 4 dimensions of 4 prototypes alone.
// Parameters: kernels::prototype_backward::Params.

struct Params {
    tokens: u32,
    dim: u32,
    intentions: u32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> token: array<activation>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> dlogit: array<f32>; // [tokens, intentions]
@group(0) @binding(3) var<storage, read_write> dprototype: array<f32>; // [intentions, dim]

// Indices of four neighbours from `first` on, the last one before `end` again past it.
fn four(first: u32, end: u32) -> vec4<u32> {
    return min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(end - 1u));
}

const COLUMNS = 16u;
const LANES = 16u;
const ROWS = 4u; // that an invocation loads before it waits for any

var<workgroup> partial: array<vec4<f32>, 256>; // [lane, column], prototypes in the vector

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let column = group.x * COLUMNS + invocation % COLUMNS;
    let lane = invocation / COLUMNS;
    let k = group.y * 4u;
    let near = min(column, params.dim - 1u);
    let logit = four(k, params.intentions);
    var sum = vec4<f32>(0.0);
    for (var start = lane; start < params.tokens; start += ROWS * LANES) {
        for (var i = 0u; i < ROWS; i++) {
            // Past the end, the last row is read again and counts nothing.
            let row = min(start + i * LANES, params.tokens - 1u);
            let l = row * params.intentions + logit;
            let factors = vec4<f32>(dlogit[l.x], dlogit[l.y], dlogit[l.z], dlogit[l.w]);
            let value = select(0.0, f32(token[row * params.dim + near]), start + i * LANES < params.tokens);
            sum += factors * value;
        }
    }
    partial[invocation] = sum;
    workgroupBarrier();
    if lane == 0u && column < params.dim {
        for (var i = invocation + COLUMNS; i < COLUMNS * LANES; i += COLUMNS) {
            sum += partial[i];
        }
        for (var i = 0u; i < 4u; i++) {
            if k + i < params.intentions {
                dprototype[(k + i) * params.dim + column] = sum[i];
            }
        }
    }
}

fn finish(k: u32, column: u32, sum: vec4<f32>) {
    if k < params.intentions {
        for (var e = 0u; e < 4u; e++) {
            if column + e < params.dim {
                dprototype[k * params.dim + column + e] = sum[e];
            }
        }
    }
}

@compute @workgroup_size(8)
fn serial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let block = group.x * 8u + invocation;
    let columns = (params.dim + 3u) / 4u;
    let k = block / columns * 4u;
    let column = block % columns * 4u;
    if k >= params.intentions {
        return;
    }
    let at = four(column, params.dim);
    let logit = four(k, params.intentions);
    var sums = mat4x4<f32>(); // a column for each prototype
    for (var row = 0u; row < params.tokens; row++) {
        let t = row * params.dim + at;
        let l = row * params.intentions + logit;
        let x = vec4<f32>(f32(token[t.x]), f32(token[t.y]), f32(token[t.z]), f32(token[t.w]));
        sums += mat4x4<f32>(dlogit[l.x] * x, dlogit[l.y] * x, dlogit[l.z] * x, dlogit[l.w] * x);
    }
    finish(k, column, sums[0]);
    finish(k + 1u, column, sums[1]);
    finish(k + 2u, column, sums[2]);
    finish(k + 3u, column, sums[3]);
}
